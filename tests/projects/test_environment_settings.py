"""What somebody set in the environment is honoured, or refused on one line; it is never overridden in silence."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from drone_cbf.errors import ConfigError
from projects.running import jax_setup
from projects.running.jax_setup import NEEDED, configure_jax, device_name
from projects.running.launch import launch
from tests.projects.small_pipeline import ROOT, stored_runs

OTHER = {"jax_numpy_dtype_promotion": "strict", "jax_numpy_rank_promotion": "raise", "jax_default_prng_impl": "rbg"}
SMALL = ("--steps=1", "--batch=2", "--horizon=3", "--report_flights=2", "--scenes=fixed_ring", "--policy.features=8")


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What is set of JAX while the test runs, without setting it."""
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    found: dict[str, Any] = {}
    monkeypatch.setattr(jax.config, "update", found.__setitem__)
    return found


@pytest.mark.parametrize("name", NEEDED)
def test_a_setting_of_jax_under_which_no_stage_works_is_refused_by_name(name: str) -> None:
    needed = NEEDED[name][0]
    jax.config.update(name, OTHER.get(name, True))
    try:
        with pytest.raises(ConfigError, match=f"{name.upper()} = .*; unset it, or set it to {needed}") as caught:
            configure_jax(ROOT)
    finally:
        jax.config.update(name, needed)
    assert str(caught.value).isprintable()


def test_a_number_of_devices_that_somebody_set_stays(monkeypatch: pytest.MonkeyPatch, updates: dict[str, Any]) -> None:
    flag = "--xla_force_host_platform_device_count=4"
    monkeypatch.setenv("XLA_FLAGS", flag)
    configure_jax(ROOT)
    assert "jax_num_cpu_devices" not in updates and os.environ["XLA_FLAGS"].endswith(flag)
    monkeypatch.setenv("XLA_FLAGS", "")
    configure_jax(ROOT)
    assert updates.pop("jax_num_cpu_devices") >= 1
    monkeypatch.setattr(type(jax.config), "jax_num_cpu_devices", 3, raising=False)
    configure_jax(ROOT)
    assert "jax_num_cpu_devices" not in updates, "as JAX_NUM_CPU_DEVICES=3"


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (RuntimeError("Unable to initialize backend 'cuda':\nno device (set JAX_PLATFORMS='' to choose)"), "no device"),
        (AssertionError(), "no such device is known"),
    ],
)
def test_a_platform_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, reason: str
) -> None:
    def no_device() -> None:
        raise raised

    monkeypatch.setattr(jax, "devices", no_device)
    with pytest.raises(ConfigError, match=f"JAX_PLATFORMS = .* cannot be used here .*{reason}.; unset it") as caught:
        device_name()
    assert str(caught.value).isprintable()


def test_without_a_home_compiled_programs_have_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert jax_setup._users_cache().name.startswith("drone_cbf-")


def test_a_terminal_without_the_character_of_a_unit_shows_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii", write_through=True))
    assert launch("efficiency", ["--help"]) == 0
    print("effort [m²/s³] – ≤ 1")
    assert shown.getvalue().endswith(b"effort [m\\xb2/s\\xb3] \\u2013 \\u2264 1\n")


def stage_under(folder: Path, settings: dict[str, str], before: str = "") -> subprocess.CompletedProcess[str]:
    """A tiny efficiency stage with ``settings``, of which an empty one is unset, after the shell command ``before``."""
    folder.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "JAX_", "XLA_", "LC_")) and k != "LANG"}
    environment = {k: v for k, v in {**kept, **settings}.items() if v}
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    words = f"{before} exec {sys.executable} -m projects.efficiency {' '.join(SMALL)}"
    return subprocess.run(
        ["bash", "-c", words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


REFUSED = {
    "JAX_ENABLE_X64": ("1", "JAX_ENABLE_X64 = True"),
    "JAX_DEBUG_NANS": ("1", "JAX_DEBUG_NANS = True"),
    "JAX_PLATFORMS": ("cuda", "JAX_PLATFORMS = cuda cannot be used here"),
}


@pytest.mark.slow
def test_a_real_stage_is_refused_in_one_line_or_does_as_it_is_told(tmp_path: Path) -> None:
    for name, (value, told) in REFUSED.items():
        done = stage_under(tmp_path / name, {name: value})
        lines = [line for line in done.stderr.splitlines() if "failed" in line or "Traceback" in line]
        assert done.returncode == 1 and len(lines) == 1 and lines[0].startswith(f"efficiency failed: {told}"), (
            done.stderr
        )
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    poor = {**ascii_only, "HOME": "", "XDG_CACHE_HOME": "", "PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    poor |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = stage_under(tmp_path / "poor", poor, before="ulimit -n 256;")
    assert done.returncode == 0, done.stderr
    run = stored_runs(tmp_path / "poor")["efficiency"]
    assert run.data.tags["drone_cbf.device"].startswith("4 x cpu")
