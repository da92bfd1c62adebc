"""Fly a registered model in worlds that it was not trained in, from raw scans, and print collisions and successes."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, fields

from tests.simulator.flight import Answer
from tests.simulator.patterns import PATTERNS
from tests.simulator.pilots import blind, braking
from tests.simulator.registered import CONFIDENCE, Conditions, Verdict, judged, load
from tests.simulator.worlds import FAMILIES

PILOTS = {"blind": blind, "braking": braking}


def main(given: list[str] | None = None) -> None:
    arguments = parser().parse_args(given)
    conditions = Conditions(**{each.name: getattr(arguments, each.name) for each in fields(Conditions)})
    answer = PILOTS.get(arguments.model) or loaded(arguments.model)
    print(f"{arguments.model}, {', '.join(f'{name} {value}' for name, value in asdict(conditions).items())}")
    for family in arguments.world:
        verdict = judged(answer, family, conditions, progress_line(family, conditions.flights))
        print(summary(family, verdict), flush=True)


def loaded(model_uri: str) -> Answer:
    """The model as a pilot; what keeps it from being loaded ends the program in one line."""
    from mlflow.exceptions import MlflowException

    try:
        return load(model_uri)
    except (MlflowException, OSError) as error:
        remedy = f"name a registered model, such as models:/drone-policy@champion, or one of {', '.join(PILOTS)}"
        parser().error(f"--model {model_uri} cannot be loaded ({error}); {remedy}")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    default = Conditions()
    result.add_argument("--model", required=True, help="URI of a model, such as models:/drone-policy@champion; "
                        f"or a pilot of the simulator's own: {', '.join(PILOTS)}")  # fmt: skip
    result.add_argument("--world", type=families, default=["boxes", "windows"], metavar="NAME,NAME",
                        help=f"families of worlds: {', '.join(FAMILIES)} (default: boxes,windows)")  # fmt: skip
    result.add_argument("--flights", type=at_least_one, default=default.flights, help="per family (%(default)s)")
    result.add_argument("--steps", type=at_least_one, default=default.steps, help="commands of a flight (%(default)s)")
    result.add_argument("--noise", type=not_negative, default=default.noise,
                        help="standard deviation of a ray's distance [m] (%(default)s)")  # fmt: skip
    result.add_argument("--dropout", type=probability, default=default.dropout,
                        help="probability that a ray is lost (%(default)s)")  # fmt: skip
    result.add_argument("--seed", type=int, default=default.seed, help="of worlds and noise (%(default)s)")
    result.add_argument("--batch", type=at_least_one, default=default.batch, help="flights at once (%(default)s)")
    result.add_argument("--pattern", choices=PATTERNS, default=default.pattern, help="of the rays (%(default)s)")
    result.add_argument("--rays", type=at_least_one, default=default.rays, help="of a scan (%(default)s)")
    result.add_argument("--reach", type=not_negative, default=default.reach, help="of the scanner [m] (%(default)s)")
    result.add_argument("--rate", type=rate, default=default.rate, help="scans and commands per second (%(default)s)")
    result.add_argument("--misses", action="store_true", help="rays without an echo show a point out of reach")
    return result


def rate(text: str) -> float:
    if not 1.0 <= float(text) <= 100.0 or abs(1000.0 / float(text) % 1.0) > 1e-9:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 100, with a period of whole milliseconds")
    return float(text)


def families(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)} is no family of worlds; choose of {', '.join(FAMILIES)}"
        )
    return names


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of at least 1")
    return int(text)


def not_negative(text: str) -> float:
    if not 0.0 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not at least 0 and finite")
    return float(text)


def probability(text: str) -> float:
    if not_negative(text) > 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not at most 1")
    return float(text)


def progress_line(family: str, total: int) -> Callable[[float], None]:
    """Shows on stderr how far the flights are: in place on a terminal, else a line for every tenth."""
    in_place, shown = sys.stderr.isatty(), -1

    def show(done: float) -> None:
        nonlocal shown
        parts = int(done * (100 if in_place else 10) + 1e-9)
        if parts == shown:
            return
        shown = parts
        text = f"{family}: {done:.0%} of {total:,} flights"
        print(f"\r{text}\033[K" if in_place else text, end="" if in_place else "\n", file=sys.stderr, flush=True)
        if in_place and done >= 1.0:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    return show


def summary(family: str, verdict: Verdict) -> str:
    outcome, bound = verdict.outcome, 100.0 * verdict.collision_bound
    return (
        f"{family}: {verdict.collisions} of {len(outcome.collided):,} collided "
        f"(at most {bound:.2f} % with {CONFIDENCE:.0%} confidence), {100.0 * verdict.success:.1f} % reached the goal, "
        f"smallest clearance {outcome.smallest_clearance.min():.3f} m; "
        f"CPU {verdict.pilot_time:.1f} s pilot, {verdict.simulator_time:.1f} s simulator"
    )


if __name__ == "__main__":
    main()
