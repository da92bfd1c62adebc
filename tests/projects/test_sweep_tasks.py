"""What a sweep trains: which stages are shared, and where each value goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from drone_cbf.errors import ConfigError
from drone_cbf.tracking.studies.trials import State, Trial
from projects.cli.sweep_parameters import SweepParameters
from projects.sweeping import plan as planning
from projects.sweeping.plan import new_plan, require_optuna
from projects.sweeping.progress import Progress
from projects.sweeping.tables import plan_text, sweep_page
from projects.sweeping.trial_tasks import SweepTasks

RATE, PENALTY = "safety.learning_rate", "filter.penalty"
SPACE: dict[str, Any] = {
    RATE: {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    PENALTY: {"type": "float", "low": 30.0, "high": 3e4, "log": True},
}
VALUES = {RATE: 0.1 + 0.2, PENALTY: 100.0}


def sweep(folder: Path, parent_run: str = "", system: dict[str, str] | None = None, **content: Any) -> SweepTasks:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "space": SPACE} | content))
    parameters = SweepParameters(space=str(file), curriculum="fast", seed=7, parent_run=parent_run)
    return new_plan(parameters, system or {}).tasks


def test_stages_before_the_search_are_shared_and_take_what_is_given_for_all(tmp_path: Path) -> None:
    given = {"physics.lag_time": 0.1, "efficiency.batch": 8}
    tasks = sweep(tmp_path, begins="safety", given=given, system={"physics.delay": "0.02"})
    efficiency, pretraining = tasks.shared()
    assert efficiency.parameters["physics.lag_time"] == "0.1" and efficiency.parameters["physics.delay"] == "0.02"
    assert efficiency.parameters["batch"] == "8" and efficiency.parameters["steps"] == "40", "the curriculum's size"
    assert efficiency.parameters["seed"] == pretraining.parameters["seed"] == "7"
    assert not any("." in name for name in pretraining.parameters), "inherited"
    safety, evaluation = tasks.of_trial(VALUES)
    assert safety.parameters["learning_rate"] == "0.30000000000000004", "to the last bit"
    assert safety.parameters[PENALTY] == "100.0" and "physics.lag_time" not in safety.parameters
    assert not any("." in name for name in evaluation.parameters), "inherited"
    assert (evaluation.after, evaluation.parameters["blend"], evaluation.parameters["rollouts"]) == (0, "1.0", "128")


def test_a_setting_of_the_system_belongs_to_the_first_stage_of_a_trial(tmp_path: Path) -> None:
    tasks = sweep(tmp_path)
    assert tasks.shared() == []
    first, *others = tasks.of_trial(VALUES)
    assert [task.entry.name for task in (first, *others)] == ["efficiency", "pretrain_cbf", "safety", "evaluate"]
    assert first.parameters[PENALTY] == "100.0" and not any(PENALTY in task.parameters for task in others)


def test_from_a_parent_run_trials_begin_with_the_joint_training(tmp_path: Path) -> None:
    tasks = sweep(tmp_path, parent_run="abc", system={"objective.cruise_speed": "2"}, given={"filter.authority": 0.01})
    assert tasks.shared() == []
    safety, _ = tasks.of_trial(VALUES)
    assert safety.entry.name == "safety" and safety.after is None
    expected = {PENALTY: "100.0", "objective.cruise_speed": "2", "filter.authority": "0.01"}
    assert expected.items() <= safety.parameters.items()


def test_from_a_parent_run_what_that_has_done_is_not_searched(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"space.pretrain_cbf.steps is of stage pretrain_cbf, which parent_run has"):
        sweep(tmp_path, "abc", space={"pretrain_cbf.steps": {"type": "int", "low": 1, "high": 9}})


def test_a_curriculum_that_is_searched_is_flown_with_its_own_blend(tmp_path: Path) -> None:
    curricula = {"safety.curriculum": {"type": "categorical", "choices": ["fast", "analytic_baseline"]}}
    tasks = sweep(tmp_path, space=curricula)
    flown = {name: tasks.of_trial({"safety.curriculum": name})[-1] for name in ("fast", "analytic_baseline")}
    blends = {name: task.parameters["blend"] for name, task in flown.items()}
    assert blends == {"fast": "1.0", "analytic_baseline": "0.0"}


def test_values_that_do_not_go_together_are_refused_before_any_work(tmp_path: Path) -> None:
    tasks = sweep(
        tmp_path,
        given={"filter.slack_penalty": "quadratic"},
        space={"filter.solver": {"type": "categorical", "choices": ["exact", "qpax"]}},
    )
    with pytest.raises(ConfigError, match=r"sweep mine with filter.solver = qpax: .*quadratic is not solved by"):
        tasks.check(None)


def test_the_plan_says_what_is_trained_once_and_what_every_trial_trains(tmp_path: Path) -> None:
    sweep(tmp_path, begins="safety", given={"safety.batch": 8})
    text = plan_text(new_plan(SweepParameters(space=str(tmp_path / "mine.yaml"), curriculum="fast"), {}))
    assert "once, for all trials: efficiency fast seed 0, pretrain_cbf fast seed 0" in text
    assert "every trial: safety, evaluate" in text and "in every trial: safety.batch 8" in text
    assert "0.0001" in text and "logarithmic" in text


def test_without_optuna_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed; pip install -e '.\[sweep\]' -c constraints.txt"):
        require_optuna()


def trial(number: int, state: State, value: float | None = None, reported: float | None = None, **more: Any) -> Trial:
    params = {name: str(text) for name, text in VALUES.items()}
    return Trial(f"run{number}", "1", number, state, params, value, reported, 60.0, more)


def test_the_terminal_is_told_what_is_new_and_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(tmp_path)
    plan = new_plan(SweepParameters(space=str(tmp_path / "mine.yaml"), curriculum="fast", trials=4), {})
    progress = Progress(plan)
    progress.begin([trial(0, "done", 0.5)])
    assert not progress.show([trial(0, "done", 0.5), trial(1, "under way")])
    assert not progress.show([trial(0, "done", 0.5), trial(1, "under way", reported=0.7)])
    assert progress.show([trial(0, "done", 0.5), trial(1, "done", 0.9), trial(2, "pruned", stopped_at=4)])
    assert not progress.show([trial(0, "done", 0.5), trial(1, "done", 0.9), trial(2, "pruned", stopped_at=4)])
    first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert first == "sweep: trial 2 of 4 starts: safety.learning_rate 0.3, filter.penalty 100"
    assert second == "sweep: trial 2 of 4 reports eval/success_rate 0.7"
    assert third.startswith("sweep: trial 2 of 4 done: eval/success_rate 0.9, the best so far 0.9 of trial 2 (about ")
    assert fourth.startswith("sweep: trial 3 of 4 stopped early at step 4")


def test_the_runs_page_names_the_best_and_why_others_are_not_done(tmp_path: Path) -> None:
    sweep(tmp_path)
    plan = new_plan(SweepParameters(space=str(tmp_path / "mine.yaml"), curriculum="fast", trials=3), {})
    trials = [
        trial(0, "done", 0.5, training="t0", evaluation="e0"),
        trial(1, "done", 0.9, training="t1", evaluation="e1"),
        trial(2, "failed", reason="safety: loss/total became nan"),
    ]
    page = sweep_page(plan, trials)
    assert "2 done, 1 failed of 3" in page and "**Best: `eval/success_rate` 0.9, trial 2**" in page
    assert "safety: loss/total became nan" in page and "e1" in page
