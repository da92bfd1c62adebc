"""One process at a time, with nothing but tags between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from drone_cbf.errors import DroneCbfError
from drone_cbf.tracking.runs import claims
from drone_cbf.tracking.runs.claims import PREFIX, Tags, exclusive


def shared() -> tuple[dict[str, str], Callable[[], Tags]]:
    """The tags of one run, and how each of several processes sees them, at a distance."""
    stored: dict[str, str] = {}

    def view() -> Tags:
        def read() -> dict[str, str]:
            time.sleep(0.002)
            return dict(stored)

        return Tags(read, stored.__setitem__, lambda name: stored.pop(name, None))

    return stored, view


def test_of_eight_that_come_together_each_gets_its_turn_and_never_two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_PAUSE", 0.003)
    stored, view = shared()
    inside, most, turns = 0, 0, 0

    def enter() -> None:
        nonlocal inside, most, turns
        with exclusive(view(), "it"):
            inside += 1
            most, turns = max(most, inside), turns + 1
            time.sleep(0.005)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert (most, turns) == (1, 8) and stored == {}


def test_the_claim_of_a_process_that_was_killed_does_not_count_and_is_removed() -> None:
    import socket

    stored, view = shared()
    stored[f"{PREFIX}0"] = f"process 1 on {socket.gethostname()} since boot-earlier-tick-1"
    with exclusive(view(), "it", timeout=0.0):
        assert list(stored) != [f"{PREFIX}0"] and len(stored) == 1
    assert stored == {}


def test_a_claim_that_stays_is_named_with_its_process_and_the_remedy() -> None:
    stored, view = shared()
    stored[f"{PREFIX}z"] = "process 7 on elsewhere since 0"
    with (
        pytest.raises(DroneCbfError, match=f"it is held by process 7 on elsewhere.*delete the tag {PREFIX}z"),
        exclusive(view(), "it", timeout=0.0),
    ):
        raise AssertionError("entered")
    assert list(stored) == [f"{PREFIX}z"], "what was not entered is not held"


def test_an_error_inside_gives_the_claim_back() -> None:
    stored, view = shared()
    with pytest.raises(ZeroDivisionError), exclusive(view(), "it"):
        raise ZeroDivisionError
    assert stored == {}
