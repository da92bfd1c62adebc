"""Registered models as pilots, and what became of their flights."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta

from tests.simulator.drone import Drone
from tests.simulator.flight import Answer, Fields, Outcome, fly
from tests.simulator.patterns import PATTERNS
from tests.simulator.scanning import Scanner
from tests.simulator.worlds import FAMILIES

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Conditions:
    """What the flights have in common."""

    flights: int = 2000
    """In each family of worlds."""
    steps: int = 200
    """Commands per flight."""
    noise: float = 0.0
    """Standard deviation of a ray's distance [m]."""
    dropout: float = 0.0
    """Probability that a ray is lost."""
    seed: int = 0
    batch: int = 256
    """Flights at once."""
    pattern: str = "even"
    """Of the rays: one of :data:`tests.simulator.patterns.PATTERNS`."""
    rays: int = 512
    reach: float = 8.0
    """Largest distance measured [m]."""
    rate: float = 20.0
    """Scans and commands per second [Hz]."""
    misses: bool = False
    """Rays without an echo show a point beyond ``reach``; else they are masked out, like lost ones."""

    @property
    def scanner(self) -> Scanner:
        no_return = self.reach + 20.0 if self.misses else None
        return Scanner(self.rays, self.reach, no_return, PATTERNS[self.pattern])

    @property
    def drone(self) -> Drone:
        return Drone(period=1.0 / self.rate)


@dataclass(frozen=True)
class Verdict:
    """Flights of one pilot in one family of worlds."""

    outcome: Outcome
    pilot_time: float  # CPU time of the pilot, all threads [s]
    simulator_time: float  # CPU time of everything else [s]

    @property
    def collisions(self) -> int:
        return int(self.outcome.collided.sum())

    @property
    def collision_bound(self) -> float:
        """Upper confidence bound of the probability to collide (Clopper and Pearson, one-sided)."""
        return probability_bound(self.collisions, len(self.outcome.collided))

    @property
    def success(self) -> float:
        """Share of the flights that reached their goals without a collision."""
        return float(self.outcome.reached.mean())


def pilot_of(model: Any) -> Answer:
    """The ``predict`` of an ``mlflow.pyfunc`` model, given those fields of a scan that its signature names."""
    schema = model.metadata.get_input_schema()

    def answer(fields: Fields) -> Fields:
        names = fields.keys() if schema is None else fields.keys() & set(schema.input_names())
        return model.predict({name: fields[name] for name in sorted(names)})

    return answer


def load(model_uri: str) -> Answer:
    """Pilot from a model of the registry, such as ``models:/drone-policy@champion``."""
    import mlflow

    return pilot_of(mlflow.pyfunc.load_model(model_uri))


def judged(
    answer: Answer, family: str, conditions: Conditions, progress: Callable[[float], None] | None = None
) -> Verdict:
    """Flies ``answer`` in random worlds of ``family``, one of :data:`tests.simulator.worlds.FAMILIES`.

    ``progress`` is told the share of the work that is done, up to 1.
    """
    started, spent, answered = time.process_time(), 0.0, 0
    wanted = conditions.flights * conditions.steps

    def timed(fields: Fields) -> Fields:
        nonlocal spent, answered
        before = time.process_time()
        given = answer(fields)
        spent += time.process_time() - before
        answered += len(fields["mask"])
        if progress:
            progress(answered / wanted)
        return given

    rng = np.random.default_rng((conditions.seed, *family.encode()))
    outcome = fly(
        FAMILIES[family](conditions.flights, rng), timed, conditions.steps, conditions.noise, conditions.seed,
        dropout=conditions.dropout, batch=conditions.batch, scanner=conditions.scanner, drone=conditions.drone,
    )  # fmt: skip
    return Verdict(outcome, pilot_time=spent, simulator_time=time.process_time() - started - spent)


def probability_bound(events: int, trials: int) -> float:
    """Largest probability under which ``events`` or fewer in ``trials`` are not rarer than 1 - CONFIDENCE."""
    return 1.0 if events == trials else float(beta.ppf(CONFIDENCE, events + 1, trials - events))
