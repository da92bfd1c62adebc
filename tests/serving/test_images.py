"""Policies that see by a camera, asked with its image: what is refused, and flights as in the evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PolicyConfig, SensorConfig
from drone_cbf.controller import ControllerParams, make_filtered_pilot
from drone_cbf.errors import ObservationError
from drone_cbf.perception import depth
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.physics.drone import initial_state
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.heading import heading_of, turned
from drone_cbf.rollout import make_rollout
from drone_cbf.scenes.families import make_scene_sampler
from drone_cbf.scenes.scene import flown_drone
from drone_cbf.serving.fields import example_observations
from drone_cbf.serving.observations import check_observations
from drone_cbf.serving.service import PolicyService
from tests.perception.worlds import few_obstacles, random_barrier, random_policy, small_system
from tests.serving.services import with_params

ROWS, COLUMNS = 12, 16
SYSTEM = small_system(
    sensor=SensorConfig(kind="depth", depth_width=COLUMNS, depth_height=ROWS),
    policy=PolicyConfig(kind="recurrent_depth"),
    scene=few_obstacles(6),
)
STEPS = 20
ROUNDING = 2e-3
"""As in flown.py."""


PARAMS = ControllerParams(
    policy=random_policy(SYSTEM), barrier=random_barrier(SYSTEM), margin=jnp.float32(0.0), blend=jnp.float32(0.0)
)


@pytest.fixture(scope="module")
def service():
    """Compiled once for single images, as it is when loaded."""
    loaded = PolicyService(SYSTEM, PARAMS)
    loaded.warm_up()
    return loaded


def asked(**changes):
    return example_observations((ROWS, COLUMNS)) | changes


def test_an_image_is_taken_in_place_of_points():
    request = check_observations(asked(), 2, (ROWS, COLUMNS))
    assert request.image.shape == (1, ROWS, COLUMNS) and request.yaw.shape == (1,)
    assert request.mask.shape == (1, 0) and request.points.shape == (1, 0, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"points": np.zeros((1, 2, 3))},
            "points is not what this policy sees by; remove it, and send position, .* image",
        ),
        ({"yaw": None}, "yaw is null"),
        ({"image": np.ones((1, ROWS, 9))}, r"image has shape \(1, 12, 9\), expected \(1, 12, 16\)"),
        ({"image": np.ones((ROWS, COLUMNS))}, r"send one observation as \[\[\["),
        ({"image": np.full((1, ROWS, COLUMNS), -1.0)}, "image holds -1.0, expected at least 0"),
        ({"image": np.full((1, ROWS, COLUMNS), np.nan)}, r"image\[0, 0, 0\] = nan is not finite.*between 0 and 1e"),
        ({"yaw": np.array([1e9])}, "yaw.* is out of range"),
    ],
)
def test_a_wrong_request_is_refused_by_name(changes, message):
    with pytest.raises(ObservationError, match=message):
        check_observations(asked(**changes), 2, (ROWS, COLUMNS))


@pytest.mark.parametrize("name", ["image", "yaw"])
def test_a_policy_that_sees_points_refuses_an_image(name):
    with pytest.raises(ObservationError, match=f"{name} is not what this policy sees by; .* mask"):
        check_observations({**example_observations(), name: asked()[name]}, 2)


def test_the_pixels_of_an_image_are_those_of_the_rays():
    """Of an image that holds how far to the left and up each pixel looks."""
    factor = 3
    rays = depth.pixel_rays(factor)
    columns = 1.0 - (2.0 * np.arange(16 * factor) + 1.0) / (16 * factor)
    rows = 1.0 - (2.0 * np.arange(12 * factor) + 1.0) / (12 * factor)
    left, up = (
        depth.by_pooled_pixel(jnp.broadcast_to(jnp.asarray(each, jnp.float32), (12 * factor, 16 * factor)))
        for each in (depth.HALF_WIDTH * columns, depth.HALF_HEIGHT * rows[:, None])
    )
    np.testing.assert_allclose(left, rays[..., 1], atol=1e-6)
    np.testing.assert_allclose(up, rays[..., 2], atol=1e-6)


def test_after_loading_no_image_compiles_anything_whatever_else_is_sent(service):
    first = service(asked())
    more = {"noise": [0.1], "thrust": np.zeros((1, 3)), "queue": np.zeros((1, 2, 3)), "memory": first["memory"]}
    service(asked(image=np.zeros((1, ROWS, COLUMNS), int), yaw=[1], **more))
    assert service._compiled._cache_size() == 1


def test_a_batch_of_images_beyond_the_largest_is_answered_row_by_row(service, monkeypatch):
    """One image may be larger than a call is meant to be: 640 by 480 pixels are."""
    monkeypatch.setattr("drone_cbf.serving.service.LARGEST_CALL", 1)
    images, yaws = np.stack([np.full((ROWS, COLUMNS), depth) for depth in (1.0, 4.0, 1e3)]), np.array([0.0, 0.5, -0.1])
    three = {name: np.repeat(values, 3, axis=0) for name, values in asked().items()}
    together = service({**three, "image": images, "yaw": yaws})
    for row in range(3):
        alone = service(asked(image=images[row : row + 1], yaw=yaws[row : row + 1]))
        for name in ("command", "h", "look", "memory"):
            np.testing.assert_array_equal(together[name][row], alone[name][0], err_msg=name)
    assert together["h"][0] < together["h"][2]


def test_a_policy_that_is_not_finite_brakes_and_turns_nowhere(service):
    broken = with_params(service, PARAMS.replace(policy=jax.tree.map(lambda leaf: leaf * jnp.nan, PARAMS.policy)))
    answer = broken(asked())
    assert answer["status"][0] in ("fallback", "unavoidable") and answer["command"][0, 0] < 0.0
    assert all(np.isfinite(answer[name]).all() for name in ("command", "nominal_command", "h", "look", "memory"))


def test_a_flight_by_images_is_that_of_the_evaluation(service, monkeypatch):
    monkeypatch.setattr(depth, "IMAGE_NOISE", 0.0)
    scene = make_scene_sampler("random_cloud", "random", SYSTEM.scene)(jax.random.key(3))
    scene = scene.replace(gust=jnp.zeros(3))
    rollout = make_rollout(SYSTEM, make_filtered_pilot(SYSTEM), STEPS)
    flown = jax.jit(rollout)(PARAMS, scene, jnp.float32(0.0), jax.random.key(5))
    answers = by_images(service, scene)
    for name, expected in (("command", flown.decisions.command), ("look", flown.decisions.look)):
        served = np.concatenate([answer[name] for answer in answers])
        np.testing.assert_allclose(served, expected, atol=ROUNDING, rtol=ROUNDING, err_msg=name)
    assert np.ptp(np.asarray(flown.states.yaw)) > 0.01, "the camera turned"


def by_images(answer, scene):
    """Answers along a flight; the image is what the camera reported, in metres."""
    sensor, drone, dynamics = make_sensor(SYSTEM), flown_drone(scene, SYSTEM.physics), make_dynamics(SYSTEM.physics)
    slots, zero = scene.obstacles.active.shape[0], jnp.float32(0.0)
    errors = sensor.draw_errors(zero, slots, jax.random.key(0))
    read = jax.jit(lambda state, index: sensor.read(scene.obstacles, state, state.position, index, errors, zero))
    state = initial_state(scene.start, scene.start_velocity, SYSTEM.physics)
    state, memory, answers = state.replace(yaw=heading_of(scene.goal - scene.start)), None, []
    for index in range(STEPS):
        reading = read(state, jnp.int32(index))
        pixels = np.where(np.asarray(reading.hit).reshape(ROWS, COLUMNS), 3.0 / (np.asarray(reading.image) + 0.6), 1e3)
        own = {"position": state.position, "velocity": state.velocity, "goal": scene.goal, "yaw": state.yaw}
        fields = {name: np.asarray(value)[None] for name, value in {**own, "image": pixels}.items()}
        answers.append(answer(fields if memory is None else {**fields, "memory": memory}))
        memory = answers[-1]["memory"]
        command, look = (jnp.asarray(answers[-1][name][0], jnp.float32) for name in ("command", "look"))
        state = turned(dynamics.step(state, command, drone.replace(wind=scene.wind)), look, SYSTEM.physics)
    return answers
