"""The boundary policy: straight to the goal, around what is in the way, out of pockets; flown in a plane of boxes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.perception.graphs import empty_graph
from drone_cbf.policy.boundary import MOVED_GOAL, faces_of, followed, no_boundary, policy_module, with_boundary
from tests.perception.worlds import small_system

LENGTH, RADIUS, SPEED, DT = 0.1, 0.065, 0.5, 0.03
SYSTEM = small_system()
SYSTEM = SYSTEM.model_copy(
    update={"sensor": SYSTEM.sensor.model_copy(update={"range": 0.5, "neighbours": 3, "length": LENGTH})}
)
EMPTY = empty_graph(SYSTEM.sensor)
WALL = [(0.5, 0.0, 0.05, 0.4)]
"""Boxes as (x, y, half sides); the goal is straight behind it."""
POCKET = [(0.5, 0.0, 0.05, 0.4), (0.3, 0.4, 0.25, 0.05), (0.3, -0.4, 0.25, 0.05)]
"""Open towards the start alone."""
START, GOAL = np.array([0.0, 0.0]), np.array([1.0, 0.02])


def graph_at(place, velocity, boxes, goal=GOAL):
    """What a drone there is given; nearest points of the boxes by clipping."""
    points = np.array([np.clip(place, [x - a, y - b], [x + a, y + b]) for x, y, a, b in boxes])
    away = np.zeros((3, 3), np.float32)
    away[: len(points), :2] = place - points
    away[len(points) :, 0] = 1e3
    return EMPTY.replace(
        relative_position=jnp.asarray(away),
        mask=jnp.asarray((np.arange(3) < len(points)) & (np.linalg.norm(away, axis=-1) < 0.5)),
        goal=jnp.asarray(np.append(goal - place, 0.0), jnp.float32),
        velocity=jnp.asarray(np.append(velocity, 0.0), jnp.float32),
    )


@jax.jit
def remember(memory, graph):
    return with_boundary(memory, graph, faces_of(graph, RADIUS, LENGTH), SPEED, DT)


def flight(boxes, choose, steps=400, goal=GOAL):
    """Places of a point that moves along the direction of ``choose(memory)``, but not into the boxes."""
    place, velocity, memory, path = START, np.zeros(2), no_boundary(), [START]
    for _ in range(steps):
        graph = graph_at(place, velocity, boxes, goal)
        memory = remember(memory, graph)
        velocity = SPEED * np.asarray(choose(memory, graph))[:2]
        for away in np.asarray(graph.relative_position)[np.asarray(graph.mask), :2]:  # walls stop what goes into them
            normal, gap = away / np.linalg.norm(away), np.linalg.norm(away) - RADIUS
            velocity = velocity - min(velocity @ normal + max(gap, 0.0) / DT, 0.0) * normal
        place = place + DT * velocity
        path.append(place)
        if np.linalg.norm(place - goal) < 0.05:
            break
    return np.array(path)


def length_of(path):
    return np.linalg.norm(np.diff(path, axis=0), axis=-1).sum()


def test_straight_to_the_goal_where_nothing_is_in_the_way():
    path = flight([(0.5, 0.6, 0.1, 0.1)], lambda memory, graph: memory.heading)
    assert length_of(path) < np.linalg.norm(GOAL - START) + 0.01


@pytest.mark.parametrize(("boxes", "most"), [(WALL, 2.2), (POCKET, 4.0)])
def test_it_gets_around_a_face_and_out_of_a_pocket_where_flying_at_the_goal_does_not(boxes, most):
    """The shortest ways are 1.4 and 2.2 m long; a boundary is followed all around at most."""
    path = flight(boxes, lambda memory, graph: memory.heading)
    assert np.linalg.norm(path[-1] - GOAL) < 0.05 and length_of(path) < most
    straight = flight(boxes, lambda memory, graph: graph.goal / np.linalg.norm(graph.goal))
    assert np.linalg.norm(straight[-1] - GOAL) > 0.4


def test_a_goal_in_front_of_a_face_is_flown_at():
    goal = np.array([0.3, 0.0])
    path = flight(WALL, lambda memory, graph: memory.heading, goal=goal)
    assert np.linalg.norm(path[-1] - goal) < 0.05 and np.abs(path[:, 1]).max() < 1e-3


def test_in_a_wedge_the_way_along_the_other_face_leads_out():
    """Along the first face it would go on into the second."""
    graph = EMPTY.replace(
        relative_position=jnp.array([[-0.08, 0.0, 0.0], [0.0, 0.08, 0.0], [1e3, 0.0, 0.0]]),
        mask=jnp.array([True, True, False]),
        goal=jnp.array([1.0, -1.0, 0.0]),
    )
    along = jax.jit(lambda side: followed(faces_of(graph, RADIUS, LENGTH), side, jnp.zeros(3)))
    out = [np.asarray(along(jnp.float32(side))) for side in (1.0, -1.0)]
    # The faces are ahead (x) and on the right (-y): out to the left along the first, or back along the second.
    ahead, right = sorted(out, key=lambda way: way[0])[::-1]
    assert ahead[1] > 0.8 and right[0] < -0.8


def test_it_turns_round_where_it_gets_no_further():
    graph = graph_at(np.array([0.38, 0.0]), np.zeros(2), WALL)
    memory, sides = no_boundary(), []
    for _ in range(120):
        memory = remember(memory, graph)
        sides.append(float(memory.side))
    assert {-1.0, 1.0} == set(sides) and 0.3 < DT * sides.index(-sides[0]) < 3.0


def test_another_goal_begins_anew():
    graph = graph_at(np.array([0.38, 0.0]), np.zeros(2), WALL)
    memory = remember(remember(no_boundary(), graph), graph)
    assert memory.side != 0.0
    away = graph.replace(goal=jnp.array([-1.1 * MOVED_GOAL * LENGTH, 0.0, 0.0]))
    assert remember(memory, away).side == 0.0


def test_where_no_obstacle_is_in_the_way_it_flies_as_the_goal_conditioned_policy():
    module = policy_module(SYSTEM)
    graph = graph_at(np.array([0.0, 0.0]), np.array([0.3, 0.1]), [(0.2, -0.4, 0.1, 0.1)])
    flight_alone = dataclasses.replace(module.flight, parent=None, name=None)

    def both(key):
        params = module.init(key, no_boundary(), graph)
        _, command = module.apply(params, no_boundary(), graph)
        return command, flight_alone.apply({"params": params["params"]["flight"]}, graph)

    command, expected = jax.jit(both, compiler_options={"xla_backend_optimization_level": 0})(jax.random.key(0))
    assert np.linalg.norm(command) > 0.1
    np.testing.assert_allclose(command, expected, rtol=1e-5, atol=1e-6)
