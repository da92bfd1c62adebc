"""Decisions of many drones at once are those that each would take alone on its whole graph."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.controller import ControllerParams, make_filtered_pilot, make_unfiltered_pilot
from drone_cbf.crowd import AT_ONCE, FEW, make_sparing
from drone_cbf.perception.few_nodes import Room, has_room, narrowed
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.perception.others import with_nodes
from tests.perception.worlds import random_barrier, random_policy
from tests.swarms import swarm_system
from tests.test_swarm import BARRIER, QUICK

SURFACES, DRONES = 4, 5
SYSTEM = swarm_system(6, barrier=BARRIER)
PARAMS = ControllerParams(
    policy=random_policy(SYSTEM), barrier=random_barrier(SYSTEM), margin=jnp.float32(0.0), blend=jnp.float32(1.0)
)
BATCH = (4, 10)
"""Swarms, and drones in each."""
ROUNDING = 1e-5
"""[m/s^2]: the same sums over fewer terms."""
assert BATCH[0] * BATCH[1] > AT_ONCE


def graph_of(key, seen):
    """A graph whose nodes are at random places; ``seen``: which of them are."""
    place, speed, own, goal = jax.random.split(key, 4)
    count = SURFACES + DRONES
    position = 0.25 * jax.random.normal(place, (count, 3))
    velocity = 0.4 * jax.random.normal(speed, (count, 3))
    alone = empty_graph(SYSTEM.sensor).replace(
        relative_position=position[:SURFACES],
        relative_velocity=velocity[:SURFACES],
        mask=seen[:SURFACES],
        spread=jnp.full(SURFACES, 0.01),
        velocity=0.4 * jax.random.normal(own, (3,)),
        goal=jax.random.normal(goal, (3,)),
    )
    others = (position[SURFACES:], velocity[SURFACES:], seen[SURFACES:], jnp.full(DRONES, 0.01))
    return with_nodes(alone, *others)


@functools.cache
def crowd():
    """Graphs of drones that see nothing, a few nodes, or all of them."""
    count = BATCH[0] * BATCH[1]
    share = np.linspace(0.0, 1.0, count)[:, None]
    seen = np.random.default_rng(1).uniform(size=(count, SURFACES + DRONES)) < share**2
    graphs = jax.vmap(graph_of)(jax.random.split(jax.random.key(0), count), jnp.asarray(seen))
    return jax.tree.map(lambda leaf: leaf.reshape(*BATCH, *leaf.shape[1:]), graphs)


def decisions(pilot):
    def decide(params, graphs):
        return jax.vmap(jax.vmap(lambda graph: pilot(params, (), graph)[1]))(graphs)

    return jax.jit(decide, compiler_options=QUICK)(PARAMS, crowd())


@pytest.mark.parametrize("make", [make_unfiltered_pilot, pytest.param(make_filtered_pilot, marks=pytest.mark.slow)])
def test_every_drone_decides_as_on_its_whole_graph(make):
    pilot = make(SYSTEM)
    ours, alone = decisions(make_sparing(pilot)), decisions(pilot)
    fits = np.asarray(jax.vmap(jax.vmap(lambda graph: has_room(graph, FEW)))(crowd()))
    assert 5 < fits.sum() < fits.size - AT_ONCE  # both kinds, and more than one block of the others
    assert len(np.unique(alone.status)) > 1 or make is make_unfiltered_pilot
    np.testing.assert_array_equal(ours.status, alone.status)
    for name in ("command", "nominal", "slack", "barrier"):
        np.testing.assert_allclose(getattr(ours, name), getattr(alone, name), atol=ROUNDING, rtol=1e-5)


@pytest.mark.parametrize("again", [False, True])
def test_derivatives_are_those_of_the_pilot(again):
    """Of a pilot that is quickly compiled and in part constant, in a scan that may compute its steps again."""

    def pilot(params, memory, graph):
        near = jnp.where(graph.mask[:, None], jnp.exp(-(graph.relative_position**2)), 0.0)
        command = jnp.tanh(params * jnp.sum(near, 0) + graph.goal)
        return memory, {"command": command, "slack": jnp.float32(0.5), "status": jnp.int32(1)}

    graphs = crowd()

    def loss(decide):
        def of_swarm(params, graphs):
            def step(goal, _):
                found = jax.vmap(lambda graph: decide(params, (), graph)[1])(graphs.replace(goal=goal))
                return goal + 0.1 * found["command"], found

            goal, found = jax.lax.scan(jax.checkpoint(step) if again else step, graphs.goal, None, length=3)
            return jnp.sum(goal**2) + jnp.sum(found["slack"] * jnp.sum(found["command"], -1))

        def total(params, goal):
            return jnp.sum(jax.vmap(of_swarm, in_axes=(None, 0))(params, graphs.replace(goal=goal)))

        return jax.jit(jax.grad(total, argnums=(0, 1)))(jnp.float32(0.7), graphs.goal)

    for ours, alone in zip(loss(make_sparing(pilot)), loss(pilot), strict=True):
        np.testing.assert_allclose(ours, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("seen", "fits"),
    [
        ("0000 00000", True),
        ("0110 00000", True),
        ("0001 00001", True),
        ("0100 01001", True),
        ("0110 01001", False),  # no slot would stay empty
        ("1011 00000", False),
        ("0000 11001", False),
    ],
)
def test_a_narrow_graph_has_the_nodes_that_are_seen_in_their_order(seen, fits):
    mask = np.array([mark == "1" for mark in seen.replace(" ", "")])
    graph = graph_of(jax.random.key(3), jnp.asarray(mask))
    assert bool(has_room(graph, Room(2, 2))) == fits
    if not fits:
        return
    narrow = narrowed(graph, Room(2, 2))
    assert narrow.drones == 2
    for part, whole in ((slice(0, 2), slice(0, SURFACES)), (slice(2, 4), slice(SURFACES, None))):
        kept, had = np.asarray(narrow.mask[part]), mask[whole]
        assert kept.sum() == had.sum()
        assert np.all(np.diff(kept.astype(int)) <= 0)  # first those that are seen
        for name in ("relative_position", "relative_velocity", "spread"):
            ours, all_ = (np.asarray(getattr(one, name)) for one in (narrow, graph))
            np.testing.assert_array_equal(ours[part][kept], all_[whole][had])
