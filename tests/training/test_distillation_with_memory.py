"""Distillation of a policy with memory, by a teacher of another kind that reads the same graphs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_norm
from drone_cbf.config import PolicyConfig, SensorConfig
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.policy.policies import make_policy
from drone_cbf.training.update.anchors import make_command_difference
from tests.perception.worlds import random_policy, small_system

CAMERA = SensorConfig(kind="depth")
STUDENT = small_system(sensor=CAMERA, policy=PolicyConfig(kind="recurrent_depth"))
TEACHER = small_system(sensor=CAMERA, policy=PolicyConfig(kind="steered", features=8, node_features=8))
OWN, OTHER = random_policy(STUDENT, 0), random_policy(TEACHER, 1)
FLIGHTS, STEPS = 2, 3


@pytest.fixture(scope="module")
def graphs():
    """Random flights: (flight, step)."""
    draw = np.random.default_rng(5)

    def random(leaf):
        shape = (FLIGHTS, STEPS, *leaf.shape)
        return jnp.ones(shape, bool) if leaf.dtype == bool else jnp.asarray(draw.normal(size=shape), leaf.dtype)

    return jax.tree.map(random, empty_graph(CAMERA))


def commands(system, params, graphs):
    policy = make_policy(system)
    apply, found = jax.jit(policy.apply), []
    for flight in range(FLIGHTS):
        memory = policy.memory()
        for step in range(STEPS):
            memory, command = apply(params, memory, jax.tree.map(lambda leaf: leaf[flight, step], graphs))
            found.append(np.asarray(command, np.float64))
    return np.array(found)


def test_each_flight_is_compared_with_the_memory_it_built_up(graphs):
    difference = jax.jit(make_command_difference(STUDENT, TEACHER))
    apart = commands(STUDENT, OWN, graphs) - commands(TEACHER, OTHER, graphs)
    assert difference(OWN, OTHER, graphs) == pytest.approx(np.mean(np.sum(apart**2, -1)), rel=1e-3)


def test_it_teaches_the_student_alone(graphs):
    difference = make_command_difference(STUDENT, TEACHER)
    own, other = jax.jit(jax.grad(difference, argnums=(0, 1)))(OWN, OTHER, graphs)
    assert tree_norm(own) > 0.0 and tree_norm(other) == 0.0
