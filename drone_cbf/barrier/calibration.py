"""Calibration of the neural barrier against the analytic one, and of the analytic one against true distance."""

import math
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from drone_cbf.arrays import Scalar, safe_norm
from drone_cbf.barrier.analytic import Barrier
from drone_cbf.barrier.lessons import Lesson, sobolev_gradient, velocity_scale
from drone_cbf.config import SystemConfig
from drone_cbf.errors import TrainingError

CONFIDENCE = 0.999  # Quantile of the over-estimate covered by the margin, unless the system says otherwise
BOUNDARY = 0.3  # States with |h| below this count as near the boundary [m]


@struct.dataclass
class Comparison:
    """Values and gradients of both barriers at one state, compared."""

    analytic: Scalar  # h of the teacher [m]
    neural: Scalar  # h without margin [m]
    cosine: Scalar  # Cosine between the gradients with respect to (p, v) in the units of the Sobolev loss


def make_comparison(system: SystemConfig) -> Callable[[Barrier, Lesson], Comparison]:
    """Function (neural, lesson) -> :class:`Comparison`."""
    scale = velocity_scale(system)

    def compare(neural: Barrier, lesson: Lesson) -> Comparison:
        value, gradient = sobolev_gradient(neural, lesson.graph, scale)
        cosine = jnp.dot(lesson.gradient, gradient) / (safe_norm(lesson.gradient) * safe_norm(gradient))
        return Comparison(analytic=lesson.value, neural=value, cosine=cosine)

    return compare


def calibration_margin(comparison: Comparison, confidence: float = CONFIDENCE) -> float:
    """Quantile ``confidence``, at least 0, of h_neural - h_teacher near the boundary [m]; infinite without states
    there."""
    analytic, neural = np.asarray(comparison.analytic), np.asarray(comparison.neural)
    near = np.abs(analytic) < BOUNDARY
    if not near.any():
        return float("inf")
    return max(0.0, float(np.quantile((neural - analytic)[near], confidence)))


def usable_margin(report: Mapping[str, float]) -> float:
    """The margin of a calibration report [m].

    Raises:
        TrainingError: the margin is not finite; a filter that subtracts it would always brake.
    """
    margin = report["margin"]
    if not math.isfinite(margin):
        raise TrainingError(
            f"the barrier cannot be calibrated: none of {report['states']:.0f} held-out states has |h| < {BOUNDARY} m; "
            "raise report_flights or the horizon, so that flights come near obstacles"
        )
    return margin


def calibration_report(comparison: Comparison, confidence: float = CONFIDENCE) -> dict[str, float]:
    """Errors near the boundary [m], gradient cosine, and the number of states; ``confidence`` is that of the margin."""
    analytic, neural, cosine = (np.asarray(x) for x in (comparison.analytic, comparison.neural, comparison.cosine))
    near = np.abs(analytic) < BOUNDARY
    error = (neural - analytic)[near] if near.any() else np.full(1, np.nan)
    return {
        "boundary_error_mean": float(np.abs(error).mean()),
        "boundary_error_p99": float(np.quantile(np.abs(error), 0.99)),
        "boundary_overestimate_p99": float(np.quantile(error, 0.99)),
        "gradient_cosine": float(cosine[near].mean()) if near.any() else float("nan"),
        "gradient_cosine_p01": float(np.quantile(cosine[near], 0.01)) if near.any() else float("nan"),
        "margin": calibration_margin(comparison, confidence),
        "states": float(analytic.size),
        "states_near_boundary": float(near.sum()),
    }


def stratum_report(comparison: Comparison) -> dict[str, float]:
    """Metrics of one stratum of held-out states: errors near the boundary and over all states [m], gradient cosine."""
    report = calibration_report(comparison)
    error = np.asarray(comparison.neural) - np.asarray(comparison.analytic)
    kept = ("boundary_error_mean", "boundary_error_p99", "boundary_overestimate_p99", "gradient_cosine")
    return {
        **{name: report[name] for name in kept},
        "value_error_mean": float(np.abs(error).mean()),
        "states_near_boundary": report["states_near_boundary"],
    }


def braking_audit(barrier: ArrayLike, clearance: ArrayLike) -> dict[str, float]:
    """``barrier - clearance`` (both [m], same states): mean, standard deviation and maximum; and the correlation.

    At rest the two should differ only by safety margin and bias of the soft minimum, at speed also by braking distance.
    """
    difference = np.asarray(barrier) - np.asarray(clearance)
    return {
        "audit_difference_mean": float(difference.mean()),
        "audit_difference_std": float(difference.std()),
        "audit_difference_max": float(difference.max()),
        "audit_correlation": float(np.corrcoef(np.asarray(barrier), np.asarray(clearance))[0, 1]),
    }
