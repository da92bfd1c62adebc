"""The served controller as a program of four arrays, in the forms that other runtimes read.

Both forms hold the parameters. StableHLO takes batches of any size; ONNX one observation, since its runtimes are
asked for one on board, and a graph without a batch axis is smaller.
"""

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.extend.core import jaxpr_as_fun

from drone_cbf.errors import ExportError
from drone_cbf.serving.packing import Asked
from drone_cbf.serving.service import PolicyService

OPSET = 26
"""Of ONNX: the first in which the bits of a number can be read as those of another type, as the filter does."""
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
    """Writes the controller for one observation and ``points`` slots as an ONNX model of :data:`OPSET`.

    The conversion takes one to a few minutes.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), service.asked_shapes(points))

    def program(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        answered = service.decide(Asked(*(values[0] for values in arrays)))
        return tuple(values[None] for values in answered)

    convert(program, tuple(shapes), file)


def convert(program: Callable[..., Any], shapes: tuple[Any, ...], file: Path) -> None:
    """Writes ``program``, a function of arrays of ``shapes``, as ONNX."""
    # jax2onnx puts functions of its own in the place of those of jax.numpy while it traces, which know fewer
    # arguments and decide otherwise. It is therefore given what JAX has traced.
    traced = jaxpr_as_fun(jax.make_jaxpr(program)(*shapes))
    with _quiet("jax2onnx", "onnx_ir"):
        from jax2onnx import to_onnx

        model = to_onnx(
            lambda *arrays: tuple(traced(*arrays)),
            list(shapes),
            model_name="drone_policy",
            opset=OPSET,
            input_names=INPUTS,
            output_names=OUTPUTS,
        )
    _write_out_swish(model.graph)
    file.write_bytes(model.SerializeToString())


def _write_out_swish(graph: Any) -> None:
    """Replaces the operator ``Swish`` (x times its sigmoid), which onnxruntime lacks, by the two that make it up."""
    from onnx.helper import make_node

    nodes = []
    for node in graph.node:
        if node.op_type != "Swish":
            nodes.append(node)
            continue
        (given,), (result,) = node.input, node.output
        assert not node.attribute, "x sigmoid(x), without a factor"
        half = f"{result}_sigmoid"
        nodes += [make_node("Sigmoid", [given], [half]), make_node("Mul", [given, half], [result])]
    del graph.node[:]
    graph.node.extend(nodes)


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Without the warnings of these: of plug-ins for packages that are not used here, and of unused intermediates."""
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    try:
        for logger in found:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)


WRITERS: Mapping[str, Callable[[PolicyService, int, Path], None]] = {
    "stablehlo": write_stablehlo,
    "onnx": write_onnx,
}
"""Form -> writer."""
