"""The PX4 example against a vehicle of its own on loopback, whose bytes are read without MAVLink's library."""

from __future__ import annotations

import socket
import struct
import threading
import time
from types import ModuleType, SimpleNamespace

import mlflow.pyfunc
import numpy as np
import pytest
from pymavlink.dialects.v20 import common as mavlink

import drone_cbf
from tests.perception.worlds import random_barrier, random_policy, small_system
from tests.test_examples import load

SETPOINT, COMMAND = 84, 76  # Message IDs of SET_POSITION_TARGET_LOCAL_NED and COMMAND_LONG
STATE = {"x": 3.0, "y": -2.0, "z": -5.0, "vx": 0.5, "vy": 0.25, "vz": -0.125}  # north, east, down
SCAN = {"distances": [250] * 9 + [65535] * 63, "increment": 5, "min_distance": 20, "max_distance": 1200, "frame": 12}
YAW = 0.5


def test_directions_begin_at_the_nose_and_turn_clockwise() -> None:
    example = load("px4_offboard")
    scan = SimpleNamespace(
        distances=[200, 300, 10, 5000], increment=90, increment_f=0.0, angle_offset=0.0,
        min_distance=20, max_distance=1200, frame=12,
    )  # fmt: skip
    points, seen = example.points_of(scan, np.array([1.0, 1.0, 4.0]), heading=np.pi / 2.0)  # the nose points east
    np.testing.assert_allclose(points[:2], [[3.0, 1.0, 4.0], [1.0, -2.0, 4.0]], atol=1e-12)
    assert seen.tolist() == [True, True, False, False]
    scan.frame, scan.increment_f = 0, 45.0  # from north, in steps of 45 degrees
    points, _ = example.points_of(scan, np.zeros(3), heading=1.0)
    np.testing.assert_allclose(points[1], [3.0 * np.sqrt(0.5), 3.0 * np.sqrt(0.5), 0.0], atol=1e-12)


def test_north_east_down_and_east_north_up_are_swapped_both_ways() -> None:
    swapped = load("px4_offboard").swapped
    assert swapped(np.array([1.0, 2.0, -3.0])).tolist() == [2.0, 1.0, 3.0]
    vector = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_array_equal(swapped(swapped(vector)), vector)


class Vehicle:
    """Sends what PX4 sends, from recorded values, and keeps what it receives."""

    def __init__(self, port: int, messages: int):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address, self.messages, self.received = ("127.0.0.1", port), messages, []
        self.link = mavlink.MAVLink(None, srcSystem=1, srcComponent=1)

    def fly(self) -> None:
        self.socket.settimeout(0.02)
        for count in range(self.messages):
            now = 50 * count
            for message in (
                self.link.heartbeat_encode(mavlink.MAV_TYPE_QUADROTOR, mavlink.MAV_AUTOPILOT_PX4, 0, 0, 4),
                self.link.attitude_encode(now, 0.0, 0.0, YAW, 0.0, 0.0, 0.0),
                self.link.obstacle_distance_encode(1000 * now, 0, **SCAN),
                self.link.local_position_ned_encode(now, **STATE),
            ):
                self.socket.sendto(message.pack(self.link), self.address)
            self.listen()

    def listen(self) -> None:
        try:
            while True:
                data = self.socket.recv(512)
                assert data[0] == 0xFD, "MAVLink 2"
                self.received.append((int.from_bytes(data[7:10], "little"), data[10 : 10 + data[1]].ljust(53, b"\0")))
        except TimeoutError:
            pass


def test_commands_arrive_as_accelerations_in_north_east_down(monkeypatch: pytest.MonkeyPatch) -> None:
    example, system = load("px4_offboard"), small_system()
    controller = drone_cbf.make_controller(random_policy(system), random_barrier(system))
    service, asked = drone_cbf.PolicyService(system, controller), []

    def predict(fields: dict) -> dict:
        asked.append(fields)
        return service({name: value for name, value in fields.items() if value is not None})

    points, seen = example.points_of(SimpleNamespace(**SCAN, increment_f=0, angle_offset=0), np.zeros(3), YAW)
    fields = {"position": [[-2.0, 3.0, 5.0]], "velocity": [[0.25, 0.5, 0.125]], "goal": example.GOAL[None]}
    fields |= {"points": (points + fields["position"])[None], "mask": seen[None]}
    expected = service({name: np.asarray(value) for name, value in fields.items()})  # compiles before anyone waits

    monkeypatch.setattr(mlflow.pyfunc, "load_model", lambda uri: SimpleNamespace(predict=predict))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    vehicle = Vehicle(port, messages=80)
    thread = threading.Thread(target=lambda: (time.sleep(0.5), vehicle.fly()))
    thread.start()
    example.fly(f"udpin:127.0.0.1:{port}", "models:/any/1", seconds=60.0)  # ends when the vehicle falls silent
    thread.join()
    vehicle.listen()
    vehicle.socket.close()

    check(vehicle.received, example, fields, expected, asked)


def check(received: list, example: ModuleType, fields: dict, expected: dict, asked: list[dict]) -> None:
    """What the vehicle received are the commands, and what the policy was asked is what the vehicle had sent."""
    setpoints = [struct.unpack("<I9f2fHBBB", data) for number, data in received if number == SETPOINT]
    assert len(setpoints) >= 25 and len(setpoints) == len(asked)
    first = setpoints[0]
    assert first[12] == 0b0000_1100_0011_1111 and first[15] == 1, "accelerations alone, in the local frame"
    east, north, up = np.asarray(expected["command"][0])
    np.testing.assert_allclose(first[7:10], [north, east, -up], atol=1e-4)
    for name, value in fields.items():
        np.testing.assert_allclose(asked[0][name], value, atol=1e-5)
    assert asked[0]["memory"] is None and asked[1]["memory"] is not None, "each answer remembers the last"
    commands = [struct.unpack("<7fHBBB", data[:33]) for number, data in received if number == COMMAND]
    modes = [(command[1], command[2]) for command in commands if command[7] == mavlink.MAV_CMD_DO_SET_MODE]
    assert modes[0] == (6.0, 0.0) and modes[-1] == (4.0, 3.0), "offboard, and holding the place at the end"
    interval = next(command for command in commands if command[7] == mavlink.MAV_CMD_SET_MESSAGE_INTERVAL)
    assert interval[:2] == (32.0, 50_000.0)
