"""How a stage uses JAX on this machine: devices, compilation cache, garbage collection."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path

NO_FUSION_EMITTERS = "--xla_cpu_use_fusion_emitters=false"
"""A flag of XLA. Code from the fusion emitters runs no faster here and takes longer to compile: with and without them,
from nothing compiled, efficiency takes 61 and 54 s on two cores, the default joint training 147 and 126 s."""
MIDDLE_PER_FULL = 1000
"""Collections of the middle generation between two full ones (Python: 10); a run of minutes makes some hundred."""


def configure_jax(root: Path) -> None:
    """Keeps compiled programs between runs, in ``root/.jax_cache`` or in the user's cache folder.

    A CPU is used as several devices, one per core, and a batch of flights is divided among them: XLA parallelises
    single operations over the cores, and those of one flight are too small for that.
    """
    import jax

    if NO_FUSION_EMITTERS not in (flags := os.environ.get("XLA_FLAGS", "")):
        # The last one counts: the user's stays in force.
        os.environ["XLA_FLAGS"] = f"{NO_FUSION_EMITTERS} {flags}".strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(RuntimeError):  # a notebook or a test has computed already: it keeps the devices it has
        # The largest power of two that is at most the number of cores: it divides the usual batches.
        jax.config.update("jax_num_cpu_devices", 1 << (cores.bit_length() - 1))
    # A call stack for every operation of a program costs a tenth of the time before a stage's first step.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drone_cbf"
        folder = root / ".jax_cache" if os.access(root, os.W_OK) else fallback
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # Small programs too: a stage compiles dozens of them, and the next stage the same ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def collect_rarely() -> None:
    """Makes full garbage collections rare: each visits all that JAX has traced, and training waits half a second."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, MIDDLE_PER_FULL)


def device_name() -> str:
    """Kind and number of the devices that JAX uses."""
    import jax

    devices = jax.devices()
    return f"{len(devices)} x {devices[0].platform} ({devices[0].device_kind})"
