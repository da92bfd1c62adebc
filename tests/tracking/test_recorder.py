from __future__ import annotations

import io
import math

import jax.numpy as jnp
import mlflow
import numpy as np
from mlflow.tracking import MlflowClient
from rich.console import Console

from drone_cbf.recorder import CompositeRecorder, ListRecorder
from drone_cbf.tracking.checkpoints.store import load_checkpoint
from drone_cbf.tracking.recording.mlflow_recorder import MlflowRecorder
from drone_cbf.tracking.recording.progress_bar import ProgressRecorder
from drone_cbf.tracking.runs.stage_run import StageRun


def test_metrics_checkpoints_and_events_reach_the_run(run: StageRun) -> None:
    recorder = MlflowRecorder(run)
    recorder.begin("phase", 2)
    recorder.metrics(0, {"loss/total": 2.0})
    recorder.metrics(1, {"loss/total": 1.0})
    recorder.checkpoint(2, {"policy": {"weight": jnp.full(3, 4.0)}}, "stage-1")
    recorder.event(1, "threshold met")
    recorder.close()
    history = MlflowClient().get_metric_history(run.run_id, "loss/total")
    assert [(m.step, m.value) for m in history] == [(0, 2.0), (1, 1.0)]
    np.testing.assert_array_equal(load_checkpoint(run.run_id, "stage-1")["policy"]["weight"], 4.0)
    assert "step 1: threshold met" in mlflow.artifacts.load_text(f"runs:/{run.run_id}/events.md")


def test_several_recorders_together_all_hear_everything() -> None:
    first, second = ListRecorder(), ListRecorder()
    both = CompositeRecorder((first, second))
    both.begin("phase", 3)
    both.metrics(0, {"a": 1.0})
    both.checkpoint(1, {"x": 1}, "c")
    both.event(1, "e")
    assert first == second
    assert (first.phases, first.rows, first.checkpoints, first.events) == (
        [("phase", 3)],
        [{"step": 0.0, "a": 1.0}],
        {"c": {"x": 1}},
        [(1, "e")],
    )


def progress_lines(steps: int, terminal: bool) -> str:
    out = io.StringIO()
    recorder = ProgressRecorder(Console(file=out, force_terminal=terminal, width=140))
    recorder.begin("phase", steps)
    for step in range(steps):
        recorder.metrics(step, {"loss/total": math.nan if step == 0 else 0.5, "train/success_rate": 0.25})
        recorder.metrics(step, {"filter/relax_rate": 0.0})
    recorder.event(1, "[stage] begins")
    recorder.close()
    return out.getvalue()


def test_a_stage_that_reports_every_tenth_step_fills_the_bar_all_the_same() -> None:
    out = io.StringIO()
    recorder = ProgressRecorder(Console(file=out, force_terminal=False, width=140))
    recorder.begin("phase", 100)
    assert out.getvalue().endswith("compiling the first step\n")
    recorder.metrics(0, {"monitor/entry_success": 1.0})
    assert recorder.done == 0, "measured before the first step"
    for step in (*range(0, 100, 10), 99):
        recorder.metrics(step, {"loss/total": 1.0})
        assert recorder.done == step + 1
    lines = [line for line in out.getvalue().splitlines() if "/100" in line]
    assert len(lines) == 10 and "phase: 100/100" in lines[-1]


def test_until_the_first_step_is_done_the_bar_says_that_it_compiles() -> None:
    out = io.StringIO()
    recorder = ProgressRecorder(Console(file=out, force_terminal=True, width=140))
    recorder.prepare("phase")
    recorder.begin("phase", 2)
    recorder.close()
    assert "phase: preparing and compiling" in out.getvalue() and "compiling the first step" in out.getvalue()


def test_without_a_terminal_progress_is_ten_plain_lines_of_current_figures() -> None:
    text = progress_lines(200, terminal=False)
    lines = [line for line in text.splitlines() if line.startswith("phase: ") and "/200" in line]
    assert len(lines) == 10 and "\x1b" not in text
    assert "loss 0.5  success 0.25  relaxed 0" in lines[-1] and "steps/s" in lines[-1]
    assert "step 1: [stage] begins" in text


def test_on_a_terminal_progress_is_a_bar_with_live_figures() -> None:
    text = progress_lines(5, terminal=True)
    assert "\x1b[" in text and "5/5" in text and "loss 0.5" in text


def test_a_phase_that_becomes_longer_goes_on_counting() -> None:
    out = io.StringIO()
    recorder = ProgressRecorder(Console(file=out, force_terminal=False, width=140))
    recorder.begin("phase", 10)
    for step in range(10):
        recorder.metrics(step, {"curriculum/blend": 0.0})
    recorder.begin("phase", 15)
    for step in range(10, 15):
        recorder.metrics(step, {"curriculum/blend": 1.0})
    recorder.close()
    assert "phase: 15/15  blend 1 " in out.getvalue() and "phase: 1/15" not in out.getvalue()
