"""The folder of an exported policy: programs, their interface, the first memory, and the file that loads them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from drone_cbf.config import SystemConfig
from drone_cbf.exporting.onnx_conversion import OPSET
from drone_cbf.exporting.programs import INPUTS, OUTPUTS, WRITERS
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.serving.clouds import COLUMNS, FARTHEST, POINT, SEEN, SPREAD, VELOCITY
from drone_cbf.serving.controller import STATUS_NAMES
from drone_cbf.serving.fields import MEANING, SHAPES, fields_of, image_size, other_slots
from drone_cbf.serving.packing import DECISION, LOOK, OWN, other_places, own_length, remembered
from drone_cbf.serving.service import ANCHOR_REACH, PolicyService

LOADER = Path(__file__).with_name("drone_policy.py")
FILES = {"stablehlo": "policy.stablehlo", "onnx": "policy.onnx"}
"""Form -> name of its program."""
_FORM = 1


def write_folder(
    folder: Path, system: SystemConfig, service: PolicyService, points: int, forms: tuple[str, ...], origin: str
) -> None:
    """Writes ``service``, the controller of ``system``, to the new ``folder``, with ``points`` slots for points.

    ``origin``: where it comes from, as in ``models:/drone-policy/3``.
    """
    folder.mkdir(parents=True)
    for form in forms:
        WRITERS[form](service, points, folder / FILES[form])
    np.savez(folder / "start.npz", floats=service.first.floats, words=service.first.words)
    described = interface(system, points, forms, origin)
    (folder / "interface.json").write_text(json.dumps(described, indent=1))
    shutil.copyfile(LOADER, folder / LOADER.name)
    (folder / "README.md").write_text(readme(system, described))


def interface(system: SystemConfig, points: int, forms: tuple[str, ...], origin: str) -> dict[str, Any]:
    """Sizes and places of all that goes in and comes out, for the loader and for programs in other languages."""
    image, queue = image_size(system.sensor), make_dynamics(system.physics).queue
    camera, others = image is not None, other_slots(system)
    length = own_length(queue, others)
    own = _places(OWN, own_length(queue)) | _places(other_places(length, others))
    cloud = {
        "points": POINT,
        "point_velocities": VELOCITY,
        "point_spread": slice(SPREAD, SPREAD + 1),
        "mask": slice(SEEN, SEEN + 1),
    }
    answers = {**DECISION, **({"look": LOOK} if camera else {}), "memory": slice(remembered(camera=camera), None)}
    batches = {"stablehlo": "any", "onnx": 1}
    return {
        "format": _FORM,
        "origin": origin,
        "time_step": system.physics.time_step,
        "max_acceleration": list(system.physics.reach),
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "own": {"length": length, "places": own},
        **({"sight": system.sensor.range} if others else {}),
        "seen": {"shape": image or (points, COLUMNS), "places": {} if camera else _places(cloud)},
        "answer": _places(answers),
        "statuses": STATUS_NAMES,
        "origin_reach": ANCHOR_REACH,
        "farthest": FARTHEST,
        "forms": {form: {"file": FILES[form], "batch": batches[form]} for form in forms},
        **({"opset": OPSET} if "onnx" in forms else {}),
    }


def _places(slices: Mapping[str, slice], end: int | None = None) -> dict[str, tuple[int, int | None]]:
    return {name: (place.start, end if place.stop is None else place.stop) for name, place in slices.items()}


def readme(system: SystemConfig, described: Mapping[str, Any]) -> str:
    """How to ask it, in Markdown."""
    fields = fields_of(system)
    asked = [name for name in (*fields.required, *fields.optional) if name != "memory"]
    lines = [f"- `{name}` ({', '.join(map(str, SHAPES[name]))}): {MEANING[name]}" for name in asked]
    forms = [f"- `{entry['file']}`: {form}, batch {entry['batch']}" for form, entry in described["forms"].items()]
    slots = "" if described["seen"]["places"] == {} else f" At most {described['seen']['shape'][0]} points at once."
    return f"""\
# Drone policy behind its safety filter

Exported from `{described["origin"]}`. One call is one control period, {described["time_step"]} s.

{chr(10).join(forms)}

`drone_policy.py` loads them; it needs numpy, and jax or onnxruntime:

    from drone_policy import Policy
    policy, memory = Policy("."), None                      # None: a new flight
    answer, memory = policy(memory, position=..., velocity=..., goal=..., ...)

`answer` holds `command` (batch, 3) [m/s^2, world frame, gravity compensated], `nominal_command`, `h` [m] and `status`.
The first axis of every field is the batch.{slots}

{chr(10).join(lines)}

Without the loader: the programs take the float32 arrays `own`, `seen`, `floats` and the uint32 array `words`, and
return `answer` and `memory` (the next `words`); `interface.json` says what stands where, `start.npz` holds the first
memory. Positions are relative to an origin that the caller keeps near the drone (within {described["origin_reach"]:g}
m); where it moves, `offset` is the old origin relative to the new one.
"""
