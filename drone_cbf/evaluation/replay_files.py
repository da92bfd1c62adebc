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
ONLY_CAPSULES = 1  # The format of files from when every obstacle was a capsule, which are read as well
LARGEST = 1 << 28  # Bytes of all arrays of a file; an evaluation keeps some dozen flights
MOST_FLIGHTS, LONGEST, WIDEST_BATCH, MOST_SLOTS = 4096, 2000, 16_384, 4096
REMEDY = "name an evaluate run, or the file replay/worst.npz of one"
WHOLE_NUMBERS = "iu"  # Kinds of numpy
_FLIGHT: dict[str, tuple[str, tuple[int, ...]]] = {
    "slots": (WHOLE_NUMBERS, (4,)),
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
        ConfigError: the file is of neither format, is altered, or says what no evaluation records.
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
    if written_as is not None and written_as.shape == () and written_as == ONLY_CAPSULES:
        return _with_shapes(arrays)
    if written_as is None or written_as.shape != () or written_as != FORMAT:
        raise _NotUsableError(f"is not of format {FORMAT}, which this version reads")
    return arrays


def _states(arrays: Mapping[str, np.ndarray]) -> ReplayStates:
    """The flights, each field checked."""
    missing = [each.name for each in fields(ReplayStates) if each.name != "scenes" and each.name not in arrays]
    if missing:
        raise _NotUsableError(f"lacks {', '.join(missing)}")
    count = len(arrays["noise"]) if arrays["noise"].ndim else 0
    if not 1 <= count <= MOST_FLIGHTS:
        raise _NotUsableError(f"holds {count} flights, expected 1 to {MOST_FLIGHTS}")
    for name, (kind, shape) in _FLIGHT.items():
        _check_array(name, arrays[name], kind, (count, *shape))
    single: dict[str, Any] = {
        "blend": _single("blend", arrays, 0.0, 1.0),
        "horizon": int(_single("horizon", arrays, 1, LONGEST, WHOLE_NUMBERS)),
        "batch": int(_single("batch", arrays, 1, WIDEST_BATCH, WHOLE_NUMBERS)),
    }
    _check_values(arrays, single["horizon"], single["batch"])
    plain: dict[str, Any] = {name: arrays[name] for name in LISTED if name != "scenes"}
    return ReplayStates(scenes=_scenes(arrays, count), **plain, **single)


def _check_array(name: str, array: np.ndarray, kind: str, shape: tuple[int, ...]) -> None:
    if array.dtype.kind not in kind:
        raise _NotUsableError(f"holds {name} of type {array.dtype}, expected {_KINDS.get(kind, kind)}")
    if array.shape != shape:
        raise _NotUsableError(f"holds {name} of shape {array.shape}, expected {shape}")


def _single(name: str, arrays: Mapping[str, np.ndarray], least: float, most: float, kind: str = "f") -> Any:
    _check_array(name, arrays[name], kind, ())
    _check_range(name, arrays[name], least, most)
    return arrays[name][()]


def _check_range(name: str, values: np.ndarray, least: float, most: float) -> None:
    wrong = np.atleast_1d(values)[~((values >= least) & (values <= most)).reshape(np.atleast_1d(values).shape)]
    if wrong.size:
        raise _NotUsableError(f"holds {name} = {wrong.flat[0]}, expected {least} to {most}")


def _check_values(arrays: Mapping[str, np.ndarray], horizon: int, batch: int) -> None:
    _check_range("noise", arrays["noise"], 0.0, 1.0)
    _check_range("rows", arrays["rows"], 0, batch - 1)
    _check_range("steps", arrays["steps"], 0, horizon - 1)
    _check_range("failures", arrays["failures"], 0, horizon)
    _check_range("status", arrays["status"], 0, max(Status))
    _check_range("slots", arrays["slots"], 0, MOST_SLOTS)
    lost = ~np.isfinite(arrays["end"]).all(axis=1)  # a flight that left the numbers was recorded as one
    for name, values in (("violation", arrays["violation"]), ("clearance", arrays["clearance"])):
        if (np.isnan(values) & ~lost).any():
            raise _NotUsableError(f"holds {name} = nan of a flight that ended at a place")


def _scenes(arrays: Mapping[str, np.ndarray], count: int) -> Scene:
    """The scenes of the flights, with the widest slots among them."""
    zero = jnp.zeros(3, jnp.float32)
    obstacles = unused(Slots(*map(int, arrays["slots"].max(axis=0))))
    template = Scene(obstacles=obstacles, start=zero, start_velocity=zero, goal=zero, wind=zero, gust=zero)
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
