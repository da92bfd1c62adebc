"""Flies kept flights again, and compares them with what was recorded."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.controller import ControllerParams
from drone_cbf.evaluation.worst import ReplayStates, chosen
from drone_cbf.flights import Flown, Flyer
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots, first_slots


def fly_again(fly: Flyer, params: ControllerParams, states: ReplayStates) -> Flown:
    """The complete flights in the order of ``states``, on the host; ``fly`` flies ``states.horizon`` steps.

    Each is computed with its own slots, on which its sensor errors depend, and in its original row of a batch of the
    original size (rounding depends on both), the rest padding.
    """
    params = jax.device_get(params.replace(blend=jnp.float32(states.blend)))
    kinds, kind = np.unique(states.slots, axis=0, return_inverse=True)
    groups = [np.flatnonzero(kind.reshape(-1) == index) for index in range(len(kinds))]
    parts = []
    for slots, rows in zip(kinds, groups, strict=True):
        some = chosen(states, rows)
        obstacles = first_slots(some.scenes.obstacles, Slots(*map(int, slots)))
        parts.append(_fly_alike(fly, params, replace(some, scenes=some.scenes.replace(obstacles=obstacles))))
    back = np.argsort(np.concatenate(groups))
    return jax.tree.map(lambda *leaves: _joined(leaves)[back], *parts)


def _joined(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenation, in which what belongs to slots that a scene does not have is zero, as in masked ones."""
    widest = np.max([leaf.shape[1:] for leaf in leaves], axis=0).astype(int)
    filled = [
        np.pad(leaf, [(0, 0), *((0, room - size) for room, size in zip(widest, leaf.shape[1:], strict=True))])
        for leaf in leaves
    ]
    return np.concatenate(filled)


def _fly_alike(fly: Flyer, params: ControllerParams, states: ReplayStates) -> Flown:
    """The flights of scenes with the same slots."""
    order: list[int] = []
    parts = []
    for batch in batches(states):
        places = np.full(states.batch, next(iter(batch.values())))
        places[list(batch)] = list(batch.values())
        scenes: Scene = jax.tree.map(lambda x, places=places: x[places], states.scenes)
        flown = fly(params, scenes, states.noise[places], jax.random.wrap_key_data(states.keys[places]))
        parts.append(jax.tree.map(lambda x, rows=list(batch): np.asarray(x)[rows], flown))
        order += batch.values()
    back = np.argsort(order)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[back], *parts)


def batches(states: ReplayStates) -> Iterator[dict[int, int]]:
    """Maps from row to flight index, one per batch; flights with the same row go to different batches."""
    waiting = list(range(len(states)))
    while waiting:
        batch: dict[int, int] = {}
        for index in waiting:
            batch.setdefault(int(states.rows[index]), index)
        waiting = [index for index in waiting if index not in batch.values()]
        yield batch


def flown_states(states: ReplayStates, flown: Flown) -> ReplayStates:
    """``states`` with the outcomes of ``flown``; the status is that at the recorded step."""
    every = np.arange(len(states))
    violation = np.asarray(flown.metrics.violation)
    status = np.asarray(flown.trajectories.decisions.status)
    return replace(
        states,
        violation=np.where(np.isnan(violation).any(1), np.nan, violation.max(1)),
        clearance=np.asarray(flown.metrics.smallest_clearance),
        status=status[every, states.steps].astype(int),
        failures=np.rint(np.asarray(flown.metrics.fallback) * states.horizon).astype(int),
        end=np.asarray(flown.trajectories.last.position),
    )


def same_bits(recorded: ReplayStates, flown: ReplayStates) -> np.ndarray:
    """Whether violation, clearance, status, failures and final position are bit-identical to those recorded, (n,)."""
    same = np.ones(len(recorded), bool)
    for name in ("violation", "clearance", "status", "failures", "end"):
        left, right = getattr(recorded, name), getattr(flown, name)
        equal = (left == right) | ((left != left) & (right != right))
        same &= equal.reshape(len(same), -1).all(1)
    return same
