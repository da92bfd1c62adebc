"""Flights of a range sensor are shown with what it read, and the barrier's slice is taken through an opening."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.api.flight_records import MOST_SEEN, flights_of
from drone_cbf.controller import ControllerParams, make_unfiltered_pilot
from drone_cbf.evaluation.scan_slice import narrowest
from drone_cbf.flights import Flown, fly_all, make_flyer
from drone_cbf.reporting.pages.viewer import ShownFlight
from projects.pictures.scans import Recorded, with_readings
from tests.perception.worlds import capsules, lidar_system, random_policy, scene_of, wall_with_window

SYSTEM = lidar_system((16, 8), {"lidar_dropout": 0.0})
FLIGHTS, STEPS, NOISE = 2, 5, 0.02
KEYS = jax.random.split(jax.random.key(0), FLIGHTS)
BALL = capsules([[1.5, 0.2, 0.0]], 0.5)
SCENES = jax.tree.map(lambda leaf: jnp.stack([leaf] * FLIGHTS), scene_of(BALL))


@pytest.fixture(scope="module")
def flown() -> Flown:
    zero = jnp.float32(0.0)
    params = ControllerParams(policy=random_policy(SYSTEM), barrier=None, margin=zero, blend=zero)
    fly = make_flyer(SYSTEM, make_unfiltered_pilot(SYSTEM), STEPS)
    return fly_all(fly, params, SCENES, jnp.full(FLIGHTS, NOISE), KEYS, lambda flown: flown)


def test_what_was_read_is_computed_again_as_the_controller_read_it(flown: Flown) -> None:
    """Every node of the first graph is one of the points, where the estimate is the first measurement."""
    (flight, other) = flights_of(SCENES, flown, SYSTEM, "flight", NOISE, keys=KEYS)
    assert flight.seen is not None and flight.seen.shape == (STEPS, 128, 3)
    graph = jax.tree.map(lambda leaf: leaf[0, 0], flown.trajectories.graphs)
    acting = np.asarray(SCENES.goal[0]) - np.asarray(graph.goal)
    nodes = (acting - np.asarray(graph.relative_position))[np.asarray(graph.mask)]
    apart = np.linalg.norm(nodes[:, None] - flight.hits(0), axis=-1).min(-1)
    assert len(nodes) > 1 and apart.max() < 1e-4
    surface = np.linalg.norm(flight.hits(0) - [1.5, 0.2, 0.0], axis=-1) - 0.5
    assert 0.0 < np.abs(surface).max() < 8.0 * NOISE, "with its errors"
    assert other.seen is not None and np.any(other.hits(0) != flight.hits(0))
    assert all(one.seen is None for one in flights_of(SCENES, flown, SYSTEM, "flight", NOISE))


def test_only_the_first_flights_of_a_page_carry_their_readings(flown: Flown) -> None:
    flights = flights_of(SCENES, flown, SYSTEM, "flight", NOISE)
    record = Recorded(flights, SCENES, flown, KEYS, SYSTEM)
    shown = with_readings([ShownFlight(flights[0])] * MOST_SEEN + [ShownFlight(flights[1])], [record])
    assert [entry.flight.seen is not None for entry in shown] == [True] * MOST_SEEN + [False]
    assert shown[-1].flight is flights[1]


@pytest.mark.parametrize("window", [(0.0, 0.0), (0.8, 0.4)])
def test_the_slice_leads_through_the_opening_of_a_wall(window: tuple[float, float]) -> None:
    middle = narrowest(scene_of(wall_with_window(3.0, window), goal=(6.0, 0.0, 0.0)))
    assert abs(middle[0] - 3.0) < 0.2 and abs(middle[2] - window[1]) < 0.7
