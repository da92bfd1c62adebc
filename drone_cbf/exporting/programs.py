"""The served controller as a program of four arrays, in the forms that other runtimes read.

Both forms hold the parameters. StableHLO takes batches of any size; ONNX one observation, since its runtimes are
asked for one on board, and a graph without a batch axis is smaller.
"""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

import jax

from drone_cbf.errors import ExportError
from drone_cbf.serving.packing import Asked
from drone_cbf.serving.service import PolicyService

INPUTS = ("own", "seen", "floats", "words")
OUTPUTS = ("answer", "memory")
INSTALL = "pip install -e '.[export]' -c constraints.txt"
INSTALL_JAX2ONNX = f"{INSTALL} && pip install --no-deps -r requirements-jax2onnx.txt"
_NEEDED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "stablehlo": (("flatbuffers",), INSTALL),
    "onnx": (("onnx", "onnx_ir", "onnxruntime", "jax2onnx"), INSTALL_JAX2ONNX),
}
"""Form -> packages that must be there to write and check it, and how to install them."""


def check_installed(forms: tuple[str, ...]) -> None:
    """Raises ExportError if a package is missing that one of ``forms`` needs."""
    for form in forms:
        names, remedy = _NEEDED[form]
        if missing := [name for name in names if importlib.util.find_spec(name) is None]:
            raise ExportError(f"the form {form} needs {', '.join(missing)}; install: {remedy}")


def write_stablehlo(service: PolicyService, points: int, file: Path) -> None:
    """Writes the controller for batches of any size and ``points`` slots as serialised StableHLO (``jax.export``)."""
    from jax import export

    (batch,) = export.symbolic_shape("batch")
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((batch, *leaf.shape), leaf.dtype), service.asked_shapes(points)
    )

    def program(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jax.vmap(service.decide)(Asked(*arrays)))

    file.write_bytes(export.export(jax.jit(program))(*shapes).serialize())


def write_onnx(service: PolicyService, points: int, file: Path) -> None:
    """Writes the controller for one observation and ``points`` slots as an ONNX model.

    The conversion takes one to a few minutes.
    """
    from drone_cbf.exporting.onnx_conversion import converted

    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), service.asked_shapes(points))

    def program(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        answered = service.decide(Asked(*(values[0] for values in arrays)))
        return tuple(values[None] for values in answered)

    file.write_bytes(converted(program, tuple(shapes), INPUTS, OUTPUTS).SerializeToString())


WRITERS: Mapping[str, Callable[[PolicyService, int, Path], None]] = {
    "stablehlo": write_stablehlo,
    "onnx": write_onnx,
}
"""Form -> writer."""
