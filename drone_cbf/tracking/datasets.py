"""Scenes as MLflow datasets: a generator, its arguments, and a digest of both in place of files.

Two runs with the same digest used scenes of the same distribution, drawn from the same seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.dataset import Dataset
from mlflow.data.meta_dataset import MetaDataset

GENERATOR = "drone_cbf.scenes.families.make_scene_sampler"
DIGESTED_GENERATOR = "drone_cbf.physics.scenes.make_scene_sampler"
"""Its name when the first runs were recorded; part of digests, so that the same scenes keep their digest."""


def scene_dataset(scene: Mapping[str, Any], families: Sequence[str], seed: int, **further: Any) -> Dataset:
    """The scenes of a run as a dataset.

    ``scene`` is that section of the run's system, as plain values, ``families`` are the scene families in the order in
    which the generator draws them, and ``further`` all else that decides which scenes are drawn, such as their number.
    """
    settings = {"families": list(families), "seed": seed, **further, "scene": dict(scene)}
    source = CodeDatasetSource({"generator": GENERATOR, **settings})
    # MLflow's own MetaDataset leaves an abstract property open, which Python does not mind: it has no ABCMeta.
    return MetaDataset(source, name="+".join(families), digest=settings_digest(settings))  # type: ignore[abstract]


def settings_digest(settings: Mapping[str, Any]) -> str:
    """A short digest of plain settings; the order of keys does not matter, that of lists does."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{DIGESTED_GENERATOR}\n{text}".encode()).hexdigest()[:16]
