"""Blend of the analytic and the calibrated neural barrier; the curriculum sets the proportion."""

from collections.abc import Callable

import jax.numpy as jnp

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.analytic import Barrier, make_analytic_barrier
from drone_cbf.barrier.neural import BarrierParams, make_neural_barrier
from drone_cbf.config import SystemConfig

BlendedBarrier = Callable[[BarrierParams, Scalar, Scalar], Barrier]
"""(neural parameters, calibration margin [m], blend) -> barrier."""


def make_blended_barrier(system: SystemConfig) -> BlendedBarrier:
    """h = (1 - blend) h_analytic + blend (h_neural - factor margin) for ``blend`` in [0, 1].

    The factor is ``barrier.margin_factor``. Blend 0 is the analytic barrier alone, blend 1 the neural one alone.
    """
    analytic = make_analytic_barrier(system)
    neural, factor = make_neural_barrier(system), system.barrier.margin_factor

    def blended(params: BarrierParams, margin: Scalar, blend: Scalar) -> Barrier:
        blend = jnp.asarray(blend, jnp.float32)
        return lambda graph: (1.0 - blend) * analytic(graph) + blend * (neural(params)(graph) - factor * margin)

    return blended
