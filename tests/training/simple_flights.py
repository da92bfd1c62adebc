"""What stands in for the costly parts of an update: a controller without networks, and lessons without scenes."""

import jax
import jax.numpy as jnp

from drone_cbf.barrier.lessons import make_graph_lesson
from drone_cbf.controller import Decision
from drone_cbf.flights import make_flyer
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.safety.records import Status

NODES = ("relative_position", "relative_velocity", "mask", "spread")


def resting(system, families, count, strata=()):
    """Lessons in as many states at rest with nothing in sight: no scenes to draw, so nothing to compile."""
    graph = empty_graph(system.sensor)
    neighbours = min(system.sensor.neighbours, system.scene.obstacles)
    graph = graph.replace(**{name: getattr(graph, name)[:neighbours] for name in NODES})
    lesson = make_graph_lesson(system)(graph)
    return lambda key: jax.tree.map(lambda leaf: jnp.stack([leaf] * count), lesson)


def flyer_of(make_pilot):
    """Stands in for ``policy_flyer``, which would keep its program for tests that fly the real controller."""
    return lambda system, filtered, horizon: make_flyer(system, make_pilot(system), horizon)


def make_simple_pilot(system):
    """Compiles in no time and listens to every parameter of both networks."""

    def decide(params, memory, graph):
        push = sum(jnp.mean(leaf) for leaf in jax.tree.leaves((params.policy, params.barrier)))
        command = (1.0 + push) * graph.goal - graph.velocity
        zero, status = jnp.float32(0.0), jnp.int32(Status.INTERVENED)
        return memory, Decision(command=command, nominal=graph.goal, barrier=push, slack=zero, status=status)

    return decide
