"""Which flights the viewer shows, and with which it opens."""

from dataclasses import replace

import numpy as np
import pytest

from drone_cbf.reporting.records import Flight
from projects.pictures.evaluation import FAILED, FIRST, TELLING, WORST, in_order, select_flights
from tests.reporting.conftest import fly


@pytest.fixture(scope="module")
def calm() -> Flight:
    """A flight in which the filter does nothing."""
    flight = fly(steps=6)
    return replace(flight, command=flight.nominal, reached=True, collided=False)


def corrected(flight: Flight, steps: int) -> Flight:
    push = (np.arange(flight.steps) < steps)[:, None] * np.ones(3)
    return replace(flight, command=flight.nominal + push)


def test_a_collision_that_the_filter_prevents_tells_more_than_many_interventions(calm: Flight) -> None:
    on = [calm, corrected(calm, 5), corrected(calm, 1), replace(calm, reached=False)]
    off = [replace(flight, filtered=False) for flight in on]
    off[2] = replace(off[2], collided=True)
    for without, most in ((off, 2), (off[:2], 1), (None, 1)):
        shown = {entry.group: entry for entry in select_flights(on, without)}
        assert shown[TELLING].flight is on[most] and shown[FAILED].flight is on[3]
    assert {id(entry.flight) for entry in select_flights(on, off)} == {id(flight) for flight in on}
    assert len(select_flights(on, off)) == 4, "each flight once"
    assert [entry.without_filter for entry in select_flights(on, off[:1])].count(None) == 3


def test_the_viewer_opens_with_the_most_telling_flight_of_all_scenarios(calm: Flight) -> None:
    scenarios = [[calm, corrected(calm, steps)] for steps in (2, 4, 3)]
    entries = [entry for flights in scenarios for entry in select_flights(flights, None)]
    shown = in_order([*entries, replace(entries[0], group=WORST)])
    assert [int(entry.flight.acted.sum()) for entry in shown[:3]] == [4, 3, 2]
    assert [entry.group for entry in shown] == [TELLING] * 3 + [WORST] + [FIRST] * 3
