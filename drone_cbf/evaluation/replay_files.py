"""Files of kept flights: an ``.npz`` of plain arrays, read without pickle and checked as strictly as what is typed."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import astuple, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drone_cbf.errors import ConfigError
from drone_cbf.evaluation.worst import LISTED, ReplayStates
from drone_cbf.safety.records import Status
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots, unused

FORMAT = 2
WITH_SWARMS = 3  # The format of files with flights in swarms: starts and goals have an axis of drones
ONLY_CAPSULES = 1  # The format of files from when every obstacle was a capsule, which are read as well
LARGEST = 1 << 28  # Bytes of all arrays of a file; an evaluation keeps some dozen flights
MOST_FLIGHTS, LONGEST, WIDEST_BATCH, MOST_SLOTS, MOST_DRONES = 4096, 2000, 16_384, 4096, 4096
REMEDY = "name an evaluate run, or the file replay/worst.npz of one"
WHOLE_NUMBERS = "iu"  # Kinds of numpy
OF_SWARMS = ("drones", "drone", "batches")
"""Arrays that only files with swarms hold; others have one ``batch``, and all drones fly alone."""
_FLIGHT: dict[str, tuple[str, tuple[int, ...]]] = {
    "slots": (WHOLE_NUMBERS, (4,)),
    "drones": (WHOLE_NUMBERS, ()),
    "drone": (WHOLE_NUMBERS, ()),
    "batches": (WHOLE_NUMBERS, ()),
    "keys": ("u", (2,)),
    "noise": ("f", ()),
    "rows": (WHOLE_NUMBERS, ()),
    "cells": ("U", ()),
    "reasons": ("U", ()),
    "steps": (WHOLE_NUMBERS, ()),
    "violation": ("f", ()),
    "clearance": ("f", ()),
    "status": (WHOLE_NUMBERS, ()),
    "failures": (WHOLE_NUMBERS, ()),
    "end": ("f", (3,)),
}
"""Array of a file -> kind of its entries and shape for one flight."""
_KINDS = {
    "f": "numbers",
    WHOLE_NUMBERS: "whole numbers",
    "u": "whole numbers from 0",
    "U": "text",
    "b": "true or false",
}


def packed(states: ReplayStates) -> bytes:
    """Serialise ``states`` to the content of an ``.npz`` file."""
    alone = states.widest is None
    arrays: dict[str, Any] = {"format": np.int64(FORMAT if alone else WITH_SWARMS)}
    for each in fields(states):
        if alone and each.name in OF_SWARMS:
            continue
        value = getattr(states, each.name)
        parts = _named(value) if each.name == "scenes" else {"": np.asarray(value)}
        arrays |= {f"{each.name}{name}": part for name, part in parts.items()}
    if alone:
        assert len(set(states.batches.tolist())) == 1, "flights of one evaluation"
        arrays["batch"] = np.asarray(int(states.batches[0]))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpacked(content: bytes, source: str) -> ReplayStates:
    """Inverse of :func:`packed`; also reads files of format :data:`ONLY_CAPSULES`.

    Raises:
        ConfigError: the file is of no known format, is altered, or says what no evaluation records.
    """
    try:
        return _states(_arrays(content))
    except _NotUsableError as error:
        raise ConfigError(f"replay = {source} {error}; {REMEDY}") from error


class _NotUsableError(ValueError):
    """What is wrong with a file, as the rest of a sentence that begins with its name."""


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    if len(content) > LARGEST:
        raise _NotUsableError(f"holds more than {LARGEST:,} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise _NotUsableError(f"holds more than {LARGEST:,} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except _NotUsableError:
        raise
    except Exception as error:  # whatever a damaged archive brings forth: there is no end of it
        raise _NotUsableError(f"is no file of flights to replay ({error})") from error
    written_as = arrays.pop("format", None)
    known = written_as is not None and written_as.shape == ()
    if known and written_as == WITH_SWARMS:
        return arrays
    if known and written_as == ONLY_CAPSULES:
        return _without_swarms(_with_shapes(arrays))
    if known and written_as == FORMAT:
        return _without_swarms(arrays)
    raise _NotUsableError(f"is not of format {FORMAT} or {WITH_SWARMS}, which this version reads")


def _without_swarms(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of a file whose drones all fly alone, as a file with swarms holds them."""
    if "end" in arrays and arrays["end"].ndim == 3:
        raise _NotUsableError(f"is of format {FORMAT}, but holds swarms, which are of format {WITH_SWARMS}")
    noise = arrays.get("noise", np.zeros(0))
    alone = np.zeros(len(noise) if noise.ndim else 0, int)
    if "batch" not in arrays:
        raise _NotUsableError("lacks batch")
    batch = int(_single("batch", arrays, 1, WIDEST_BATCH, WHOLE_NUMBERS))
    return arrays | dict.fromkeys(("drones", "drone"), alone) | {"batches": alone + batch}


def _states(arrays: Mapping[str, np.ndarray]) -> ReplayStates:
    """The flights, each field checked."""
    missing = [each.name for each in fields(ReplayStates) if each.name != "scenes" and each.name not in arrays]
    if missing:
        raise _NotUsableError(f"lacks {', '.join(missing)}")
    count = len(arrays["noise"]) if arrays["noise"].ndim else 0
    if not 1 <= count <= MOST_FLIGHTS:
        raise _NotUsableError(f"holds {count} flights, expected 1 to {MOST_FLIGHTS}")
    widest = _widest(arrays)
    for name, (kind, shape) in _FLIGHT.items():
        _check_array(name, arrays[name], kind, (count, *(() if name != "end" else widest), *shape))
    single: dict[str, Any] = {
        "blend": _single("blend", arrays, 0.0, 1.0),
        "horizon": int(_single("horizon", arrays, 1, LONGEST, WHOLE_NUMBERS)),
    }
    _check_values(arrays, single["horizon"])
    plain: dict[str, Any] = {name: arrays[name] for name in LISTED if name != "scenes"}
    return ReplayStates(scenes=_scenes(arrays, count, widest), **plain, **single)


def _widest(arrays: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Length of the axis of drones, as part of a shape; empty without one."""
    if arrays["end"].ndim != 3:
        return ()
    widest = arrays["end"].shape[1]
    if not 1 <= widest <= MOST_DRONES:
        raise _NotUsableError(f"holds swarms of {widest} drones, expected 1 to {MOST_DRONES}")
    return (widest,)


def _check_array(name: str, array: np.ndarray, kind: str, shape: tuple[int, ...]) -> None:
    if array.dtype.kind not in kind:
        raise _NotUsableError(f"holds {name} of type {array.dtype}, expected {_KINDS.get(kind, kind)}")
    if array.shape != shape:
        raise _NotUsableError(f"holds {name} of shape {array.shape}, expected {shape}")


def _single(name: str, arrays: Mapping[str, np.ndarray], least: float, most: float, kind: str = "f") -> Any:
    _check_array(name, arrays[name], kind, ())
    _check_range(name, arrays[name], least, most)
    return arrays[name][()]


def _check_range(name: str, values: np.ndarray, least: float, most: float | np.ndarray) -> None:
    values, allowed = np.atleast_1d(values), np.broadcast_to(most, np.atleast_1d(values).shape)
    wrong = ~((values >= least) & (values <= allowed))
    if wrong.any():
        raise _NotUsableError(f"holds {name} = {values[wrong][0]}, expected {least} to {allowed[wrong][0]}")


def _check_values(arrays: Mapping[str, np.ndarray], horizon: int) -> None:
    _check_range("noise", arrays["noise"], 0.0, 1.0)
    _check_range("batches", arrays["batches"], 1, WIDEST_BATCH)
    _check_range("rows", arrays["rows"], 0, arrays["batches"] - 1)
    _check_range("steps", arrays["steps"], 0, horizon - 1)
    _check_range("failures", arrays["failures"], 0, horizon)
    _check_range("status", arrays["status"], 0, max(Status))
    _check_range("slots", arrays["slots"], 0, MOST_SLOTS)
    _check_range("drones", arrays["drones"], 0, max(_widest(arrays), default=0))
    _check_range("drone", arrays["drone"], 0, np.maximum(arrays["drones"] - 1, 0))
    # A flight that left the numbers was recorded as one.
    lost = ~np.isfinite(arrays["end"]).reshape(len(arrays["end"]), -1).all(axis=1)
    for name, values in (("violation", arrays["violation"]), ("clearance", arrays["clearance"])):
        if (np.isnan(values) & ~lost).any():
            raise _NotUsableError(f"holds {name} = nan of a flight that ended at a place")


def _scenes(arrays: Mapping[str, np.ndarray], count: int, widest: tuple[int, ...]) -> Scene:
    """The scenes of the flights, with the widest slots among them."""
    zero, place = jnp.zeros(3, jnp.float32), jnp.zeros((*widest, 3), jnp.float32)
    obstacles = unused(Slots(*map(int, arrays["slots"].max(axis=0))))
    template = Scene(obstacles=obstacles, start=place, start_velocity=place, goal=place, wind=zero, gust=zero)
    if "scenes.cruise" in arrays:  # of an evaluation by speed
        template = template.replace(cruise=jnp.float32(0.0))
    names = {f"scenes{name}": leaf for name, leaf in _named(template).items()}
    if missing := [name for name in names if name not in arrays]:
        raise _NotUsableError(f"lacks {', '.join(missing)}")
    for name, leaf in names.items():
        _check_array(name, arrays[name], np.asarray(leaf).dtype.kind, (count, *leaf.shape))
        if arrays[name].dtype.kind == "f" and not np.isfinite(arrays[name]).all():
            raise _NotUsableError(f"holds {name} with values that are not finite")
    return jax.tree.unflatten(jax.tree.structure(template), [arrays[name] for name in names])


def _with_shapes(arrays: dict[str, Any]) -> dict[str, Any]:
    """Arrays of a file whose obstacles are all capsules, as a file with every shape holds them."""
    place = "scenes.obstacles"
    renamed = {name.replace(f"{place}.", f"{place}.capsules."): value for name, value in arrays.items()}
    active = renamed.get(f"{place}.capsules.active", np.zeros((0, 0), bool))
    noise = arrays.get("noise", np.zeros(0))
    count, slots = len(noise) if noise.ndim else 0, active.shape[1] if active.ndim > 1 else 0
    others = {name: leaf for name, leaf in _named(unused(Slots())).items() if not name.startswith(".capsules.")}
    absent = {f"{place}{name}": np.zeros((count, *leaf.shape), leaf.dtype) for name, leaf in others.items()}
    return renamed | absent | {"slots": np.tile(astuple(Slots(capsules=slots)), (count, 1))}


def _named(tree: Any) -> dict[str, Any]:
    return {
        "".join(f".{jax.tree_util.keystr((entry,), simple=True)}" for entry in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
