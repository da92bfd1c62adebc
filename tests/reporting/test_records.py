import dataclasses

import numpy as np
import pytest

from drone_cbf.reporting.figures import geometry
from drone_cbf.reporting.obstacles import Capsules


def test_a_wrong_shape_is_refused_with_field_and_shapes(make_flight):
    flight = make_flight(steps=5)
    with pytest.raises(ValueError, match=r"command has shape \(4, 3\), expected \(5, 3\)"):
        dataclasses.replace(flight, command=flight.command[:-1])


def test_a_flight_without_steps_is_refused(make_flight):
    with pytest.raises(ValueError, match="T\\+1 >= 2 positions"):
        dataclasses.replace(make_flight(steps=5), position=np.zeros((1, 3)))


def test_a_diverged_position_is_refused_but_a_missing_barrier_is_not(make_flight):
    flight = make_flight(steps=5)
    position = flight.position.copy()
    position[3, 0] = np.nan
    with pytest.raises(ValueError, match="position must be finite; end the flight"):
        dataclasses.replace(flight, position=position)
    assert np.isnan(dataclasses.replace(flight, barrier=np.full(5, np.nan)).barrier).all()


def test_active_obstacles_must_have_a_size_and_unused_slots_need_none():
    centre, half = np.zeros((2, 3)), np.zeros(2)
    with pytest.raises(ValueError, match="radius > 0"):
        Capsules(centre, np.array([1.0, 0.0]), half, np.array([True, True]))
    unused = Capsules(centre, np.array([1.0, np.nan]), half, np.array([True, False]))
    assert unused.table().shape == (1, 5)


def test_the_filter_acts_where_it_changed_the_command(make_flight):
    flight = make_flight(steps=4)
    changed = flight.nominal + np.array([[0, 0, 0], [0.5, 0, 0], [1e-6, 0, 0], [0, -2.0, 0]])
    flight = dataclasses.replace(flight, command=changed)
    assert flight.acted.tolist() == [False, True, False, True]
    assert not dataclasses.replace(flight, filtered=False).acted.any()


def test_a_slice_needs_increasing_coordinates(barrier_slice):
    with pytest.raises(ValueError, match="x must hold at least two increasing"):
        dataclasses.replace(barrier_slice, x=barrier_slice.x[::-1])


def test_a_plane_cuts_a_sphere_in_the_circle_of_pythagoras_and_a_trunk_in_its_radius():
    rows = np.array([[0, 0, 0, 0.5, 0.0], [0, 0, 0, 0.5, 2.0], [0, 0, 5.0, 0.5, 0.0]])
    assert np.allclose(geometry.section_radius(rows, 0.3), [0.4, 0.5, 0.0])
    assert np.allclose(geometry.section_radius(rows, 0.3, grow=0.1)[0], np.sqrt(0.36 - 0.09))


def test_trunks_are_cut_flat_to_the_flown_heights_and_spheres_stay_whole():
    trunk = geometry.capsule_profile(np.array([0, 0, 0, 0.3, 8.0]), -1.0, 1.5)
    assert (trunk[0] == [-1.0, 0.0]).all() and (trunk[-1] == [1.5, 0.0]).all() and trunk[:, 1].max() == 0.3
    sphere = geometry.capsule_profile(np.array([0, 0, 3.0, 0.3, 0.0]), -1.0, 1.5)
    assert np.allclose(np.hypot(sphere[:, 0] - 3.0, sphere[:, 1]), 0.3)
    assert (np.diff(sphere[:, 0]) > 0.0).all()
    assert geometry.capsule_profile(np.array([0, 0, 20.0, 0.3, 2.0]), -1.0, 1.5) is None


def test_an_obstacle_is_cut_at_the_height_at_which_it_is_passed():
    path = np.array([[0.0, 0.0, 1.0], [5.0, 0.0, 2.0]])
    rows = np.array([[0.2, 1.0, 0, 0.3, 0.0], [4.8, 1.0, 0, 0.3, 0.0]])
    assert geometry.passing_height(rows, path).tolist() == [1.0, 2.0]
