"""Flies kept flights again, and compares them with what was recorded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.controller import ControllerParams
from drone_cbf.evaluation.worst import PER_DRONE, ReplayStates, chosen, of_drones
from drone_cbf.flights import Flown, Flyer
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots, first_slots


@dataclass(frozen=True)
class FlownAgain:
    """Kept flights, flown once more, in the order of the states."""

    flown: Flown  # On the host; of a swarm the kept drone alone, without what it met
    end: np.ndarray  # As :attr:`ReplayStates.end`


def fly_again(fly: Flyer, params: ControllerParams, states: ReplayStates) -> FlownAgain:
    """The complete flights; ``fly`` flies ``states.horizon`` steps."""
    order, flights = [], []
    end = np.zeros_like(states.end)
    for index, whole in scenes_again(fly, params, states):
        order.append(index)
        last = whole.trajectories.last.position
        if states.widest is None:
            end[index] = last[0]
        else:
            end[index, : len(last)] = last
        flights.append(jax.tree.map(lambda leaf, row=int(states.drone[index]): leaf[row : row + 1], _alone(whole)))
    back = np.argsort(order)
    return FlownAgain(jax.tree.map(lambda *leaves: _joined(leaves)[back], *flights), end)


def scenes_again(fly: Flyer, params: ControllerParams, states: ReplayStates) -> Iterator[tuple[int, Flown]]:
    """For each of ``states``, in any order, its index and the flights of all drones of its scene, leading axis.

    Each is computed with its own slots, on which its sensor errors depend, and in its original row of a batch of the
    original size (rounding depends on both), the rest padding.
    """
    params = jax.device_get(params.replace(blend=jnp.float32(states.blend)))
    how = np.column_stack([states.slots, states.drones, states.batches])
    kinds, kind = np.unique(how, axis=0, return_inverse=True)
    for which, (*slots, drones, batch) in enumerate(kinds.tolist()):
        rows = np.flatnonzero(kind.reshape(-1) == which)
        some = chosen(states, rows)
        scenes = some.scenes.replace(obstacles=first_slots(some.scenes.obstacles, Slots(*slots)))
        scenes = scenes.replace(**{name: of_drones(getattr(scenes, name), drones) for name in PER_DRONE})
        for index, flown in _fly_alike(fly, params, replace(some, scenes=scenes), drones, batch):
            yield int(rows[index]), flown


def _alone(flown: Flown) -> Flown:
    """``flown`` without what differs between swarms and single drones in structure."""
    trajectories = flown.trajectories.replace(graphs=None, others=None)
    return flown.replace(trajectories=trajectories, metrics=flown.metrics.replace(swarm=None))


def _joined(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenation, in which what belongs to slots that a scene does not have is zero, as in masked ones."""
    widest = np.max([leaf.shape[1:] for leaf in leaves], axis=0).astype(int)
    filled = [
        np.pad(leaf, [(0, 0), *((0, room - size) for room, size in zip(widest, leaf.shape[1:], strict=True))])
        for leaf in leaves
    ]
    return np.concatenate(filled)


def _fly_alike(
    fly: Flyer, params: ControllerParams, states: ReplayStates, drones: int, size: int
) -> Iterator[tuple[int, Flown]]:
    """Index and flights of scenes with the same slots, each of ``drones`` (0: of a single drone), ``size`` a call."""
    each = max(drones, 1)
    for batch in batches(states):
        places = np.full(size, next(iter(batch.values())))
        places[list(batch)] = list(batch.values())
        scenes: Scene = jax.tree.map(lambda x, places=places: x[places], states.scenes)
        flown = fly(params, scenes, states.noise[places], jax.random.wrap_key_data(states.keys[places]))
        host = jax.tree.map(np.asarray, flown)
        for row, index in batch.items():
            yield index, jax.tree.map(lambda x, first=row * each: x[first : first + each].copy(), host)


def batches(states: ReplayStates) -> Iterator[dict[int, int]]:
    """Maps from row to flight index, one per batch; flights with the same row go to different batches."""
    waiting = list(range(len(states)))
    while waiting:
        batch: dict[int, int] = {}
        for index in waiting:
            batch.setdefault(int(states.rows[index]), index)
        waiting = [index for index in waiting if index not in batch.values()]
        yield batch


def flown_states(states: ReplayStates, again: FlownAgain) -> ReplayStates:
    """``states`` with the outcomes of ``again``; the status is that at the recorded step."""
    every, flown = np.arange(len(states)), again.flown
    violation = np.asarray(flown.metrics.violation)
    status = np.asarray(flown.trajectories.decisions.status)
    return replace(
        states,
        violation=np.where(np.isnan(violation).any(1), np.nan, violation.max(1)),
        clearance=np.asarray(flown.metrics.smallest_clearance),
        status=status[every, states.steps].astype(int),
        failures=np.rint(np.asarray(flown.metrics.fallback) * states.horizon).astype(int),
        end=again.end,
    )


def same_bits(recorded: ReplayStates, flown: ReplayStates) -> np.ndarray:
    """Whether violation, clearance, status, failures and final position are bit-identical to those recorded, (n,)."""
    same = np.ones(len(recorded), bool)
    for name in ("violation", "clearance", "status", "failures", "end"):
        left, right = getattr(recorded, name), getattr(flown, name)
        equal = (left == right) | ((left != left) & (right != right))
        same &= equal.reshape(len(same), -1).all(1)
    return same
