"""The file from which MLflow loads a registered policy ("models from code"); it is stored with each version.

``mlflow.pyfunc.load_model("models:/drone-policy@champion").predict(observations)`` and ``mlflow models serve`` run it.
The version carries the package ``drone_cbf`` of its day. It is imported from there under a name of its own, with all
that it imports from itself: versions of different code, and the installed package, do not meet in one process.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import mlflow
import pandas

PACKAGE = "drone_cbf"
ARTIFACT = "policy"
REMEDY = "register the policy again"


class StoredPolicy(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]  # mlflow loads it lazily
    """A version, answering with the code that is stored in it."""

    def load_context(self, context: Any) -> None:
        artifact = Path(context.artifacts[ARTIFACT])
        name = import_stored(artifact.parents[1], artifact / "manifest.json")
        self.answer = importlib.import_module(f"{name}.api.registered_policies").serve(artifact)

    def predict(
        self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Answers a batch. By this hint MLflow hands over what was sent as it is, tables or not; others it checks."""
        return self.answer(model_input)


def import_stored(model: Path, manifest: Path) -> str:
    """Verifies the code stored in the folder ``model`` and returns the name under which it can be imported.

    Raises ImportError if a file is missing, extra or altered.
    """
    try:
        expected = dict(json.loads(manifest.read_text())["code"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImportError(f"{manifest} is missing or altered: it does not list the version's code; {REMEDY}") from error
    found = {name: hashlib.sha256(content).hexdigest() for name, content in stored_files(model).items()}
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        count = f"{len(wrong)} of {len(expected)} files of code differ from {manifest.name}"
        raise ImportError(f"{wrong[0]} in {model} is missing or altered ({count}); {REMEDY}")
    name = f"{PACKAGE}_{hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest()[:12]}"
    known: list[Any] = [finder for finder in sys.meta_path if getattr(finder, "name", None) == name]
    for finder in known:  # the same code, loaded before from a folder that may be gone
        finder.folder = model / "code" / PACKAGE
    if not known:
        sys.meta_path.insert(0, StoredCode(name, model / "code" / PACKAGE))
    return name


def stored_files(model: Path) -> dict[str, bytes]:
    """This file and those of the package, by path relative to ``model``; not what Python keeps beside them."""
    files = [model / Path(__file__).name, *(model / "code").rglob("*")]
    found = [file for file in files if file.is_file() and file.parent.name != "__pycache__"]
    return {file.relative_to(model).as_posix(): file.read_bytes() for file in found}


class StoredCode:
    """Finds the modules of one stored package under another name."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._builtins = {**vars(builtins), "__import__": self._import}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] != self.name:
            return None
        base = self.folder.joinpath(*name.split(".")[1:])
        for file, places in ((base / "__init__.py", [str(base)]), (base.with_suffix(".py"), None)):
            if file.is_file():
                loader = Loader(name, str(file), self._builtins)
                return importlib.util.spec_from_file_location(
                    name, file, loader=loader, submodule_search_locations=places
                )
        return None

    def _import(
        self, name: str, scope: Any = None, local: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        """``import`` as the stored modules do it: their package's name means the stored package."""
        if not level and name.partition(".")[0] == PACKAGE:
            name = self.name + name.removeprefix(PACKAGE)
        return builtins.__import__(name, scope, local, fromlist, level)


class Loader(SourceFileLoader):
    """Runs a module with the imports of its package, from its source alone."""

    def __init__(self, name: str, path: str, names: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._names = names

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._names
        super().exec_module(module)


mlflow.models.set_model(StoredPolicy())
