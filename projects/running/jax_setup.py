"""How a stage uses JAX on this machine: devices, compilation cache, garbage collection."""

from __future__ import annotations

import gc
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from drone_cbf.errors import ConfigError

NO_FUSION_EMITTERS = "--xla_cpu_use_fusion_emitters=false"
"""A flag of XLA. Code from the fusion emitters runs no faster here and takes longer to compile: with and without them,
from nothing compiled, efficiency takes 61 and 54 s on two cores, the default joint training 147 and 126 s."""
NO_YNN_FUSIONS = "--xla_cpu_experimental_ynn_fusion_type="
"""A flag of XLA. Products and sums of the few flights on one core are too small for YNNPACK's calls. With the emitters
off, as here, that is worth little: an efficiency update takes 0.96 times as long, a joint one as long as with them."""
MIDDLE_PER_FULL = 1000
"""Collections of the middle generation between two full ones (Python: 10); a run of minutes makes some hundred."""


NEEDED = {
    "jax_enable_x64": (False, "the library computes in float32"),
    "jax_debug_nans": (False, "NaN marks what is absent, as h where there is no filter"),
    "jax_debug_infs": (False, "infinity marks what is absent, as the distance to a surface where there is none"),
    "jax_numpy_dtype_promotion": ("standard", "the library mixes Python numbers and arrays"),
    "jax_numpy_rank_promotion": ("allow", "the library broadcasts"),
    "jax_default_prng_impl": ("threefry2x32", "recorded draws and stored keys are of this kind"),
}
"""Setting of JAX -> the value that runs need, and why; set by an environment variable of that name in capitals."""
DEVICE_COUNT = "xla_force_host_platform_device_count"
"""Flag of XLA with which people set the number of CPU devices."""


def configure_jax(root: Path) -> None:
    """Keeps compiled programs between runs, in ``root/.jax_cache`` or in the user's cache folder.

    A CPU is used as several devices, one per core, and a batch of flights is divided among them: XLA parallelises
    single operations over the cores, and those of one flight are too small for that. A number of devices that somebody
    has set stays.

    Raises:
        ConfigError: a setting of JAX under which no stage works.
    """
    import jax

    for name, (needed, reason) in NEEDED.items():
        if (found := getattr(jax.config, name, needed)) != needed:
            raise ConfigError(f"{name.upper()} = {found}: {reason}; unset it, or set it to {needed}")
    flags = os.environ.get("XLA_FLAGS", "")
    ours = [flag for flag in (NO_FUSION_EMITTERS, NO_YNN_FUSIONS) if flag not in flags.split()]
    # The last one counts: the user's stay in force.
    os.environ["XLA_FLAGS"] = " ".join((*ours, flags)).strip()
    if DEVICE_COUNT not in flags and jax.config.jax_num_cpu_devices < 1:  # type: ignore[attr-defined]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with suppress(RuntimeError):  # a notebook or a test has computed already: it keeps the devices it has
            # The largest power of two that is at most the number of cores: it divides the usual batches.
            jax.config.update("jax_num_cpu_devices", 1 << (cores.bit_length() - 1))
    # A call stack for every operation of a program costs a tenth of the time before a stage's first step.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        folder = root / ".jax_cache" if os.access(root, os.W_OK) else _users_cache()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # Small programs too: a stage compiles dozens of them, and the next stage the same ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _users_cache() -> Path:
    """A folder of this user, also where there is no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drone_cbf"
    except RuntimeError:  # neither HOME nor an entry of the user
        return Path(tempfile.gettempdir()) / f"drone_cbf-{os.getuid()}"


def collect_rarely() -> None:
    """Makes full garbage collections rare: each visits all that JAX has traced, and training waits half a second."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, MIDDLE_PER_FULL)


def device_name() -> str:
    """Kind and number of the devices that JAX uses; ConfigError if the platform that is asked for cannot be used."""
    import jax

    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where no backend of the platform is even known
        asked = jax.config.jax_platforms or "the default"  # type: ignore[attr-defined]
        reason = str(error).partition(" (set JAX_PLATFORMS")[0] or "no such device is known"
        raise ConfigError(
            f"JAX_PLATFORMS = {asked} cannot be used here ({reason}); unset it, or set it to cpu"
        ) from error
    several = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{len(devices)} x {devices[0].platform} ({devices[0].device_kind}){several}"
