"""Flights shared out to several devices: in a process of its own, because JAX decides once how many there are."""

import functools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from drone_cbf.devices import jit_update

SLOW = pytest.mark.slow
STEPS = 5
PROGRAM = """
import json, sys
import jax
given = json.load(sys.stdin)
jax.config.update("jax_num_cpu_devices", given["devices"])
import jax.numpy as jnp
from drone_cbf.devices import map_sharded, put_replicated, shard_batch

starts, drifts = (jnp.asarray(given[name], jnp.float32) for name in ("starts", "drifts"))
params = put_replicated({"matrix": jnp.asarray(given["matrix"], jnp.float32), "scale": jnp.float32(given["scale"])})


def fly(params, start, drift):
    def step(place, _):
        place = jnp.tanh(params["matrix"] @ place + params["scale"] * drift)
        return place, place
    return jax.lax.scan(step, start, None, length=given["steps"])[1]


def loss(params, starts, drifts):
    flown = map_sharded(fly, params, *shard_batch((starts, drifts)))
    return jnp.sum(flown**2), flown


program = jax.jit(jax.grad(loss, has_aux=True)).lower(params, starts, drifts).compile()
gradient, flown = program(params, starts, drifts)
loops = [part for part in program.as_text().split("\\n\\n") if "region" in part.strip().split(" ")[0]]
print(json.dumps({
    "flown": flown.tolist(),
    "matrix": gradient["matrix"].tolist(),
    "scale": float(gradient["scale"]),
    "waits": program.as_text().count("all-reduce("),
    "loops": len(loops),
    "waiting_loops": sum("all-reduce(" in part for part in loops),
}))
"""


def world(flights):
    rng = np.random.default_rng(0)
    shapes = {"matrix": (3, 3), "starts": (flights, 3), "drifts": (flights, 3)}
    return {name: np.float32(rng.normal(size=shape)).astype(float) for name, shape in shapes.items()} | {"scale": 0.75}


@functools.cache
def answer(devices, flights):
    """What the program computes on so many devices, and how often they wait for one another."""
    given = {name: np.asarray(value).tolist() for name, value in world(flights).items()}
    words = json.dumps({**given, "devices": devices, "steps": STEPS})
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def flown_in_float64(matrix, scale, starts, drifts):
    places, place = [], starts
    for _ in range(STEPS):
        place = np.tanh(place @ matrix.T + scale * drifts)
        places.append(place)
    return np.stack(places, axis=1)


@pytest.mark.parametrize(
    ("devices", "flights"), [pytest.param(1, 6, marks=SLOW), (2, 6), pytest.param(4, 8, marks=SLOW), (4, 6)]
)
def test_flights_and_their_gradient_are_those_of_float64_on_any_number_of_devices(devices, flights):
    """The gradient against central differences of the sum of squares."""
    found, given, width = answer(devices, flights), world(flights), 1e-5
    np.testing.assert_allclose(found["flown"], flown_in_float64(**given), atol=1e-5)

    def slope(**change):
        sides = [{name: given[name] + sign * step for name, step in change.items()} for sign in (1, -1)]
        upper, lower = (np.sum(flown_in_float64(**{**given, **side}) ** 2) for side in sides)
        return (upper - lower) / (2 * width)

    entries = np.eye(9).reshape(9, 3, 3)
    matrix = np.array([slope(matrix=width * entry) for entry in entries]).reshape(3, 3)
    np.testing.assert_allclose(found["matrix"], matrix, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["scale"], slope(scale=width), rtol=1e-3, atol=1e-4)


def test_devices_do_not_wait_for_one_another_within_a_flight():
    found = answer(2, 6)
    assert found["loops"] > 0 and found["waits"] > 0, "or the test looks at the wrong text"
    assert found["waiting_loops"] == 0


@pytest.mark.parametrize("told", [False, True])
def test_an_update_is_compiled_with_less_effort_unless_jax_is_told_how_much(told, monkeypatch):
    asked = {}
    monkeypatch.setattr(jax, "jit", lambda function, **options: asked.update(options) or function)
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", told)
    try:
        jit_update(np.sin, donate_argnums=0)
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    level = None if told else {"xla_backend_optimization_level": 1}
    assert asked == {"compiler_options": level, "donate_argnums": 0}


def test_a_compiled_function_computes_the_same():
    np.testing.assert_allclose(
        jit_update(lambda x: jax.numpy.sin(x) ** 2)(np.float32(0.3)), np.sin(0.3) ** 2, rtol=1e-6
    )
