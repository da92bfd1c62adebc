"""The pinned versions: read them, compare them with what is installed, write them.

``python tools/pins.py write`` (``make pins``) rewrites constraints.txt from the running environment and renews the
fingerprint in conda.yaml, by which MLflow and conda notice that the environment must be rebuilt.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FINGERPRINT = re.compile(r"^# pins: sha256:\w+$", re.MULTILINE)


def requirements(file: Path) -> Iterator[Requirement]:
    """The requirements of a pip file, comments and blank lines left out."""
    for line in file.read_text().splitlines():
        text = line.split("#", 1)[0].strip()
        if text:
            yield Requirement(text)


def fingerprint(root: Path = ROOT) -> str:
    """Changes whenever a pinned version changes, and only then."""
    lines = sorted(str(r) for name in ("requirements.txt", "constraints.txt") for r in requirements(root / name))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def mismatch(requirement: Requirement, must_exist: bool = True) -> str | None:
    """How the installed package differs from ``requirement``, or None."""
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    try:
        installed = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement} is not installed" if must_exist else None
    if requirement.specifier.contains(installed, prereleases=True):
        return None
    return f"{requirement.name} is {installed}, pinned {requirement.specifier}"


def conda_mismatches(conda_yaml: Path) -> list[str]:
    """What the running environment lacks of a conda.yaml: its Python, its pip requirements and constraint files."""
    import yaml

    found: list[str | None] = []
    for dependency in yaml.safe_load(conda_yaml.read_text())["dependencies"]:
        for text in dependency["pip"] if isinstance(dependency, dict) else [dependency]:
            option, _, name = text.partition(" ")
            if option in ("-r", "-c"):
                found += [mismatch(r, option == "-r") for r in requirements(conda_yaml.parent / name.strip())]
            elif canonicalize_name(Requirement(text).name) == "python":
                found.append(_python_mismatch(Requirement(text).specifier))
            else:
                found.append(mismatch(Requirement(text)))
    return [text for text in found if text is not None]


def _python_mismatch(specifier: SpecifierSet) -> str | None:
    running = ".".join(map(str, sys.version_info[:3]))
    return None if specifier.contains(running) else f"Python is {running}, pinned {specifier}"


def write(root: Path = ROOT) -> None:
    """Records the running environment in constraints.txt and the new fingerprint in conda.yaml."""
    constraints, conda_yaml = root / "constraints.txt", root / "conda.yaml"
    freeze = [sys.executable, "-m", "pip", "freeze", "--exclude-editable", "--exclude", "drone_cbf"]
    header = [line for line in constraints.read_text().splitlines() if line.startswith("#")]
    packages = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout.split("\n")
    constraints.write_text("\n".join([*header, *filter(None, packages)]) + "\n")
    write_fingerprint(conda_yaml)


def write_fingerprint(conda_yaml: Path) -> None:
    """Puts the fingerprint of the pins beside ``conda_yaml`` into its comment."""
    line = f"# pins: sha256:{fingerprint(conda_yaml.parent)}"
    conda_yaml.write_text(FINGERPRINT.sub(line, conda_yaml.read_text()))


if __name__ == "__main__":
    if sys.argv[1:] != ["write"]:
        sys.exit("usage: python tools/pins.py write")
    write()
