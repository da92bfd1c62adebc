"""Recorded runs, written straight into a store: policies with their evaluations, without training anything."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

import numpy as np
import yaml
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from drone_cbf.config import SystemConfig
from drone_cbf.reporting.figures.style import new_figure
from drone_cbf.reporting.pages.document import picture_of
from drone_cbf.tracking.runs.stage_run import StageRun

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
BOTH = {"collision_rate": 0.0, "rollouts": 64.0}
CELLS = [
    {"scene": scene, "noise": noise, "goals": "random", "filtered": filtered, "success_rate": rate} | BOTH
    for scene in ("fixed_ring", "forest")
    for noise in (0.0, 0.05)
    for filtered, rate in ((True, 0.98), (False, 0.75))
]  # fmt: skip


@functools.cache
def _picture() -> bytes:
    """Drawn once: drawing it takes longer than all the rest of an evaluation."""
    figure = new_figure(4.0, 3.0, "flights")
    figure.subplots().plot(np.arange(5))
    return picture_of(figure, "flights").png


def record(
    experiment: str,
    stage: str,
    parameters: dict[str, object],
    parent: str | None = None,
    system: SystemConfig = SystemConfig(),
    **more: str,
) -> str:
    """A run of ``stage``, still RUNNING, with its settings; ``more`` are tags ``drone_cbf.<name>``."""
    client = MlflowClient()
    tags = {"stage": stage, "version.jax": "0.10.2", "device": "1 x cpu (cpu)", "environment": "venv", **more}
    tags |= {"parent_run": parent} if parent else {}
    run_id = client.create_run(
        experiment, tags={f"drone_cbf.{k}": v for k, v in tags.items()}, run_name=stage
    ).info.run_id
    client.set_tag(run_id, "mlflow.source.git.commit", "0123456789abcdef")
    config = {"stage": stage, "parameters": {**parameters, **({"parent_run": parent} if parent else {})}}
    content = {**config, "system": system.model_dump(mode="json")}
    client.log_text(run_id, yaml.dump(content, Dumper=DUMPER), "config.yaml")
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    return run_id


def policy(
    experiment: str,
    curriculum: str,
    seed: int,
    *,
    lag: float = 0.0,
    loss: str = "loss/cbf_value",
    settings: dict[str, object] | None = None,
    **given: object,
) -> str:
    """A finished safety run whose loss falls while the blend rises to 1; ``settings``: the curriculum's system."""
    client = MlflowClient()
    groups = SystemConfig().model_dump()
    for name, value in (settings or {}).items():
        group, field = name.split(".")
        groups[group][field] = value
    system = SystemConfig.model_validate(groups)
    parameters = {"seed": seed, "batch": 64, **given}
    run_id = record(experiment, "safety", parameters, system=system, curriculum=curriculum)
    content = {"name": curriculum, "lag": lag, **({"system": settings} if settings else {})}
    client.log_text(run_id, json.dumps(content), "curriculum.json")
    rows = []
    for step in range(20):
        blend = 0.0 if step < 10 else 1.0
        values = {loss: 2.0 - blend + 0.1 * seed, "curriculum/blend": blend, "loss/total": 5.0 / (step + 1)}
        rows += [Metric(name, value, step, step) for name, value in values.items()]
    client.log_batch(run_id, metrics=rows)
    client.set_terminated(run_id)
    return run_id


def evaluation(
    experiment: str,
    parent: str,
    success: float,
    rollouts: int = 64,
    blend: float = 1.0,
    cells: list[dict[str, object]] = CELLS,
    scenarios: str = "fixed_ring,random_cloud",
    **given: object,
) -> str:
    """A finished evaluation with a table of cells and a picture of flights."""
    client = MlflowClient()
    asked = {"rollouts": rollouts, "seed": 1000, "blend": blend, "scenarios": scenarios, **given}
    run_id = record(experiment, "evaluate", asked, parent)
    figures = {"success_rate": success, "collision_rate": 0.0, "relax_rate": 1e-4, "max_violation": 2.0 - success}
    figures |= {"violation_p999": 0.1, "final_distance_p95": 0.05, "collisions": 0.0, "rollouts": 256.0}
    figures |= {"collision_rate_total_ub99": 0.017}
    rows = [Metric(f"eval/{name}", value, 0, 0) for name, value in figures.items()]
    rows += [
        Metric("eval_unfiltered/success_rate", 0.75, 0, 0),
        Metric("eval/forest/noise_0/random/success_rate", 1.0, 0, 0),
    ]
    client.log_batch(run_id, metrics=rows)
    columns = {key: [cell[key] for cell in cells] for key in cells[0]}
    StageRun(run_id, experiment, "evaluate").log_table(columns, "tables/cells.json")
    with tempfile.TemporaryDirectory() as folder:
        (picture := Path(folder) / "forest_filter_on_off.png").write_bytes(_picture())
        client.log_artifact(run_id, str(picture), "figures")
    client.set_terminated(run_id)
    return run_id
