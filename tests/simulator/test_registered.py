"""Models as pilots, the command line, and that the simulator stands on its own."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from tests.simulator.__main__ import main
from tests.simulator.pilots import blind
from tests.simulator.registered import Conditions, judged, pilot_of, probability_bound
from tests.test_architecture import imported

HERE = Path(__file__).resolve().parent


def model(*names: str) -> SimpleNamespace:
    """A stand-in for a loaded model whose signature names these inputs; it keeps what it is asked."""
    asked: list[set[str]] = []

    def predict(fields):
        asked.append(set(fields))
        return {**blind(fields), "memory": np.zeros((len(fields["mask"]), 1))}

    schema = SimpleNamespace(input_names=lambda: list(names))
    return SimpleNamespace(metadata=SimpleNamespace(get_input_schema=lambda: schema), predict=predict, asked=asked)


def test_a_model_is_asked_only_what_its_signature_names() -> None:
    scan = {"position", "velocity", "goal", "points", "mask"}
    old, new = model(*scan, "thrust"), model(*scan, "noise", "memory")
    few = Conditions(flights=2, steps=2)
    for each in (old, new):
        judged(pilot_of(each), "windows", few)
    assert old.asked == [scan, scan]
    assert new.asked == [scan | {"noise"}, scan | {"noise", "memory"}]


def test_a_verdict_counts_the_flights_and_repeats_itself() -> None:
    first, again = (judged(blind, "windows", Conditions(flights=8, steps=120)) for _ in range(2))
    assert first.collisions == first.outcome.collided.sum() > 3
    assert first.success == first.outcome.reached.mean()
    np.testing.assert_array_equal(first.outcome.path, again.outcome.path)


def test_the_bound_on_the_probability_to_collide_has_its_closed_form_without_collisions() -> None:
    assert probability_bound(0, 100) == pytest.approx(1.0 - 0.05 ** (1.0 / 100.0))
    assert probability_bound(5, 5) == 1.0


def test_the_command_line_prints_one_line_for_each_family(capsys: pytest.CaptureFixture[str]) -> None:
    sensor = "--noise 0.02 --pattern beams32 --rays 64 --reach 6 --rate 25 --misses"
    main(f"--model braking --world windows,pillars --flights 3 --steps 5 --batch 2 {sensor}".split())
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["windows", "pillars"]
    assert "0 of 3 collided" in lines[1] and "CPU" in lines[1]
    shares = [line for line in printed.err.splitlines() if line.startswith("windows")]
    assert len(shares) > 5 and shares[-1] == "windows: 100% of 3 flights"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--world boxes,mazes", "mazes is no family"),
        ("--flights 0", "0 is no whole number"),
        ("--noise -0.1", "-0.1 is not at least 0"),
        ("--dropout 2", "2 is not at most 1"),
        ("--rate 30", "30 is not between 1 and 100, with a period of whole milliseconds"),
        ("--pattern rosette", "invalid choice: 'rosette'"),
    ],
)
def test_the_command_line_refuses_what_makes_no_sense(
    wrong: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--model", "blind", *wrong.split()])
    assert message in capsys.readouterr().err


def test_a_model_that_cannot_be_loaded_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(model_uri: str) -> None:
        raise MlflowException("no such model")

    monkeypatch.setattr("tests.simulator.__main__.load", missing)
    with pytest.raises(SystemExit):
        main(["--model", "models:/nobody/1"])
    assert "--model models:/nobody/1 cannot be loaded (no such model)" in capsys.readouterr().err


def test_the_simulator_shares_no_code_with_what_it_judges() -> None:
    modules = [path for path in HERE.glob("*.py") if not path.name.startswith("test_")]
    tops = {name.split(".")[0] for path in modules for name in imported(path)}
    assert len(modules) > 6
    assert tops - set(sys.stdlib_module_names) == {"mlflow", "numpy", "scipy", "tests"}
    ours = {name for path in modules for name in imported(path) if name.startswith("tests.")}
    assert all(name.startswith("tests.simulator.") for name in ours)
