"""Shape and type checks for every test, and a real MLflow store that tests share."""

from __future__ import annotations

import os

from jaxtyping import install_import_hook

import tests.type_checking  # noqa: F401  (the hook finds it by name, and imports only the package)

# Emitting fused loops takes half the time of compiling code that is not optimised. What is set wins.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_experimental_ynn_fusion_type=")

# Before anything of drone_cbf is imported: in the numerical code every annotation of type and shape is enforced.
NUMERICAL = ("arrays", "draws", "physics", "scenes", "perception", "barrier", "safety", "policy", "rollout")
NUMERICAL += ("objectives", "serving")
install_import_hook([f"drone_cbf.{name}" for name in NUMERICAL], "tests.type_checking.check")

import itertools  # noqa: E402
import sqlite3  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402

from projects.running.jax_setup import collect_rarely  # noqa: E402
from tests.lowering import share_contexts  # noqa: E402

if TYPE_CHECKING:
    from tests.projects.small_pipeline import SmallPipeline

# What was compiled once is not compiled again: by another test, by another process, or in the next run of the tests.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).resolve().parents[1] / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
# Also what is compiled while tests are collected; compiled_as_fits_the_tests decides for each file.
jax.config.update("jax_disable_most_optimizations", True)
# As the stages have it: no call stack for every operation of a program, and full garbage collections are rare (each
# visits all that JAX has traced, a second towards the end).
jax.config.update("jax_traceback_in_locations_limit", 0)
collect_rarely()
share_contexts()

UNOPTIMISED = ("training", "evaluation", "serving", "projects")
"""Folders whose tests compile much and run little: unoptimised code compiles in half the time. The other folders' tests
are about arithmetic itself, and ``make test-all`` runs them on code as users have it."""
OPTIMISED = ("test_surface_map.py", "test_continuity.py")
"""Files that compare two programs to the last bit, in which code that is not optimised may differ, or that run a
program far longer than they compile it."""

_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("browser", "tests of the MLflow UI (tests/browser)")
    group.addoption("--screenshots", metavar="FOLDER", help="keep the pictures that the browser test takes here")
    group.addoption("--store", metavar="URI", help="look at the runs of this store, in place of a small pipeline's")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The small pipeline is run first and looked at by others last: meanwhile nobody waits for it (with xdist, in this
    order only under ``--no-loadscope-reorder``)."""
    first = "tests/projects/test_pipeline.py"

    def turn(item: pytest.Item) -> int:
        if item.nodeid.startswith(first):
            return 0
        looks_on = {"small_pipeline", "ui"} & set(getattr(item, "fixturenames", ()))
        return 2 if looks_on else 1

    turns: dict[str, int] = {}
    for item in items:  # files stay together: each is given to one process
        file = item.nodeid.partition("::")[0]
        turns[file] = max(turns.get(file, 0), turn(item))
    items.sort(key=lambda item: turns[item.nodeid.partition("::")[0]])


@pytest.fixture(autouse=True, scope="module")
def compiled_as_fits_the_tests(request: pytest.FixtureRequest) -> None:
    is_quick = "not slow" in request.config.option.markexpr and request.path.name not in OPTIMISED
    jax.config.update("jax_disable_most_optimizations", is_quick or request.path.parent.name in UNOPTIMISED)


@pytest.fixture(autouse=True, scope="session")
def stores_that_need_not_survive_a_power_cut() -> Iterator[None]:
    """This process does not wait until the disk has what it writes to sqlite: several runs are written in each test."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def relax(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", relax)
    yield
    event.remove(Engine, "connect", relax)


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an initialised sqlite store: its first use takes a second, so all tests share it."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def small_pipeline(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> SmallPipeline:
    """A whole small pipeline, run once for all processes that run tests: the first runs it, the others wait."""
    from filelock import FileLock

    from tests.projects.small_pipeline import SMALL, SmallPipeline, mlflow_run

    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "small_pipeline"
    output = folder / "output.txt"
    with FileLock(f"{folder}.lock"):
        if not output.is_file():
            folder.mkdir(exist_ok=True)
            result = mlflow_run(folder, "pipeline", SMALL)
            assert result.returncode == 0, result.stdout + result.stderr
            output.write_text(result.stdout + result.stderr)
    return SmallPipeline(folder, output.read_text())


@pytest.fixture
def experiment(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """ID of a fresh experiment in the shared store, active for the test; nothing of it is left in the process."""
    import mlflow

    from tests.stores import tracking

    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(store_folder)
    with tracking(f"sqlite:///{store_folder}/mlflow.db"):
        name = f"experiment-{next(_numbers)}"
        created = mlflow.create_experiment(name, artifact_location=(store_folder / "artifacts" / name).as_uri())
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", created)
        yield created
        while mlflow.active_run() is not None:
            mlflow.end_run()
