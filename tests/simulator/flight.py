"""Closed loop: scans to a pilot, its commands to the drone, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tests.simulator.drone import Drone, Motion, fly_period, hovering
from tests.simulator.scanning import Scanner, profile
from tests.simulator.worlds import Worlds

Fields = Mapping[str, Any]
Answer = Callable[[Fields], Fields]
"""Pilot: one scan of each of ``b`` flights to a command each.

Takes ``position``, ``velocity``, ``goal`` (b, 3), ``points`` (b, n, 3), all in the world frame, ``mask`` (b, n), true
for points that are seen, ``noise`` (b,), the standard deviation of a point's distance [m], and, from the second step
on, ``memory`` as answered before. Returns ``command`` (b, 3) [m/s^2], ``h`` and ``status`` (b,), and ``memory``
(b, m); a pilot without memory leaves it out.
"""
NEAR, SLOW, FOR = 0.2, 0.2, 1.0
"""A flight has reached its goal if it is nearer than this [m] and slower than this [m/s] for its last second [s]."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of ``w`` flights."""

    collided: np.ndarray  # (w,) The hull touched a solid; the flight ends there
    reached: np.ndarray  # (w,) At rest at the goal for the last second, without a collision
    smallest_clearance: np.ndarray  # (w,) Smallest distance between hull and solids [m]; at most 0 after a collision
    path: np.ndarray  # (w, steps + 1, 3) Position whenever a command was sent, and at the end [m]


def fly(
    worlds: Worlds, answer: Answer, steps: int, noise: float = 0.0, seed: int = 0, *, dropout: float = 0.0,
    drone: Drone | None = None, scanner: Scanner | None = None, batch: int = 256,
) -> Outcome:  # fmt: skip
    """Flies ``steps`` periods in each world, ``batch`` worlds at a time, from rest at the start.

    ``noise`` [m] and ``dropout`` are those of :meth:`Scanner.scan`, drawn from ``seed``.

    Raises:
        ValueError: the pilot's answer lacks a field, has a wrong shape, or a command that is not finite.
    """
    drone, scanner = drone or Drone(), scanner or Scanner()
    parts = []
    for first in range(0, len(worlds), batch):
        part = worlds.rows(slice(first, first + batch))
        rng = np.random.default_rng((seed, first))
        parts.append(_fly_batch(part, answer, steps, _Sensing(scanner, noise, dropout, rng), drone))
    return Outcome(
        **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Outcome)}
    )


@dataclass(frozen=True)
class _Sensing:
    scanner: Scanner
    noise: float
    dropout: float
    rng: np.random.Generator

    def fields(self, worlds: Worlds, motion: Motion) -> dict[str, Any]:
        points, mask = self.scanner.scan(worlds.solids, motion.position, self.noise, self.dropout, self.rng)
        own = {"position": motion.position.copy(), "velocity": motion.velocity.copy(), "goal": worlds.goal.copy()}
        return {**own, "points": points, "mask": mask, "noise": np.full(len(worlds), self.noise)}


def _fly_batch(worlds: Worlds, answer: Answer, steps: int, sensing: _Sensing, drone: Drone) -> Outcome:
    motion = hovering(worlds.start, drone)
    nearest, collided = np.full(len(worlds), np.inf), np.zeros(len(worlds), bool)
    motions: list[Motion] = [motion]
    memory: dict[str, Any] = {}
    for _ in range(steps):
        given = _checked(answer({**sensing.fields(worlds, motion), **memory}), len(worlds))
        memory = {"memory": given["memory"]} if "memory" in given else {}
        before = motion
        motion, track = fly_period(before, given["command"], drone)
        distance = profile(worlds.solids, before.position, track, nearest)
        distance[collided] = np.inf  # their flights are over
        hit = distance <= drone.radius
        end = np.where(hit.any(1), hit.argmax(1), hit.shape[1] - 1)
        flown = np.arange(hit.shape[1]) <= end[:, None]
        nearest = np.minimum(nearest, np.where(flown, distance, np.inf).min(1))
        place = np.where(collided[:, None], before.position, track[np.arange(len(track)), end])
        collided = collided | hit.any(1)
        motion = _stopped(motion, collided, place)
        motions.append(motion)
    path = np.stack([each.position for each in motions], axis=1)
    speed = np.sqrt(np.square([each.velocity for each in motions]).sum(-1)).T
    there = (np.sqrt(np.square(path - worlds.goal[:, None]).sum(-1)) < NEAR) & (speed < SLOW)
    last = round(FOR / drone.period)
    reached = there[:, -last - 1 :].all(1) & ~collided & (steps >= last)
    return Outcome(collided=collided, reached=reached, smallest_clearance=nearest - drone.radius, path=path)


def _stopped(motion: Motion, collided: np.ndarray, place: np.ndarray) -> Motion:
    """The motion, with those that ``collided`` (b,) at rest at ``place`` (b, 3)."""
    over = collided[:, None]
    return Motion(
        position=np.where(over, place, motion.position),
        velocity=np.where(over, 0.0, motion.velocity),
        thrust=np.where(over, 0.0, motion.thrust),
        sent=motion.sent,
    )


def _checked(given: Fields, count: int) -> dict[str, Any]:
    """The answer with its arrays in float64; its memory as it is."""
    for name in ("command", "h", "status"):
        if name not in given:
            raise ValueError(f"the pilot's answer lacks {name}; it must hold command (b, 3), h (b,) and status (b,)")
    command, h = np.asarray(given["command"], np.float64), np.asarray(given["h"], np.float64)
    shapes = {"command": command.shape, "h": h.shape, "status": np.shape(given["status"])}
    if shapes != {"command": (count, 3), "h": (count,), "status": (count,)}:
        raise ValueError(f"the pilot answered {shapes}, expected ({count}, 3), ({count},) and ({count},)")
    if not np.isfinite(command).all():
        raise ValueError(f"the pilot's command for flight {np.argwhere(~np.isfinite(command))[0][0]} is not finite")
    return {**given, "command": command, "h": h}
