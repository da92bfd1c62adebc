"""Stores kept flights as an ``.npz`` of plain arrays, read without pickle, and flies them again."""

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.controller import ControllerParams
from drone_cbf.errors import ConfigError
from drone_cbf.evaluation.worst import LISTED, ReplayStates, chosen
from drone_cbf.flights import Flown, Flyer
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots, first_slots, unused

FORMAT = 2
ONLY_CAPSULES = 1  # The format of files from when every obstacle was a capsule, which are read as well


def packed(states: ReplayStates) -> bytes:
    """Serialise ``states`` to the content of an ``.npz`` file."""
    arrays: dict[str, Any] = {"format": np.int64(FORMAT)}
    for each in fields(states):
        value = getattr(states, each.name)
        parts = _named(value) if each.name == "scenes" else {"": np.asarray(value)}
        arrays |= {f"{each.name}{name}": part for name, part in parts.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpacked(content: bytes, source: str) -> ReplayStates:
    """Inverse of :func:`packed`; also reads files of format :data:`ONLY_CAPSULES`.

    Raises:
        ConfigError: the file is of neither format, or is altered.
    """
    remedy = "name an evaluate run, or the file replay/worst.npz of one"
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"replay = {source} is no file of flights to replay ({error}); {remedy}") from error
    written_as = arrays.pop("format", None)
    if written_as == ONLY_CAPSULES:
        arrays = _with_shapes(arrays)
    elif written_as != FORMAT:
        raise ConfigError(f"replay = {source} is not of format {FORMAT}, which this version reads; {remedy}")
    template = _template(arrays)
    names = _named(template)
    missing = [name for name in [*(f"scenes{each}" for each in names), *_PLAIN] if name not in arrays]
    if missing:
        raise ConfigError(f"replay = {source} lacks {', '.join(missing)}; {remedy}")
    count = len(arrays["noise"])
    for name, leaf in names.items():
        found = arrays[f"scenes{name}"]
        if found.shape != (count, *leaf.shape):
            expected = f"scenes{name} has shape {found.shape}, expected {(count, *leaf.shape)}"
            raise ConfigError(f"replay = {source}: {expected}; {remedy}")
    leaves = [arrays[f"scenes{name}"] for name in names]
    scenes = jax.tree.unflatten(jax.tree.structure(template), leaves)
    plain = {name: arrays[name] for name in LISTED if name != "scenes"}
    single: dict[str, Any] = {
        "blend": float(arrays["blend"]),
        "horizon": int(arrays["horizon"]),
        "batch": int(arrays["batch"]),
    }
    return ReplayStates(scenes=scenes, **plain, **single)


def _with_shapes(arrays: dict[str, Any]) -> dict[str, Any]:
    """Arrays of a file whose obstacles are all capsules, as a file with every shape holds them."""
    place = "scenes.obstacles"
    renamed = {name.replace(f"{place}.", f"{place}.capsules."): value for name, value in arrays.items()}
    active = renamed.get(f"{place}.capsules.active", np.zeros((0, 0), bool))
    count, slots = len(arrays.get("noise", ())), active.shape[1] if active.ndim > 1 else 0
    others = {name: leaf for name, leaf in _named(unused(Slots())).items() if not name.startswith(".capsules.")}
    absent = {f"{place}{name}": np.zeros((count, *leaf.shape), leaf.dtype) for name, leaf in others.items()}
    return renamed | absent | {"slots": np.tile(astuple(Slots(capsules=slots)), (count, 1))}


def _template(arrays: Mapping[str, Any]) -> Scene:
    """A scene with the slots of those in the file."""
    widest = arrays["slots"].max(axis=0) if "slots" in arrays else astuple(Slots())
    zero = jnp.zeros(3, jnp.float32)
    obstacles = unused(Slots(*map(int, widest)))
    return Scene(obstacles=obstacles, start=zero, start_velocity=zero, goal=zero, wind=zero, gust=zero)


_PLAIN = tuple(each.name for each in fields(ReplayStates) if each.name != "scenes")


def _named(tree: Any) -> dict[str, Any]:
    return {
        "".join(f".{jax.tree_util.keystr((entry,), simple=True)}" for entry in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


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
