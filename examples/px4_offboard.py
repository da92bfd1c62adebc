"""Fly a registered policy on PX4: its commands become acceleration setpoints of the offboard mode, by MAVLink.

The policy's world has z up and is taken as east, north, up (ENU); PX4's local frame is north, east, down (NED). In both
an acceleration of zero is hovering. Positions come from LOCAL_POSITION_NED, points from OBSTACLE_DISTANCE: 72
directions in the plane of the drone, so nothing above or below is seen. Try it in PX4's simulation first.

    pip install pymavlink==2.4.50
    python examples/px4_offboard.py udpin:0.0.0.0:14540 models:/drone-policy@champion
"""

from __future__ import annotations

import sys
import time

import mlflow
import numpy as np
from pymavlink import mavutil

GOAL = np.array([0.0, 20.0, 5.0])  # East, north, up of the place where PX4 started [m]
SILENCE = 0.5  # Without a message for so long [s] the flight ends: PX4 holds its place, or its failsafe acts
ACCELERATION_ONLY = 0b110000111111  # Type mask: position, velocity, yaw and yaw rate are ignored
FORWARD_RIGHT_DOWN = 12  # MAV_FRAME_BODY_FRD: directions of OBSTACLE_DISTANCE begin at the nose; else at north
POSITION, PERIOD = 32, 0.05  # LOCAL_POSITION_NED, and how often it is asked for: the policy's control period [s]
NEEDED = ["LOCAL_POSITION_NED", "OBSTACLE_DISTANCE", "ATTITUDE"]


def swapped(vector: np.ndarray) -> np.ndarray:
    """East, north, up from north, east, down, or the other way round."""
    return np.stack([vector[..., 1], vector[..., 0], -vector[..., 2]], -1)


def points_of(scan: object, position: np.ndarray, heading: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (72, 3) [m] that OBSTACLE_DISTANCE saw from ``position`` (both ENU) and which of them are there.

    ``heading``: clockwise from north [rad].
    """
    metres = np.array(scan.distances) / 100.0
    step = np.radians(scan.increment_f or scan.increment)
    angle = np.radians(scan.angle_offset) + step * np.arange(len(metres))
    angle = angle + (heading if scan.frame == FORWARD_RIGHT_DOWN else 0.0)
    seen = (metres >= scan.min_distance / 100.0) & (metres <= scan.max_distance / 100.0)
    return position + metres[:, None] * np.stack([np.sin(angle), np.cos(angle), 0.0 * angle], -1), seen


def fly(address: str, model_uri: str, seconds: float = 60.0) -> None:
    """Flies towards :data:`GOAL` for ``seconds``, or until PX4 falls silent; then PX4 is asked to hold its place."""
    model, memory, latest = mlflow.pyfunc.load_model(model_uri), None, {}
    link = mavutil.mavlink_connection(address)
    link.wait_heartbeat(timeout=30)
    interval = mavutil.mavlink.MAV_CMD_SET_MESSAGE_INTERVAL, 0, POSITION, PERIOD * 1e6
    link.mav.command_long_send(link.target_system, link.target_component, *interval, 0, 0, 0, 0, 0)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        message = link.recv_match(type=NEEDED, blocking=True, timeout=SILENCE if count else 30.0)
        if message is None:
            break
        latest[message.get_type()] = message
        if message.get_msgId() != POSITION or len(latest) < len(NEEDED):
            continue
        position = swapped(np.array([message.x, message.y, message.z]))
        velocity = swapped(np.array([message.vx, message.vy, message.vz]))
        points, mask = points_of(latest["OBSTACLE_DISTANCE"], position, latest["ATTITUDE"].yaw)
        fields = {"position": position, "velocity": velocity, "goal": GOAL, "points": points, "mask": mask}
        answer = model.predict({**{name: value[None] for name, value in fields.items()}, "memory": memory})
        memory, command = answer["memory"], swapped(np.asarray(answer["command"][0], float))
        link.mav.set_position_target_local_ned_send(
            message.time_boot_ms, link.target_system, link.target_component, mavutil.mavlink.MAV_FRAME_LOCAL_NED,
            ACCELERATION_ONLY, 0, 0, 0, 0, 0, 0, *command, 0, 0,
        )  # fmt: skip
        count += 1
        if count % 20 == 0:  # PX4 refuses until it has received setpoints for a second
            link.set_mode_px4("OFFBOARD", None, None)
    link.set_mode_px4("LOITER", None, None)


if __name__ == "__main__":
    fly(*sys.argv[1:3])
