"""Members of a population: each trained as by itself, whatever the others do, by programs that run for all at once."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from drone_cbf.errors import TrainingError
from drone_cbf.training.population import OwnPrograms, Population


def counting_update():
    """An update that counts how often it is traced, and the values on which it runs."""
    seen = SimpleNamespace(traced=0)

    def update(state, rate, data):
        seen.traced += 1
        return state + rate * jnp.sum(data), {"loss": state}

    return update, seen


UPDATE, _ = counting_update()


def walk(programs, start, rate, steps, *, update=UPDATE, fails_at=None):
    """A training of so many updates; its path."""
    step = programs.shared("update", lambda jit: jit(update, held=(2,)))
    state, data, path = jnp.float32(start), jnp.arange(3.0) + start, []
    for number in range(steps):
        if number == fails_at:
            raise TrainingError(f"the member that starts at {start} fails at step {number}")
        state, figures = step(state, rate, data)
        path.append((float(state), float(figures["loss"])))
    return path


def alone(start, rate, steps):
    path, state = [], start
    for _ in range(steps):
        path.append((state + rate * (3.0 + 3.0 * start), state))
        state = path[-1][0]
    return path


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_member_goes_its_own_way_with_its_own_start_rate_and_length(count):
    """Against the closed form. Rates change what is computed, lengths who still takes part."""
    population = Population(count)
    given = [(float(lane), 0.5 + lane, 2 + 3 * (lane % 2)) for lane in range(count)]
    paths = population.train([lambda one=one: walk(population, *one) for one in given])
    assert paths == [alone(*one) for one in given]


def test_one_program_is_traced_once_for_all_members_and_all_their_updates():
    update, seen = counting_update()
    population = Population(3)
    population.train([lambda lane=lane: walk(population, lane, 1.0, 2 + lane, update=update) for lane in range(3)])
    assert seen.traced == 1


def test_members_that_fail_leave_the_others_alone():
    population = Population(3)
    failing = [None, 1, None]
    first, failed, last = population.train(
        [lambda lane=lane: walk(population, float(lane), 1.0, 4, fails_at=failing[lane]) for lane in range(3)]
    )
    assert first == alone(0.0, 1.0, 4) and last == alone(2.0, 1.0, 4)
    assert isinstance(failed, TrainingError) and "starts at 1.0 fails at step 1" in str(failed)


def test_lanes_without_a_member_do_not_change_what_the_others_compute():
    """A member that has finished stays out when its population is resumed."""
    whole, rest = Population(3), Population(3)
    paths = whole.train([lambda lane=lane: walk(whole, 0.3 + lane, 0.1, 5) for lane in range(3)])
    again = rest.train([None, lambda: walk(rest, 1.3, 0.1, 5), None])
    assert again == [None, paths[1], None]


def test_an_error_of_a_program_reaches_every_member_that_asked_for_it():
    def broken(state, rate, data):
        raise ValueError("cannot be traced")

    population = Population(2)
    found = population.train([lambda: walk(population, 0.0, 1.0, 1, update=broken) for _ in range(2)])
    assert [str(error) for error in found] == ["cannot be traced"] * 2


def test_members_that_ask_for_different_programs_all_get_their_answers():
    population = Population(3)

    def training(lane):
        double = population.shared("double", lambda jit: jit(lambda x: 2.0 * x))
        square = population.shared("square", lambda jit: jit(lambda x: x * x))
        order = (double, square) if lane % 2 else (square, double)
        return float(order[1](order[0](jnp.float32(3.0 + lane))))

    assert population.train([lambda lane=lane: training(lane) for lane in range(3)]) == [18.0, 64.0, 50.0]


def test_members_run_one_at_a_time():
    population, running, most = Population(4), [], []

    def training():
        step = population.shared("update", lambda jit: jit(lambda x: x + 1.0))
        for _ in range(3):
            running.append(1)
            most.append(len(running))
            time.sleep(0.002)
            running.pop()
            step(jnp.float32(0.0))

    population.train([training] * 4)
    assert len(most) == 12 and max(most) == 1


def test_an_interruption_reaches_every_member_at_its_next_program_and_then_the_caller():
    population, stored = Population(2), []

    def training(lane):
        step = population.shared("update", lambda jit: jit(lambda x: x + 1.0))
        state = jnp.float32(0.0)
        try:
            for number in range(10_000):
                state = step(state)
                if lane == 0 and number == 3:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.05)
        except KeyboardInterrupt:
            stored.append((lane, float(state)))
            raise

    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            population.train([lambda lane=lane: training(lane) for lane in range(2)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(lane for lane, _ in stored) == [0, 1] and {state for _, state in stored} <= {4.0, 5.0}


def test_what_is_held_is_read_anew_only_when_it_is_another_object():
    population = Population(2)

    def training(lane):
        step = population.shared("update", lambda jit: jit(lambda x, data: x + data, held=(1,)))
        data, state = jnp.float32(1.0 + lane), jnp.float32(0.0)
        for number in range(4):
            data = data if number < 2 else jnp.float32(10.0)
            state = step(state, data)
        return float(state)

    assert population.train([lambda lane=lane: training(lane) for lane in range(2)]) == [22.0, 24.0]


def test_a_training_by_itself_makes_each_program_once_and_does_not_share_it():
    one, other = OwnPrograms(), OwnPrograms()
    made = [programs.shared("p", lambda jit: object()) for programs in (one, one, other)]
    assert made[0] is made[1] and made[0] is not made[2]
