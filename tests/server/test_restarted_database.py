"""PostgreSQL is restarted under a run: it goes on, or stops in one line and can be resumed; every row is there once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.projects.test_faulty_stores import assert_whole, begun, start
from tests.stores import tracking
from tools.team_server import TeamServer, _mlflow, _postgres, as_system_user, free_port, missing, postgres_folder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture
def server(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[TeamServer, Path]]:
    """The server of the recipe, and the folder of its database."""
    folder = tmp_path_factory.mktemp("restarted")
    for place in (folder, folder.parent, folder.parent.parent):  # the database's own user must pass through
        place.chmod(0o711)
    with _postgres(folder / "postgres") as database, _mlflow(folder / "mlflow", database, free_port()) as started:
        with tracking(started.uri):
            for name, text in started.environment().items():
                monkeypatch.setenv(name, text)
            yield started, folder / "postgres" / "data"
            control("stop", folder / "postgres" / "data")  # the restarted one is no child of this process


def control(what: str, data: Path) -> None:
    """Stops or restarts the database as a power cut does: nobody is told, nothing is finished. Its options stay."""
    command = [f"{postgres_folder()}/pg_ctl", what, "-D", f"{data}", "-m", "immediate", "-w"]
    command += ["-l", f"{data.parent / 'restarted.log'}"] if what == "restart" else []
    for _ in range(3):  # on a busy machine the last processes of the one that was stopped still hold its memory
        done = subprocess.run([*as_system_user(), *command], capture_output=True, text=True, cwd=data.parent)
        if done.returncode == 0:
            return
        time.sleep(1.0)
    raise AssertionError(done.stdout + done.stderr)


def test_a_run_outlives_its_database(server: tuple[TeamServer, Path], tmp_path: Path) -> None:
    started, data = server
    settings = started.environment()
    process = start(tmp_path, store=settings)
    run_id = begun(process)
    for _ in range(2):
        control("restart", data)
        time.sleep(0.3)
    told = process.communicate(timeout=300)[1]
    assert "Traceback" not in told, told
    if process.returncode != 0:
        assert "counting failed: " in told and "resume_run" in told, told
        told = start(tmp_path, f"--resume_run={run_id}", store=settings).communicate(timeout=300)[1]
    assert_whole(run_id)
    assert (data.parent / "restarted.log").read_text().count("not properly shut down") == 2, "it was restarted"
