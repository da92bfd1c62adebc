"""Flights shared out to several devices: in a process of its own, because JAX decides once how many there are."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from drone_cbf.devices import compiled

PROGRAM = """
import jax
jax.config.update("jax_num_cpu_devices", {devices})
import jax.numpy as jnp
import numpy as np
from drone_cbf.devices import on_every_flight, place_everywhere, spread

rng = np.random.default_rng(0)
params = {{"matrix": rng.normal(size=(3, 3)).astype(np.float32), "scale": np.float32(0.7)}}
starts = rng.normal(size=({flights}, 3)).astype(np.float32)
drifts = rng.normal(size=({flights}, 3)).astype(np.float32)


def fly(params, start, drift):
    def step(place, _):
        place = jnp.tanh(params["matrix"] @ place + params["scale"] * drift)
        return place, place
    return jax.lax.scan(step, start, None, length=5)[1]


def loss(params, starts, drifts):
    flown = on_every_flight(fly, params, *spread((starts, drifts)))
    return jnp.sum(flown**2), flown


compiled = jax.jit(jax.grad(loss, has_aux=True)).lower(place_everywhere(params), starts, drifts).compile()
gradient, flown = compiled(place_everywhere(params), starts, drifts)


def alone(params, start, drift):  # float64 NumPy
    place, places = start.astype(float), []
    for _ in range(5):
        place = np.tanh(params["matrix"].astype(float) @ place + float(params["scale"]) * drift)
        places.append(place)
    return np.array(places)


def total(params):
    return sum(np.sum(alone(params, *flight) ** 2) for flight in zip(starts, drifts))


np.testing.assert_allclose(flown, [alone(params, *flight) for flight in zip(starts, drifts)], atol=1e-5)
for place in [(0, 0), (1, 2)]:
    sides = []
    for width in (1e-5, -1e-5):
        moved = dict(params, matrix=params["matrix"].astype(float).copy())
        moved["matrix"][place] += width
        sides.append(total(moved))
    np.testing.assert_allclose(gradient["matrix"][place], (sides[0] - sides[1]) / 2e-5, rtol=1e-3, atol=1e-4)
loops = [part for part in compiled.as_text().split("\\n\\n") if "region" in part.strip().split(" ")[0]]
print("waits in a loop:", sum("all-reduce(" in part for part in loops), "of", len(loops))
print("waits:", compiled.as_text().count("all-reduce("))
"""


def answer(devices: int, flights: int) -> str:
    program = PROGRAM.format(devices=devices, flights=flights)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("devices", "flights"), [(1, 6), (2, 6), (4, 8), (4, 6)])
def test_flights_and_their_gradient_are_those_of_float64_on_any_number_of_devices(devices, flights):
    answer(devices, flights)


def test_devices_do_not_wait_for_one_another_within_a_flight():
    said = answer(2, 6)
    assert "waits in a loop: 0 of" in said and "of 0" not in said and "waits: 0" not in said, said


@pytest.mark.parametrize("told", [False, True])
def test_an_update_is_compiled_with_less_effort_unless_jax_is_told_how_much(told, monkeypatch):
    asked = {}
    monkeypatch.setattr(jax, "jit", lambda function, **options: asked.update(options) or function)
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", told)
    try:
        compiled(np.sin, donate_argnums=0)
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    level = None if told else {"xla_backend_optimization_level": 1}
    assert asked == {"compiler_options": level, "donate_argnums": 0}


def test_a_compiled_function_computes_the_same():
    np.testing.assert_allclose(compiled(lambda x: jax.numpy.sin(x) ** 2)(np.float32(0.3)), np.sin(0.3) ** 2, rtol=1e-6)
