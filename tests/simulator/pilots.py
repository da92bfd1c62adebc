"""Pilots of the simulator's own, so that its tests need no model."""

from __future__ import annotations

import numpy as np

from tests.simulator.flight import Answer, Fields

HULL = 0.3
"""Room that the braking pilot keeps: hull and caution [m]."""
BRAKING, REACTION = 5.0, 0.2
"""Deceleration [m/s^2] and reaction time [s] that it counts on."""
STIFFNESS = 40.0
"""Repulsion per metre of room that lacks [1/s^2]."""


def towards(fields: Fields, target: np.ndarray, speed: float = 1.5) -> np.ndarray:
    """Command (b, 3) towards ``target`` (b, 3), no faster than ``speed`` [m/s], slowing down before it."""
    offset = target - fields["position"]
    distance = np.sqrt(np.square(offset).sum(-1, keepdims=True))
    wanted = offset * np.minimum(1.0, speed / np.maximum(distance, 1e-9))
    return 3.0 * (wanted - fields["velocity"])


def blind(fields: Fields) -> Fields:
    """Straight to the goal, whatever is in the way."""
    command = towards(fields, fields["goal"])
    return {"command": command, "h": np.zeros(len(command)), "status": np.full(len(command), "nominal")}


def braking(fields: Fields) -> Fields:
    """To the goal, pushed away from the point that leaves the least room to brake (potential field)."""
    mask = fields["mask"]
    offset = np.where(mask[..., None], fields["position"][:, None] - fields["points"], 1e3)
    distance = np.sqrt(np.square(offset).sum(-1))
    away = offset / np.maximum(distance, 1e-9)[..., None]
    closing = np.maximum(0.0, -np.einsum("bni,bi->bn", away, fields["velocity"]))
    room = distance - HULL - REACTION * closing - np.square(closing) / (2.0 * BRAKING)
    row, worst = np.arange(len(room)), room.argmin(1)
    h = room[row, worst]
    push = STIFFNESS * np.maximum(0.0, -h)[:, None] * away[row, worst]
    command = towards(fields, fields["goal"]) + push
    return {"command": command, "h": h, "status": np.where(h < 0.0, "pushed", "nominal")}


def along(route: np.ndarray) -> Answer:
    """Pilot of one batch that flies by each place of ``route`` (b, k, 3) in turn, blind; it remembers the next one."""

    def answer(fields: Fields) -> Fields:
        row = np.arange(len(route))
        place = fields["memory"][:, 0].astype(int) if "memory" in fields else np.zeros(len(route), int)
        passed = np.sqrt(np.square(route[row, place] - fields["position"]).sum(-1)) < 0.25
        place = np.minimum(place + passed, route.shape[1] - 1)
        command = towards(fields, route[row, place])
        status = np.full(len(route), "nominal")
        return {"command": command, "h": np.zeros(len(route)), "status": status, "memory": place[:, None].astype(float)}

    return answer
