"""Of two that want the same, the first has it and the second is told who does."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from drone_cbf.errors import LineageError
from drone_cbf.tracking.registry.judgement import find_judged, promote_judged
from drone_cbf.tracking.registry.versions import champion
from drone_cbf.tracking.runs.resuming import taking_over
from drone_cbf.tracking.runs.stage_run import stage_run
from tests.tracking.test_lineage import make_run

PROJECT = Path(__file__).resolve().parents[2]


def test_of_two_that_resume_one_run_the_second_is_told_that_it_runs(experiment: str) -> None:
    run_id = make_run(experiment, "toy", "KILLED")
    taken, refused = [], []
    start = threading.Barrier(2)

    def resume() -> None:
        start.wait()
        try:
            with taking_over(run_id, "toy"):
                taken.append(run_id)
                MlflowClient().update_run(run_id, status="RUNNING")
        except LineageError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=resume) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert taken == [run_id]
    assert len(refused) == 1 and refused[0].startswith(f"resume_run {run_id} is still running (process ")


def test_a_run_that_is_refused_to_a_second_resumption_goes_on(experiment: str) -> None:
    run_id = make_run(experiment, "toy", "KILLED")
    with stage_run("toy", PROJECT, resume=run_id):
        import mlflow

        active = mlflow.active_run()
        assert active is not None and active.info.run_id == run_id
        tags = MlflowClient().get_run(run_id).data.tags
        assert not [name for name in tags if name.startswith("drone_cbf.claim.")], "held for a moment only"
        with pytest.raises(LineageError, match="is still running"), taking_over(run_id, "toy"):
            raise AssertionError("taken twice")
    assert MlflowClient().get_run(run_id).info.status == "FINISHED"


def test_of_two_promotions_over_the_same_champion_the_second_is_refused_by_name(experiment: str) -> None:
    client, name = MlflowClient(), f"model-{experiment}"
    client.create_registered_model(name)
    evaluations = [make_run(experiment, "evaluate") for _ in range(2)]
    for run_id in evaluations:
        tags = {"drone_cbf.evaluation_run": run_id, "drone_cbf.training_run": run_id}
        client.create_model_version(name, f"file:///nowhere/{run_id}", tags=tags)
    judged = [find_judged(name, run_id, promoting=True) for run_id in evaluations]
    assert promote_judged(judged[0]) == "1"
    refused = "version 2 of .* was not promoted: version 1 has become the champion since it was judged"
    with pytest.raises(LineageError, match=refused):
        promote_judged(judged[1])
    best = champion(name)
    assert best is not None and str(best.version) == "1"
