"""The served controller decides as the controller of the rollout does, whatever the batch looks like."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.controller import ControllerParams, Decision, make_controller, make_filtered_pilot
from drone_cbf.perception.readings import OwnMotion, Reading
from drone_cbf.physics.drone import DroneState, initial_state
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.safety.records import Status
from drone_cbf.serving.controller import STATUS_NAMES
from drone_cbf.serving.fields import example_observations
from drone_cbf.serving.service import CLOUD_SIZES, PolicyService
from tests.serving.controllers import averaging_controller
from tests.serving.services import ANALYTIC, LIMIT, NEURAL, SYSTEM, lidar_service, with_params

# Two ways through float32 (batched and not) differ by rounding, which the filter's division by its row may enlarge.
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture
def service() -> PolicyService:
    return lidar_service()


def world(seed: int) -> tuple[Reading, DroneState, jax.Array]:
    """Twelve points around a flying drone whose rotors and queue are busy, and its goal."""
    rng = np.random.default_rng(seed)
    zero = jnp.zeros(3, jnp.float32)
    drone = initial_state(zero, jnp.asarray(2.0 * rng.normal(size=3), jnp.float32), SYSTEM.physics)
    queue = jnp.asarray(rng.normal(size=drone.queue.shape), jnp.float32)
    drone = drone.replace(thrust=jnp.asarray(rng.normal(size=3), jnp.float32), queue=queue)
    reading = Reading(
        own=OwnMotion(position=drone.position, velocity=drone.velocity),
        noise=jnp.float32(0.0),
        points=jnp.asarray(rng.uniform(-2.0, 2.0, (12, 3)), jnp.float32),
        velocity=jnp.asarray(rng.normal(size=(12, 3)), jnp.float32),
        hit=jnp.asarray(rng.random(12) < 0.9),
        spread=jnp.asarray(rng.uniform(0.0, 0.1, 12), jnp.float32),
        blind=jnp.bool_(False),
    )
    return reading, drone, jnp.asarray(rng.uniform(-5.0, 5.0, 3), jnp.float32)


@jax.jit
def own_decision(params: ControllerParams, reading: Reading, drone: DroneState, goal: jax.Array) -> Decision:
    """What the controller of the rollout decides on its first reading when it knows the drone's thrust and queue."""
    controller = make_controller(SYSTEM, make_filtered_pilot(SYSTEM))
    memory = controller.start(12)
    motion = memory.motion.replace(drone=memory.motion.drone.replace(thrust=drone.thrust, queue=drone.queue))
    return controller.step(params, memory.replace(motion=motion), reading, goal)[1]


def observed(seeds: range) -> tuple[list[Decision], dict[str, np.ndarray]]:
    """What the controller decides in those worlds, and the worlds as one batch of raw observations."""
    decisions, rows = [], []
    for seed in seeds:
        reading, drone, goal = world(seed)
        decisions.append(own_decision(NEURAL, reading, drone, goal))
        own = {name: getattr(drone, name) for name in ("position", "velocity", "thrust", "queue")}
        given = {"points": reading.points, "mask": reading.hit, "point_velocities": reading.velocity}
        rows.append({**own, **given, "point_spread": reading.spread, "goal": goal})
    return decisions, {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}


def test_the_answer_is_the_controllers_own_decision(service: PolicyService) -> None:
    decisions, batch = observed(range(6))
    answer = service(batch)
    for name, field in (("command", "command"), ("nominal_command", "nominal"), ("h", "barrier")):
        np.testing.assert_allclose(answer[name], [np.asarray(getattr(d, field)) for d in decisions], **ROUNDING)
    assert list(answer["status"]) == [Status(int(d.status)).name.lower() for d in decisions]
    assert len(set(answer["status"])) > 1, "the worlds make the filter act in some and not in others"


def test_a_batch_is_answered_row_by_row_and_the_order_of_points_does_not_matter(service: PolicyService) -> None:
    _, batch = observed(range(5))
    together = service(batch)
    for row in range(5):
        alone = {name: values[row : row + 1] for name, values in batch.items()}
        alone |= {name: alone[name][:, ::-1] for name in ("points", "mask", "point_velocities", "point_spread")}
        np.testing.assert_allclose(service(alone)["command"][0], together["command"][row], **ROUNDING)


def test_points_out_of_range_or_masked_out_change_nothing(service: PolicyService) -> None:
    _, batch = observed(range(2))
    before = service(batch)["command"]
    far, junk = np.full((2, 3, 3), 1e4), np.full((2, 2, 3), np.nan)
    more = {**batch, "points": np.concatenate([batch["points"], far, junk], 1)}
    more["mask"] = np.concatenate([batch["mask"], np.ones((2, 3), bool), np.zeros((2, 2), bool)], 1)
    more["point_spread"] = np.concatenate([batch["point_spread"], far[..., 0], junk[..., 0]], 1)
    more["point_velocities"] = np.concatenate([batch["point_velocities"], 0.0 * far, junk], 1)
    np.testing.assert_allclose(service(more)["command"], before, **ROUNDING)


def test_a_drone_that_doubts_its_points_keeps_more_room(service: PolicyService) -> None:
    """Flying at a surface: the doubtful one is braked for harder."""
    service = with_params(service, ANALYTIC)
    sure = {**example_observations(), "point_spread": np.zeros((1, 2))}
    doubtful = {**sure, "point_spread": np.full((1, 2), 0.05)}
    commands = [float(service(given)["command"][0, 0]) for given in (example_observations(), sure, doubtful)]
    assert commands[0] == commands[1] > commands[2]


@pytest.mark.parametrize("points", [0, 5])
def test_without_any_point_the_drone_brakes_and_says_so(service: PolicyService, points: int) -> None:
    velocity = np.array([[3.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.05, 0.0, -0.02]])
    three = np.zeros((3, 3))
    cloud = {"points": np.zeros((3, points, 3)), "mask": np.zeros((3, points), bool)}
    answer = service({"position": three, "velocity": velocity, "goal": three + 5.0, **cloud})
    assert list(answer["status"]) == ["no_points"] * 3 and not answer["h"].any()
    assert np.all(answer["command"] * velocity <= 0.0) and np.all(np.abs(answer["command"]) <= LIMIT)
    np.testing.assert_array_equal(answer["command"][0], [-LIMIT[0], LIMIT[1], 0.0])
    np.testing.assert_array_equal(answer["command"][1], np.zeros(3))


def test_a_scan_that_meets_nothing_is_open_space_and_no_scan_at_all_is_blindness(service: PolicyService) -> None:
    """For the controller of the rollout and when served; there a ray without a return is a point out of range."""
    reading, drone, goal = world(0)
    free = reading.replace(hit=jnp.zeros(12, bool))
    _, batch = observed(range(1))
    away = {**batch, "points": np.full((1, 1, 3), 1e3), "mask": np.ones((1, 1), bool)}
    away = {name: value for name, value in away.items() if name not in ("point_velocities", "point_spread")}
    for is_blind in (False, True):
        decision = own_decision(NEURAL, free.replace(blind=jnp.bool_(is_blind)), drone, goal)
        answer = service({**away, "mask": np.full((1, 1), not is_blind)})
        np.testing.assert_allclose(answer["command"][0], decision.command, **ROUNDING)
        assert answer["status"][0] == Status(int(decision.status)).name.lower()
        assert (answer["status"][0] == "no_points") == is_blind


def test_towards_a_wall_the_analytic_barrier_brakes_whatever_the_policy_wants(service: PolicyService) -> None:
    answer = with_params(service, ANALYTIC)(example_observations())
    assert answer["status"][0] in ("intervened", "relaxed")
    assert answer["command"][0, 0] < -1.0 and answer["h"][0] < 0.6


def test_a_network_that_is_not_finite_makes_the_drone_brake_and_no_answer_is_nan(service: PolicyService) -> None:
    broken = NEURAL.replace(barrier=jax.tree.map(lambda leaf: leaf * jnp.nan, NEURAL.barrier))
    answer = with_params(service, broken)(example_observations())
    assert answer["status"][0] == "fallback" and answer["command"][0, 0] == -LIMIT[0] and answer["h"][0] == 0.0
    assert all(np.isfinite(answer[name]).all() for name in ("command", "nominal_command", "h"))


def test_batches_of_many_sizes_share_a_few_compiled_programs() -> None:
    service = PolicyService(SYSTEM, NEURAL, averaging_controller())
    example: dict[str, Any] = example_observations()
    for count in range(1, 9):
        for points in (2, 7, 8):
            batch = {name: np.repeat(values, count, axis=0) for name, values in example.items()}
            batch["points"] = np.resize(batch["points"], (count, points, 3))
            batch["mask"] = np.ones((count, points), bool)
            assert service(batch)["command"].shape == (count, 3)
    assert service._compiled._cache_size() == 4, "batches of 1, 2, 4, 8; points of one size"


def test_a_batch_beyond_the_largest_is_computed_in_parts(
    service: PolicyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, batch = observed(range(5))
    whole = service(batch)
    monkeypatch.setattr("drone_cbf.serving.service.LARGEST_CALL", 2 * CLOUD_SIZES[0])
    parts = service(batch)
    np.testing.assert_allclose(parts["command"], whole["command"], **ROUNDING)
    assert list(parts["status"]) == list(whole["status"])


def test_after_loading_no_number_of_points_compiles_anything(service: PolicyService) -> None:
    service.warm_up()
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    example = example_observations()
    rng = np.random.default_rng(0)
    memory = None
    for points in (0, 1, 511, 513, 2000, 2049, 9000):
        cloud = {"points": rng.uniform(1.0, 9.0, (1, points, 3)), "mask": np.ones((1, points), bool)}
        memory = service({**example, **cloud, "memory": memory})["memory"]
    assert not [event for event in compiled if "compile" in event or "trace" in event]
    jax.jit(lambda x: x + 1.0)(1.0)
    assert [event for event in compiled if "trace" in event], "the listener hears what is compiled"


def test_a_cloud_of_any_size_is_answered_as_its_nearest_points_are(service: PolicyService) -> None:
    """Far points in every direction, beyond the sensing radius, push a large cloud through the thinning."""
    _, batch = observed(range(1))
    far = np.random.default_rng(0).normal(size=(1, 4000, 3))
    far *= 100.0 / np.linalg.norm(far, axis=-1, keepdims=True)
    grown = dict(batch)
    for name, more in (("points", far), ("mask", far[..., 0] < 9e9), ("point_velocities", 0.0 * far)):
        grown[name] = np.concatenate([more, batch[name]], axis=1)
    grown["point_spread"] = np.concatenate([0.0 * far[..., 0], batch["point_spread"]], axis=1)
    np.testing.assert_allclose(service(grown)["command"], service(batch)["command"], **ROUNDING)


def test_a_doubtful_position_is_as_a_doubtful_point_and_more(service: PolicyService) -> None:
    """Two independent errors of 0.03 and 0.04 m make 0.05 m of the point; the position itself is in doubt too."""
    service = with_params(service, ANALYTIC)
    points = {**example_observations(), "point_spread": np.full((1, 2), 0.05)}
    both = {**example_observations(), "point_spread": np.full((1, 2), 0.03), "noise": np.array([0.04])}
    exact, alone, together = (service(given)["command"][0, 0] for given in (example_observations(), points, both))
    assert together == pytest.approx(alone, abs=0.05) and alone < exact


def test_what_the_caller_knows_of_rotors_and_commands_replaces_what_is_believed(service: PolicyService) -> None:
    """Otherwise the memory holds the answers as sent: telling the same changes nothing, telling others does."""
    service = with_params(service, ANALYTIC)
    first = service(example_observations())
    memory = {**example_observations(), "memory": first["memory"]}
    told = {**memory, "queue": np.stack([first["command"], np.zeros((1, 3))], axis=1)}
    believed = service(memory)
    np.testing.assert_allclose(service(told)["command"], believed["command"], **ROUNDING)
    braking = service({**memory, "thrust": np.array([[-9.0, 0.0, 0.0]])})
    assert braking["h"][0] > believed["h"][0] + 0.1, "rotors that brake already leave more room"


def test_a_blind_drone_remembers_its_own_braking_and_what_it_saw(service: PolicyService) -> None:
    service = with_params(service, ANALYTIC)
    first = service({**example_observations(), "points": np.full((1, 1, 3), 30.0), "mask": np.ones((1, 1), bool)})
    blind = {**example_observations(), "points": np.zeros((1, 0, 3)), "mask": np.zeros((1, 0), bool)}
    second = service({**blind, "memory": first["memory"]})
    told = np.stack([second["command"], first["command"]], axis=1)
    third = {**example_observations(), "memory": second["memory"]}
    assert second["status"][0] == "no_points" and second["command"][0, 0] == -LIMIT[0]
    np.testing.assert_allclose(service({**third, "queue": told})["h"], service(third)["h"], **ROUNDING)
    shown = service(example_observations())["memory"]
    hidden = {**blind, "velocity": np.zeros((1, 3)), "goal": np.array([[0.0, 0.0, 1.0]])}
    for _ in range(2):
        shown = service({**hidden, "memory": shown})["memory"]
    far = {**example_observations(), "points": np.full((1, 1, 3), 30.0), "mask": np.ones((1, 1), bool)}
    remembering = service({**far, "memory": shown})
    assert remembering["h"][0] < 1.0 < service(far)["h"][0], "0.15 s later the point is remembered"


def test_the_same_flight_far_from_the_origin_gives_the_same_commands(service: PolicyService) -> None:
    """Positions of UTM size: in float32 they would be rounded to half a metre."""
    _, batch = observed(range(4))
    for name in ("position", "goal", "points"):
        batch[name] = batch[name].astype(np.float64)
    far = {**batch, **{name: batch[name] + [4e5, 5e6, 300.0] for name in ("position", "goal", "points")}}
    near, moved = service(batch), service(far)
    for step in range(3):
        for name in ("command", "nominal_command", "h"):
            np.testing.assert_allclose(moved[name], near[name], **ROUNDING, err_msg=f"{name} of step {step}")
        for fields in (batch, far):
            fields["position"] = fields["position"] + 0.05 * fields["velocity"]
        near, moved = (service({**f, "memory": a["memory"]}) for f, a in ((batch, near), (far, moved)))


def test_an_origin_that_moves_along_takes_everything_remembered_with_it(
    service: PolicyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In view of a point only at first: later commands depend on the remembered one and on the estimate."""
    service = with_params(service, ANALYTIC)

    def fly() -> list[np.ndarray]:
        memory, commands = None, []
        for index in range(4):
            seen = {**example_observations(), "position": np.array([[0.15 * index, 0.0, 1.0]])}
            if index:
                seen |= {"points": np.full((1, 1, 3), 90.0), "mask": np.ones((1, 1), bool), "memory": memory}
            given = service(seen)
            memory = given["memory"]
            commands.append(given["command"][0])
        return commands

    still = fly()
    monkeypatch.setattr("drone_cbf.serving.service.ANCHOR_REACH", 0.0)
    np.testing.assert_allclose(fly(), still, **ROUNDING)
    assert still[-1][0] < -5.0, "the point is remembered"


def test_every_status_of_the_filter_has_a_word() -> None:
    assert [STATUS_NAMES[status] for status in Status] == [status.name.lower() for status in Status]
    assert make_dynamics(SYSTEM.physics).queue == 2
