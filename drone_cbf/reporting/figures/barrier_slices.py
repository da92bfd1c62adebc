"""What a barrier learned from scans promises, beside the analytic one on the same points and the truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.figures import slice_axes, style
from drone_cbf.reporting.obstacles import Obstacles
from drone_cbf.reporting.tables import percent

SOURCES = ("student (neural, scan)", "analytic on the same points", "truth")
"""Titles of the panels."""
NEAR_SLICE = 0.3  # points farther than this above or below the slice are not drawn [m]
_POINT = {"marker": "o", "ls": "none", "ms": 3.2, "mfc": style.YELLOW, "mec": style.INK, "mew": 0.5}


@style.styled
def barrier_slices(
    x: Array,
    y: Array,
    student: Array,
    analytic: Array,
    truth: Array,
    *,
    obstacles: Obstacles,
    height: float,
    velocity: Array,
    drone_radius: float,
    points: Array | None = None,
) -> Figure:
    """h of the neural barrier on a scan, of the analytic barrier on the same points, and of the truth, on one scale.

    ``x`` (nx,) and ``y`` (ny,): increasing, world frame [m]; h (ny, nx) [m], NaN: not evaluated. All at ``height`` [m]
    and ``velocity`` (3,) [m/s]; obstacles as at the time of the scan. ``points``: the scan, world frame [m], (N, 3).
    Hatched: where h promises a stop that the truth denies. Raises ValueError where nothing can be compared.
    """
    x, y, velocity, *shown = (np.asarray(values, float) for values in (x, y, velocity, student, analytic, truth))
    _check(x, y, shown)
    title = f"Barrier h seen and true at height {height:.2f} m, speed {np.linalg.norm(velocity):.1f} m/s"
    figure = style.new_figure(12.6, slice_axes.figure_height(x, y) + 0.2, title)
    panels = figure.subplots(1, len(SOURCES), sharex=True, sharey=True)
    norm = slice_axes.centred_norm(np.stack(shown), least=1e-3)
    for axes, name, values in zip(panels, SOURCES, shown, strict=True):
        mesh = slice_axes.draw_values(axes, x, y, values, norm, style.SAFE_SCALE)
        slice_axes.draw_outlines(axes, x, y, obstacles, height)
        slice_axes.zero_contour(axes, x, y, values)
        if values is not shown[-1]:
            _compare(axes, x, y, values, shown[-1])
            _draw_points(axes, points, height)
        axes.set(xlabel="x [m]", aspect="equal")
        axes.set_title(name, pad=17.0)
    panels[0].set_ylabel("y [m]")
    slice_axes.draw_velocity(panels[0], x, y, velocity)
    style.colour_bar(figure, mesh, panels, "h [m]   red: cannot stop in time", extend="both", shrink=0.92, pad=0.01)
    figure.legend(handles=_legend(drone_radius, points is not None), loc="outside lower left", ncols=6)
    return figure


def false_promise(values: Array, truth: Array) -> npt.NDArray[np.bool_]:
    """Where h >= 0 although the true h is negative; false where either is not finite."""
    return (values >= 0.0) & (truth < 0.0)


def _compare(axes: Axes, x: Array, y: Array, values: Array, truth: Array) -> None:
    """The zero line of the truth, a hatch over false promises (gid "false promise"), and both shares of the area."""
    slice_axes.zero_contour(axes, x, y, truth, style.LINE, style.GREEN, "--")
    mask = false_promise(values, truth)
    if mask.any():
        hatched = axes.contourf(x, y, mask.astype(float), levels=[0.5, 1.5], colors="none", hatches=["////"])
        hatched.set_gid("false promise")
    axes.text(0.0, 1.015, _verdict(values, truth), transform=axes.transAxes, fontsize=style.SMALL)


def _verdict(values: Array, truth: Array) -> str:
    """Shares of the area in which both are known."""
    both = np.isfinite(values) & np.isfinite(truth)
    false = false_promise(values, truth)[both].mean()
    cautious = ((values < 0.0) & (truth >= 0.0))[both].mean()
    return f"false promise on {percent(float(false))}, needless caution on {percent(float(cautious))}"


def _check(x: Array, y: Array, shown: list[Array]) -> None:
    grid = (np.size(y), np.size(x))
    for name, line in (("x", x), ("y", y)):
        if line.ndim != 1 or len(line) < 2 or not (np.diff(line) > 0.0).all():
            raise ValueError(f"barrier_slices: {name} must hold at least two increasing coordinates; got {line[:4]}")
    for name, values in zip(("student", "analytic", "truth"), shown, strict=True):
        if values.shape != grid:
            raise ValueError(f"barrier_slices: {name} has shape {values.shape}, expected {grid} (y, x)")
        if not (np.isfinite(values) & np.isfinite(shown[-1])).any():
            raise ValueError(f"barrier_slices: {name} and truth share no finite value; nothing can be compared")


def _draw_points(axes: Axes, points: Array | None, height: float) -> None:
    if points is not None:
        near = np.asarray(points, float)[np.abs(np.asarray(points)[:, 2] - height) < NEAR_SLICE]
        axes.plot(near[:, 0], near[:, 1], gid="points", zorder=3, **_POINT)


def _legend(drone_radius: float, scanned: bool) -> list[Line2D | Patch]:
    zero, obstacle, missed = slice_axes.legend_handles(drone_radius)
    true = Line2D([], [], color=style.GREEN, lw=style.LINE, ls="--", label="h = 0 of the truth")
    false = Patch(fc="none", ec=style.INK, hatch="////", lw=0, label="false promise: h \u2265 0, truth < 0")
    points = Line2D([], [], label=f"scan within {NEAR_SLICE:g} m of z", **_POINT)
    return [zero, true, false, obstacle, missed, *([points] if scanned else [])]
