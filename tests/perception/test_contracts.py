"""What every sensor and every mapper promises: a new entry of the registries is tested by being listed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import tree_all_finite
from drone_cbf.config import SensorConfig
from drone_cbf.perception.estimation import first_estimate
from drone_cbf.perception.graphs import empty_graph
from drone_cbf.perception.mapping import MAPPERS, make_mapper, make_still_view
from drone_cbf.perception.readings import OwnMotion, Reading
from drone_cbf.perception.sensor_kinds import SENSORS, make_sensor
from drone_cbf.physics.belief import acting_motion
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.physics.obstacles import obstacles_of
from tests.perception.worlds import boxes, capsules, crowd, scene_of, small_system

KINDS = sorted(SENSORS)
QUICKLY = [pytest.param(kind, marks=pytest.mark.slow if kind == "depth" else ()) for kind in KINDS]
"""Without the camera in ``make test``, whose program takes longest to compile."""
QUICK = {"xla_backend_optimization_level": 0}
"""Compile fast, run slowly."""
RAYS = {"lidar_azimuths": 16, "lidar_elevations": 8, "lidar_dropout": 0.0}
WORLD = crowd(0, count=12)
HERE, SPEED = jnp.array([0.1, -0.2, 0.3]), jnp.array([1.0, 0.5, -0.2])


def system_with(kind: str):
    return small_system(sensor=SensorConfig(kind=kind, **RAYS))


def assert_close(ours, theirs, tolerance: float) -> None:
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=tolerance), ours, theirs)


@functools.cache
def reader(kind: str):
    """(obstacles, position, level, key, step) -> reading, compiled."""
    system = system_with(kind)
    sensor = make_sensor(system)

    def read(obstacles, position, level, key, step):
        state = initial_state(position, SPEED, system.physics)
        state = state.replace(yaw=jnp.float32(0.5)) if sensor.directed else state
        errors = sensor.draw_errors(level, obstacles.active.shape[0], key)
        return sensor.read(obstacles, state, state.position, step, errors, level)

    return read, jax.jit(read, compiler_options=QUICK)


def read(kind: str, obstacles=WORLD, position=HERE, level=0.0, seed=0, step=0) -> Reading:
    given = jnp.asarray(position), jnp.float32(level), jax.random.key(seed), jnp.int32(step)
    return reader(kind)[1](obstacles, *given)


def test_every_sensor_has_a_mapper():
    assert set(SENSORS) == set(MAPPERS) == set(SensorConfig.model_fields["kind"].annotation.__args__)


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_sensor_that_says_so_has_no_errors_at_all_without_noise(kind):
    """Swarms draw no errors of such a sensor; rays that are lost, others lose without noise as well."""
    sensor = make_sensor(small_system(sensor=SensorConfig(kind=kind, **RAYS | {"lidar_dropout": 0.5})))
    draw = jax.jit(jax.vmap(lambda key: sensor.draw_errors(jnp.float32(0.0), 4, key)), compiler_options=QUICK)
    errors = draw(jax.random.split(jax.random.key(0), 8))
    without = all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(errors))
    assert sensor.exact_without_noise <= without
    assert sensor.exact_without_noise == (kind == "surfaces")


@pytest.mark.parametrize("kind", KINDS)
def test_a_reading_has_the_shapes_and_types_of_the_record_and_is_finite(kind):
    reading = read(kind, level=0.05)
    count = reading.points.shape[0]
    shapes = {"points": (count, 3), "velocity": (count, 3), "hit": (count,), "spread": (count,), "noise": ()}
    for name, shape in shapes.items():
        leaf = getattr(reading, name)
        assert leaf.shape == shape and leaf.dtype == (jnp.bool_ if name == "hit" else jnp.float32), name
    assert tree_all_finite(reading) and np.asarray(reading.hit).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_readings_is_each_reading_alone(kind):
    plain, _ = reader(kind)
    places = np.asarray(HERE) * np.float32([[1.0], [1.0], [-1.0]]) + np.float32([[0.0], [0.5], [0.0]])
    keys, steps = jax.random.split(jax.random.key(1), 3), jnp.array([0, 3, 7])
    together = jax.jit(jax.vmap(plain, in_axes=(None, 0, None, 0, 0)), compiler_options=QUICK)(
        WORLD, places, jnp.float32(0.05), keys, steps
    )
    for index in range(3):
        alone = reader(kind)[1](WORLD, places[index], jnp.float32(0.05), keys[index], steps[index])
        assert_close(jax.tree.map(lambda x, index=index: np.asarray(x)[index], together), alone, 2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_vanish_at_level_zero_and_are_those_of_the_key(kind):
    # An image has some noise at every level.
    still = [read(kind, seed=seed).replace(image=None) for seed in range(2)]
    jax.tree.map(np.testing.assert_array_equal, *still)
    exact = read(kind)
    np.testing.assert_array_equal(exact.own.position, HERE)
    np.testing.assert_array_equal(exact.own.velocity, SPEED)
    jax.tree.map(np.testing.assert_array_equal, read(kind, level=0.1, seed=3), read(kind, level=0.1, seed=3))
    noisy, other = read(kind, level=0.1, seed=3), read(kind, level=0.1, seed=4)
    for name in ("position", "velocity"):
        assert np.all(np.asarray(getattr(noisy.own, name)) != np.asarray(getattr(other.own, name)))
    assert np.any(np.asarray(noisy.points) != np.asarray(other.points))


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_seen_changes_no_reading(kind):
    """Out of range for all; behind a wall for those that see no labels."""
    near = capsules([[1.5, 0.0, 0.0]], 0.3).capsules

    def world(x, walled):
        far = capsules([[x, 0.2, 0.0]], 0.3).capsules
        both = jax.tree.map(lambda one, other: jnp.asarray(np.concatenate([one, other])), near, far)
        return obstacles_of(capsules=both, boxes=boxes([[3.0, 0.0, 0.0]], [[0.1, 9.0, 9.0]]).boxes if walled else None)

    def rows(reading):
        """What may be used of it."""
        return np.where(np.asarray(reading.hit)[:, None], np.asarray(reading.points), 0.0)

    jax.tree.map(np.testing.assert_array_equal, *(rows(read(kind, world(x, False))) for x in (20.0, 30.0)))
    if kind != "surfaces":
        jax.tree.map(np.testing.assert_array_equal, *(read(kind, world(x, True)) for x in (4.0, 6.0)))


@functools.cache
def updater(kind: str):
    """(memory, reading) -> (memory, graph), compiled, for a drone that hovers at the measured place."""
    system = system_with(kind)
    mapper, model = make_mapper(system), nominal_params(system.physics)

    def update(memory, reading):
        state = initial_state(reading.own.position, reading.own.velocity, system.physics)
        own = OwnMotion(position=state.position, velocity=state.velocity)
        estimate = first_estimate(own, state, reading.noise, system.sensor)
        motion = acting_motion(state, model, system.physics.time_step)
        return mapper.update(memory, reading, estimate, motion, jnp.array([3.0, 0.0, 0.0]), model)

    return mapper, update, jax.jit(update, compiler_options=QUICK)


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_keeps_its_structure_and_gives_the_graph_that_networks_are_made_for(kind):
    reading = read(kind, level=0.02)
    mapper, _, update = updater(kind)
    memory = mapper.start(reading.points.shape[0])
    for step in range(3):
        before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), memory)
        memory, graph = update(memory, read(kind, level=0.02, seed=step, step=step))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), memory) == before
    empty = empty_graph(system_with(kind).sensor)
    assert jax.tree.structure(graph) == jax.tree.structure(empty)
    for ours, theirs in zip(jax.tree.leaves(graph), jax.tree.leaves(empty), strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert tree_all_finite((memory, graph)) and np.asarray(graph.mask).any()


@pytest.mark.parametrize("kind", QUICKLY)
def test_a_batch_of_maps_is_each_map_alone(kind):
    mapper, plain, update = updater(kind)
    readings = [read(kind, level=0.05, seed=seed) for seed in range(2)]
    memory = mapper.start(readings[0].points.shape[0])
    memory = update(memory, read(kind, position=HERE + 0.1))[0]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *readings)
    together = jax.jit(jax.vmap(plain, in_axes=(None, 0)), compiler_options=QUICK)(memory, stacked)
    for index, reading in enumerate(readings):
        ours = jax.tree.map(lambda x, index=index: np.asarray(x)[index], together)
        assert_close(ours, update(memory, reading), 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_through_sensor_and_map_are_finite(kind):
    mapper, update, _ = updater(kind)
    plain, _ = reader(kind)

    def total(position, level):
        reading = plain(WORLD, position, level, jax.random.key(0), jnp.int32(0))
        _, graph = update(mapper.start(reading.points.shape[0]), reading)
        return sum(jnp.sum(leaf) for leaf in (graph.relative_position, graph.goal, graph.velocity, graph.drag))

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)), compiler_options=QUICK)
    for place in (HERE, WORLD.capsules.centre[0], jnp.array([50.0, 0.0, 0.0])):
        for level in (0.0, 0.1):
            assert tree_all_finite(gradient(place, jnp.float32(level)))


@pytest.mark.parametrize("kind", QUICKLY)
def test_a_sampled_state_is_seen_as_by_a_controller_that_knows_where_it_is(kind):
    system = system_with(kind)
    state = initial_state(HERE, SPEED, system.physics)
    scene = scene_of(WORLD)
    graph, motion = jax.jit(make_still_view(system), compiler_options=QUICK)(
        state, scene, jnp.float32(0.0), jax.random.key(0)
    )
    acting = jax.jit(lambda at: acting_motion(at, nominal_params(system.physics), system.physics.time_step))(state)
    np.testing.assert_allclose(motion.position, acting.position, atol=1e-6)
    np.testing.assert_allclose(graph.goal, np.asarray(scene.goal) - acting.position, atol=1e-6)
    np.testing.assert_allclose(graph.velocity, acting.velocity, atol=1e-6)
    points = np.float64(np.asarray(acting.position) - np.asarray(graph.relative_position))[np.asarray(graph.mask)]
    shapes = jax.tree.map(np.float64, WORLD.capsules)
    axis = np.repeat(shapes.centre[None], len(points), 0)
    axis[..., 2] = np.clip(points[:, None, 2], axis[..., 2] - shapes.half_height, axis[..., 2] + shapes.half_height)
    distance = (np.linalg.norm(points[:, None] - axis, axis=-1) - shapes.radius).min(-1)
    assert len(points) > 2
    # Fitted surfaces are of the expected radius where few readings say otherwise.
    assert np.abs(distance).max() < (0.2 if kind == "surfaces" else 1e-4)
