"""A traced program as an ONNX model, by jax2onnx, with what it and onnxruntime lack."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

OPSET = 26
"""Of ONNX: the first in which the bits of a number can be read as those of another type, as the filter does."""


def converted(
    program: Callable[..., Any], shapes: tuple[Any, ...], inputs: Sequence[str], outputs: Sequence[str]
) -> Any:
    """``program``, a function of arrays of ``shapes``, as an ONNX model of :data:`OPSET`."""
    # jax2onnx puts functions of its own in the place of those of jax.numpy while it traces, which know fewer
    # arguments and decide otherwise. It is therefore given what JAX has traced.
    traced = jaxpr_as_fun(jax.make_jaxpr(program)(*shapes))
    with _quiet("jax2onnx", "onnx_ir"):
        from jax2onnx import to_onnx

        _teach_batches()
        model = to_onnx(
            lambda *arrays: tuple(traced(*arrays)),
            list(shapes),
            model_name="drone_policy",
            opset=OPSET,
            input_names=inputs,
            output_names=outputs,
        )
    _write_out_swish(model.graph)
    _name_axes_once(model.graph)
    return model


def _teach_batches() -> None:
    """jax2onnx inlines ``custom_vmap`` as it does ``custom_jvp``: without a batch it is a plain call.

    It keeps one converter for each primitive, so that teaching it again changes nothing.
    """
    from jax2onnx.plugins.jax.lax._control_flow_utils import lower_jaxpr_eqns
    from jax2onnx.plugins.plugin_system import PrimitiveLeafPlugin, register_primitive

    @register_primitive(
        jaxpr_primitive="custom_vmap_call",
        jax_doc="jax.custom_batching.custom_vmap",
        onnx=[],
        since="0.17.1",
        context="primitives.core",
        component="custom_vmap_call",
        testcases=[],
    )
    class CustomVmapCall(PrimitiveLeafPlugin):
        def lower(self, ctx: Any, eqn: Any) -> None:
            called = eqn.params["call"]
            for variable, value in zip(called.jaxpr.constvars, called.consts, strict=True):
                ctx.bind_const_for_var(variable, np.asarray(value))
            for given, own in zip(eqn.invars, called.jaxpr.invars, strict=True):
                ctx.bind_value_for_var(own, ctx.get_value_for_var(given))
            lower_jaxpr_eqns(ctx, called.jaxpr, source="custom_vmap")
            for result, own in zip(eqn.outvars, called.jaxpr.outvars, strict=True):
                ctx.bind_value_for_var(result, ctx.get_value_for_var(own))


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


def _name_axes_once(graph: Any) -> None:
    """jax2onnx names the batch axis of an outer product twice in its result (``za,zb->zazb``), which is refused."""
    for node in graph.node:
        if node.op_type == "Einsum":
            (equation,) = (attribute for attribute in node.attribute if attribute.name == "equation")
            operands, result = equation.s.decode().split("->")
            equation.s = f"{operands}->{''.join(dict.fromkeys(result))}".encode()


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
