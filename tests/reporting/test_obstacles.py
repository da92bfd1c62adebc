"""Records of obstacles by shape, and how they are filled from a scene of the simulation."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.api.flight_records import Scene, obstacles_of
from drone_cbf.physics.obstacles import obstacles_of as simulated
from drone_cbf.physics.solids.boxes import Boxes as SimulatedBoxes
from drone_cbf.physics.solids.cylinders import Cylinders as SimulatedCylinders
from drone_cbf.physics.solids.ground import Ground
from drone_cbf.reporting.obstacles import Boxes, Capsules, Cylinders, Obstacles

from .worlds import boxes, every_shape, turned


def test_every_shape_of_a_scene_reaches_the_figures_with_its_motion():
    known = every_shape()
    as_arrays = lambda shape: {name: jnp.asarray(value) for name, value in vars(shape).items()}  # noqa: E731
    shapes = {"boxes": SimulatedBoxes(**as_arrays(known.boxes))}
    shapes["cylinders"] = SimulatedCylinders(**as_arrays(known.cylinders))
    shapes["ground"] = Ground(height=jnp.array([-0.3]), active=jnp.array([True]))
    rest = {field.name: None for field in dataclasses.fields(Scene)}
    filled = obstacles_of(Scene(**rest | {"obstacles": simulated(**shapes)}))
    for name in ("boxes", "cylinders"):
        for field, value in vars(getattr(known, name)).items():
            np.testing.assert_allclose(getattr(getattr(filled, name), field), value, rtol=1e-6, atol=1e-6)
    assert filled.capsules.table().shape == (0, 5) and np.isclose(filled.ground, -0.3)


def test_ground_that_is_not_active_is_no_ground():
    ground = Ground(height=jnp.array([1.0]), active=jnp.array([False]))
    rest = {field.name: None for field in dataclasses.fields(Scene)}
    assert obstacles_of(Scene(**rest | {"obstacles": simulated(ground=ground)})).ground is None


def test_obstacles_at_a_time_have_moved_by_velocity_times_time():
    later = every_shape().at(2.0)
    assert np.allclose(later.boxes.centre[5], [2.6, 0.0, 1.6])
    assert np.allclose(later.capsules.centre[2], [2.8, 0.8, 1.8])
    assert np.allclose(later.cylinders.centre, every_shape().cylinders.centre)


def test_scenes_are_the_same_only_if_all_shapes_motion_and_ground_are():
    one = every_shape()
    assert one.same_as(every_shape())
    unused = dataclasses.replace(one.boxes, centre=one.boxes.centre + np.array([0.0] * 6 + [1.0])[:, None])
    assert one.same_as(dataclasses.replace(one, boxes=unused)), "an unused slot does not count"
    beamless = dataclasses.replace(one, cylinders=Obstacles().cylinders)
    changed = [dataclasses.replace(one, ground=None), one.at(1.0), beamless]
    faster = dataclasses.replace(one.capsules, velocity=2.0 * one.capsules.velocity)
    for other in (*changed, dataclasses.replace(one, capsules=faster)):
        assert not one.same_as(other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dataclasses.replace(boxes(), half_size=-boxes().half_size), "half_size > 0"),
        (lambda: dataclasses.replace(boxes(), rotation=1.1 * boxes().rotation), "orthonormal"),
        (lambda: dataclasses.replace(boxes(), velocity=np.zeros((3, 3))), r"velocity has shape \(3, 3\)"),
        (lambda: Cylinders(np.zeros((1, 3)), np.zeros(1), np.zeros(1), np.ones(1), np.ones(1, bool)), "half_length"),
        (lambda: Cylinders(np.zeros((1, 3)), np.full(1, np.nan), np.ones(1), np.ones(1), np.ones(1, bool)), "finite"),
        (lambda: Capsules(np.zeros((1, 3)), np.ones(1), -np.ones(1), np.ones(1, bool)), "half_height must be >= 0"),
    ],
)
def test_shapes_that_cannot_be_drawn_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_one_velocity_may_stand_for_all():
    two = Boxes(np.zeros((2, 3)), np.ones((2, 3)), np.stack([turned(0.3)] * 2), np.ones(2, bool), np.array([1.0, 0, 0]))
    assert two.velocity.tolist() == [[1.0, 0.0, 0.0]] * 2
