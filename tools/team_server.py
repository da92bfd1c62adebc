"""A throw-away team server on this machine: PostgreSQL, and an MLflow server with proxied artifacts and basic auth.

    python -m tools.team_server [PORT]

For trying out docs/team-server.md before a real one is set up; its test and benchmarks/logging_cost.py use it too. All
of it lies in a temporary folder, which is deleted at the end (Ctrl-C).
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tools.servers import free_port, mlflow_server, running

ADMIN = "admin"
DATABASES = ("mlflow", "mlflow_auth")
"""Runs and models; users and permissions."""
AUTH_INI = f"""\
[mlflow]
default_permission = MANAGE
database_uri = {{database}}
admin_username = {ADMIN}
auth_cache_ttl_seconds = 60
"""
SYSTEM_USER = "postgres"
"""Who runs PostgreSQL where this script is run by root."""


@dataclass(frozen=True)
class TeamServer:
    """A running MLflow server."""

    uri: str
    admin_password: str

    def environment(self, user: str = ADMIN, password: str | None = None) -> dict[str, str]:
        """What a colleague's shell holds to work with the server."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": self.admin_password if password is None else password,
        }


def missing() -> str | None:
    """Why no team server can be started here, or None."""
    absent = [name for name in ("psycopg2", "flask_wtf") if find_spec(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed; run: pip install -e '.[server]' -c constraints.txt"
    if postgres_folder() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and SYSTEM_USER not in (user.pw_name for user in pwd.getpwall()):
        return f"PostgreSQL refuses to run as root, and there is no user {SYSTEM_USER}"
    return None


def postgres_folder() -> Path | None:
    """Where initdb and postgres are: on PATH, or where Debian puts them (the newest version)."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: float(file.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def team_server(port: int | None = None) -> Iterator[TeamServer]:
    """Starts both servers on the loopback address, and ends them.

    Raises:
        RuntimeError: one of them cannot be started; the message says why.
    """
    reason = missing()
    if reason is not None:
        raise RuntimeError(reason)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="team-server-")))
        folder.chmod(0o711)  # the system user must pass through
        database = stack.enter_context(_postgres(folder / "postgres"))
        yield stack.enter_context(_mlflow(folder / "mlflow", database, port or free_port()))


def as_system_user() -> list[str]:
    """What a command for PostgreSQL begins with: as root, the change to its own user."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={SYSTEM_USER}", f"--regid={SYSTEM_USER}", "--init-groups"]


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    """Address of a fresh PostgreSQL that holds our databases; a database's name completes it."""
    binaries = postgres_folder()
    folder.mkdir(mode=0o700)
    password, port, data = secrets.token_urlsafe(16), free_port(), folder / "data"
    (folder / "password").write_text(password)
    other_user = as_system_user()
    if other_user:
        for path in (folder, folder / "password"):
            shutil.chown(path, SYSTEM_USER, SYSTEM_USER)
    initdb = [f"{binaries}/initdb", "-D", f"{data}", "-U", "mlflow", "--auth=scram-sha-256", "--encoding=UTF8"]
    _call([*other_user, *initdb, "--no-sync", f"--pwfile={folder / 'password'}"])
    options = ["listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}"]
    server = [f"{binaries}/postgres", "-D", f"{data}", *(word for option in options for word in ("-c", option))]
    client = ["-h", "127.0.0.1", "-p", str(port)]

    def ready() -> bool:
        return subprocess.run([f"{binaries}/pg_isready", *client], capture_output=True, check=False).returncode == 0

    with running([*other_user, *server], folder / "postgres.log", ready):
        for name in DATABASES:
            _call([f"{binaries}/createdb", *client, "-U", "mlflow", name], {"PGPASSWORD": password})
        yield f"postgresql+psycopg2://mlflow:{password}@127.0.0.1:{port}"


@contextmanager
def _mlflow(folder: Path, database: str, port: int) -> Iterator[TeamServer]:
    folder.mkdir(mode=0o700)
    runs, users = (f"{database}/{name}" for name in DATABASES)
    settings = folder / "auth.ini"
    settings.write_text(AUTH_INI.format(database=users))
    password = secrets.token_urlsafe(16)
    environment = {
        "MLFLOW_BACKEND_STORE_URI": runs,  # with its password not on the command line, which every user can list
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
    }
    options = ["--app-name", "basic-auth", "--serve-artifacts"]
    options += ["--artifacts-destination", str(folder / "artifacts")]
    with mlflow_server(options, folder / "mlflow.log", port, environment) as uri:
        yield TeamServer(uri, password)


def _call(command: Sequence[str], settings: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env={**os.environ, **(settings or {})}, capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def main(arguments: Sequence[str]) -> None:
    if arguments and not (arguments[0].isdigit() and 0 < int(arguments[0]) < 65536):
        sys.exit(f"team_server: PORT = {arguments[0]} is no port; give a number from 1 to 65535")
    port = int(arguments[0]) if arguments else None
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that the servers are ended then, too
    print("Starting PostgreSQL and the MLflow server", file=sys.stderr)
    with team_server(port) as server:
        print("\n".join(f"export {name}={text}" for name, text in server.environment().items()))
        print("Paste these lines into another shell; Ctrl-C here ends the server and deletes it.", file=sys.stderr)
        while True:
            time.sleep(3600.0)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RuntimeError as error:
        sys.exit(f"team_server: {error}")
    except KeyboardInterrupt:
        print("ended", file=sys.stderr)
