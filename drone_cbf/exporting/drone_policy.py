"""An exported drone policy behind its safety filter: observations and a memory in, safe commands and the memory out.

Needs numpy, and jax for policy.stablehlo or onnxruntime for policy.onnx; interface.json and README.md lie beside it.

    policy, memory = Policy("folder"), None  # None: a new flight
    answer, memory = policy(memory, position=[[0, 0, 1]], velocity=[[3, 0, 0]], goal=[[8, 0, 1]], points=[[[2, 0, 1]]])
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OTHERS = ("others", "other_velocities", "other_mask")
"""What is told of other drones."""


def stablehlo(file: Path) -> Callable[..., Any]:
    """The program as a function of its four arrays, compiled for each size of batch when it is first asked for."""
    import jax
    import jax.export

    return jax.jit(jax.export.deserialize(bytearray(file.read_bytes())).call)


def onnx(file: Path) -> Callable[..., Any]:
    """The same by onnxruntime, on one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors: it warns of every constant that the conversion left unused
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))


class Policy:
    """Answers batches of observations, each of which is a step of a flight of its own."""

    def __init__(self, folder: str | Path = Path(__file__).parent, form: str = "") -> None:
        self.about = json.loads((Path(folder) / "interface.json").read_text())
        form = form or next(iter(self.about["forms"]))
        self.run = {"stablehlo": stablehlo, "onnx": onnx}[form](Path(folder) / self.about["forms"][form]["file"])
        with np.load(Path(folder) / "start.npz") as start:
            self.start = start["floats"], start["words"]

    def __call__(self, memory: Any = None, *, position: Any, **fields: Any) -> tuple[dict[str, Any], Any]:
        """Answers by name, and the memory that goes with the next observation of the same flights."""
        asked, origin = self.pack(memory, position, fields)
        floats, words = (np.asarray(values) for values in self.run(*asked))
        places = self.about["answer"]
        answer = {name: floats[:, slice(*place)] for name, place in places.items() if name != "memory"}
        answer["h"] = answer["h"][:, 0]
        answer["status"] = np.array(self.about["statuses"])[answer["status"][:, 0].astype(int)]
        return answer, (origin, floats[:, places["memory"][0] :], words)

    def pack(self, memory: Any, position: Any, fields: dict[str, Any]) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """The program's four arrays, and the origin [m] to which the positions in them are relative."""
        position, fields = np.asarray(position, float), dict(fields)
        anchor, *kept = memory or (position, *(np.tile(values, (len(position), 1)) for values in self.start))
        far = np.linalg.norm(position - anchor, axis=1, keepdims=True) > self.about["origin_reach"]
        origin = np.where(far, position, anchor)
        seen = np.zeros((len(position), *self.about["seen"]["shape"]), np.float32)
        told: dict[str, Any] = {"position": position - origin, "offset": anchor - origin}
        if "others" in self.about["own"]["places"]:
            told |= self.near(position, origin, *(fields.pop(name, None) for name in OTHERS))
        for name, value in sorted(fields.items(), key=lambda field: field[0] != "points"):  # a mask comes after them
            if name == "image":
                seen[:] = value
            elif name in self.about["seen"]["places"]:
                self.put_points(seen, name, np.asarray(value), origin)
            elif name in self.about["own"]["places"]:
                told[name] = np.asarray(value, float) - origin if name == "goal" else value
                told |= {f"{name}_known": 1.0} if f"{name}_known" in self.about["own"]["places"] else {}
            else:
                raise ValueError(f"{name} is no field of an observation; README.md beside this file lists them")
        own = np.zeros((len(position), self.about["own"]["length"]), np.float32)
        for name, value in told.items():
            first, last = self.about["own"]["places"][name]
            rows = np.broadcast_to(value, (len(position),)) if np.ndim(value) == 0 else np.asarray(value)
            own[:, first:last] = rows.reshape(len(position), -1)[:, : last - first]
        return (own, seen, *kept), origin

    def near(
        self, position: np.ndarray, origin: np.ndarray, others: Any, velocities: Any, mask: Any
    ) -> dict[str, np.ndarray]:
        """The nearest others within the sensing radius, as many as there are slots for."""
        if others is None or velocities is None:
            raise ValueError("this policy flies in a swarm: send others and other_velocities, (batch, k, 3)")
        first, last = self.about["own"]["places"]["others"]
        others, velocities, slots = np.asarray(others, float), np.asarray(velocities, float), (last - first) // 3
        apart = np.linalg.norm(others - position[:, None], axis=-1)
        there = apart < self.about["sight"]
        apart = np.where(there if mask is None else there & np.asarray(mask, bool), apart, np.inf)
        order = np.argsort(apart, axis=1, kind="stable")[:, :slots]
        kept = np.isfinite(np.take_along_axis(apart, order, 1))[..., None]
        room = [(0, 0), (0, slots - order.shape[1]), (0, 0)]
        found = (others - origin[:, None], velocities)
        chosen = [np.where(kept, np.take_along_axis(values, order[..., None], 1), 0.0) for values in found]
        return {name: np.pad(values, room) for name, values in zip(OTHERS, [*chosen, 1.0 * kept], strict=True)}

    def put_points(self, seen: np.ndarray, name: str, values: np.ndarray, origin: np.ndarray) -> None:
        """Writes what is told of points into their first slots; they count as seen unless a mask follows."""
        count, slots = values.shape[1], seen.shape[1]
        if count > slots:
            raise ValueError(f"{name} holds {count} points, more than the {slots} slots; send fewer, or export again")
        first, last = self.about["seen"]["places"][name]
        if name == "points":
            values = np.clip(values - origin[:, None], -self.about["farthest"], self.about["farthest"])
            seen[:, :count, slice(*self.about["seen"]["places"]["mask"])] = 1.0
        seen[:, :count, first:last] = values.reshape(len(seen), count, last - first)
