"""The whole way under a real ``mlflow run``: small, but every stage, file and metric is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run

from drone_cbf.config import SystemConfig
from drone_cbf.tracking.checkpoints.store import load_checkpoint
from drone_cbf.tracking.queries.cells import cell_figures, evaluation_figures
from drone_cbf.tracking.runs.lineage import load_config
from drone_cbf.tracking.runs.presentation import EXPERIMENT, EXPERIMENT_NOTE
from projects.inputs.curriculum_files import available
from projects.running.launch import launch
from tests.projects.small_pipeline import STAGES, SmallPipeline, mlflow_run, stored_runs
from tests.stores import tracking


@dataclass(frozen=True)
class Finished:
    """The store that a pipeline left, and its runs by stage."""

    runs: dict[str, Run]
    output: str


@pytest.fixture(scope="module")
def finished(small_pipeline: SmallPipeline) -> Iterator[Finished]:
    with tracking(f"sqlite:///{small_pipeline.folder}/mlflow.db"):
        yield Finished(stored_runs(small_pipeline.folder), small_pipeline.output)


class TestPipeline:
    def test_four_finished_stages_are_nested_in_one_run_and_form_one_lineage(self, finished: Finished) -> None:
        runs = finished.runs
        assert set(runs) == {*STAGES, "pipeline"}
        experiments = {run.info.experiment_id for run in runs.values()}
        assert [mlflow.get_experiment(experiment).name for experiment in experiments] == [EXPERIMENT]
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        for stage, before in zip(STAGES, (None, *STAGES), strict=False):
            tags = runs[stage].data.tags
            assert tags["mlflow.parentRunId"] == runs["pipeline"].info.run_id
            assert tags.get("drone_cbf.parent_run") == (runs[before].info.run_id if before else None)

    def test_every_stage_has_the_same_system_in_file_and_params(self, finished: Finished) -> None:
        expected = SystemConfig.model_validate(
            {"policy": {"features": 16}, "barrier": {"features": 8}, "physics": {"lag_time": 0.1}}
        )
        for stage in STAGES:
            run = finished.runs[stage]
            assert SystemConfig.model_validate(load_config(run.info.run_id)["system"]) == expected
            assert float(run.data.params["physics.lag_time"]) == 0.1 and run.data.params["policy.features"] == "16"
        assert finished.runs["efficiency"].data.params["physics.lag_time"] == "1e-1", "as given to mlflow run"
        assert finished.runs["safety"].data.params["seed"] == "5"

    def test_the_contracts_metrics_are_there(self, finished: Finished) -> None:
        wanted = {
            "efficiency": {"loss/total", "grad_norm/policy"},
            "pretrain_cbf": {"loss/cbf_value", "loss/cbf_gradient", "grad_norm/cbf", "final/margin"},
            "safety": {
                "loss/total",
                "grad_norm/policy",
                "grad_norm/cbf",
                "filter/relax_rate",
                "filter/intervention_rate",
            },
            "evaluate": {
                *(
                    f"eval/{name}"
                    for name in ("success_rate", "collision_rate", "collision_rate_ub99", "max_violation")
                ),
                *(f"eval/{name}" for name in ("violation_p999", "relax_rate", "final_distance_mean")),
                "eval_unfiltered/collision_rate",
                "eval/random_cloud/noise_0.02/random/success_rate",
            },
            "pipeline": {"eval/success_rate", "eval/collision_rate", "eval_unfiltered/collision_rate"},
        }
        for stage, names in wanted.items():
            assert names <= set(finished.runs[stage].data.metrics), stage
        for name in ("grad_norm/policy", "grad_norm/cbf"):
            assert finished.runs["safety"].data.metrics[name] > 0.0

    def test_an_evaluation_logs_what_people_plot_and_its_table_holds_all(self, finished: Finished) -> None:
        run = finished.runs["evaluate"]
        assert len(run.data.metrics) <= 150
        every = evaluation_figures(run)
        assert len(every) == 2 * 24 + 18 * 23, "worst cells, and each figure of each cell with the filter on and off"
        cells = cell_figures(run.info.run_id)
        for name in cells.keys() & run.data.metrics.keys():
            assert cells[name] == run.data.metrics[name], "the same bits in both places"

    def test_an_evaluation_flies_behind_the_filter_and_without_it(self, finished: Finished) -> None:
        figures = finished.runs["evaluate"].data.metrics
        assert figures["eval/intervention_rate"] > 0.0 == figures["eval_unfiltered/intervention_rate"]
        assert figures["eval/effort"] != figures["eval_unfiltered/effort"]

    def test_an_evaluation_says_what_it_measured_and_is_a_logged_model(self, finished: Finished) -> None:
        run, trained = finished.runs["evaluate"], finished.runs["safety"].info.run_id
        origin = {"curriculum": "small", "training_seed": "5"}
        for name, value in origin.items():
            assert run.data.params[name] == run.data.tags[f"drone_cbf.{name}"] == value
        (model,) = mlflow.search_logged_models([run.info.experiment_id], output_format="list")
        assert (model.name, model.source_run_id, model.status) == ("small-seed5", run.info.run_id, "READY")
        assert origin.items() <= model.params.items() and model.params["training_run"] == trained
        linked = {metric.key: metric for metric in model.metrics}
        assert linked["eval/success_rate"].value == run.data.metrics["eval/success_rate"]
        assert linked["eval/success_rate"].dataset_digest == run.inputs.dataset_inputs[0].dataset.digest
        assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]

    def test_the_experiments_page_explains_every_group_of_metrics(self, finished: Finished) -> None:
        groups = {name.split("/")[0] for run in finished.runs.values() for name in run.data.metrics}
        assert {"loss", "eval"} <= groups and not {"system", "adaptive"} & groups, (
            "nothing that leads what people look at"
        )
        assert [group for group in sorted(groups) if f"`{group}`" not in EXPERIMENT_NOTE] == []

    def test_checkpoints_load_and_hold_what_the_stage_says(self, finished: Finished) -> None:
        for stage, provides in (("efficiency", "policy"), ("pretrain_cbf", "barrier"), ("safety", "policy,barrier")):
            run = finished.runs[stage]
            assert run.data.tags["drone_cbf.provides"] == provides
            checkpoint = load_checkpoint(run.info.run_id, "final")
            for part in provides.split(","):
                holder = checkpoint if part in checkpoint else checkpoint["state"]
                assert all(np.isfinite(leaf).all() for leaf in leaves(holder[part]))
            assert ("margin" in checkpoint) is ("barrier" in provides)

    def test_every_run_has_a_description_and_the_pipelines_shows_the_lineage(self, finished: Finished) -> None:
        for run in finished.runs.values():
            assert "|" in run.data.tags["mlflow.note.content"]
        note = finished.runs["pipeline"].data.tags["mlflow.note.content"]
        for stage in STAGES:
            assert f"runs/{finished.runs[stage].info.run_id}" in note

    def test_the_output_is_quiet_where_there_is_no_terminal(self, finished: Finished) -> None:
        assert "\x1b[" not in finished.output and "Traceback" not in finished.output


def leaves(tree: dict[str, object]) -> Iterator[np.ndarray]:
    for value in tree.values():
        if isinstance(value, dict):
            yield from leaves(value)
        else:
            yield np.asarray(value)


@pytest.mark.slow
def test_a_wrong_parameter_under_mlflow_run_is_one_line_and_a_failed_run(tmp_path: Path) -> None:
    result = mlflow_run(tmp_path, "pipeline", {"curriculum": "defualt"})
    assert result.returncode != 0
    check_refusal(result.stderr, stored_runs(tmp_path)["pipeline"])


def test_a_wrong_parameter_is_one_line_and_a_failed_run(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch("pipeline", ["--curriculum=defualt"]) == 1
    (run,) = mlflow.search_runs([experiment], output_format="list")
    check_refusal(capsys.readouterr().err, run)


def check_refusal(told: str, run: Run) -> None:
    plain = ", ".join(name for name in available() if not name.startswith("ablations/"))
    message = f"curriculum 'defualt' does not exist; did you mean default? Else name one of {plain}, an ablation"
    assert f"pipeline failed: {message}" in told and "Traceback" not in told
    assert run.info.status == "FAILED" and message in run.data.tags["drone_cbf.failure"]
