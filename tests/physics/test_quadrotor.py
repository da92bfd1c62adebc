"""The quadrotor against conservation laws, closed forms, float64, scipy's integrator, and its reference simulator."""

import functools
import importlib.util
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from drone_cbf.airframes import AIRFRAMES, RPM
from drone_cbf.config import PhysicsConfig
from drone_cbf.physics import quadrotor
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.physics.quadrotor import Body, airframe_of, hovering, rates_of_change, thrust_of, turned
from drone_cbf.physics.quaternions import body_axes
from drone_cbf.physics_config import GRAVITY

PHYSICS = PhysicsConfig(model="quadrotor", delay=0.0)
DATA = AIRFRAMES["crazyflie"]


def in_float64(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tree)


def tumbling(speed=1300.0) -> Body:
    attitude = np.array([0.8, 0.3, -0.4, 0.3])
    return Body(
        attitude=jnp.asarray(attitude / np.linalg.norm(attitude)),
        rates=jnp.array([2.0, -3.0, 1.5]),
        rotors=jnp.array([1.0, 1.02, 0.98, 1.05]) * speed,
    )


@pytest.fixture
def precise():
    with jax.enable_x64(True):
        yield


def test_a_free_body_keeps_its_energy_and_angular_momentum(precise):
    """Without rotors: the torque-free motion of an asymmetric body, for a second."""
    airframe, body = in_float64(airframe_of(PHYSICS)), in_float64(tumbling(0.0))
    airframe = airframe.replace(inertia=airframe.inertia * jnp.array([1.0, 1.5, 1.0]))

    def one(body, _):
        body, _ = turned(body, jnp.zeros(4), airframe, 0.005)
        spin = body_axes(body.attitude) @ (airframe.inertia * body.rates)
        return body, (0.5 * jnp.sum(airframe.inertia * body.rates**2), spin)

    energy, spin = jax.jit(lambda: jax.lax.scan(one, body, None, 200)[1])()
    # Fourth order: (rate times step)^5 a step, 4 rad/s, 5 ms, 200 steps: 1e-6.
    np.testing.assert_allclose(energy, energy[0], rtol=1e-6)
    np.testing.assert_allclose(spin, np.tile(spin[0], (200, 1)), rtol=0.0, atol=1e-6 * float(np.linalg.norm(spin[0])))


def test_without_drag_a_thrown_drone_trades_height_for_speed(precise):
    """Rotors at rest: a parabola, whatever the attitude does."""
    airframe = in_float64(airframe_of(PHYSICS)).replace(drag=jnp.zeros(3))
    _, stages = jax.jit(turned, static_argnums=3)(in_float64(tumbling(0.0)), jnp.zeros(4), airframe, 0.01)
    start = quadrotor.Motion(position=jnp.zeros(3), velocity=jnp.array([3.0, 1.0, 2.0]), thrust=jnp.zeros(3))
    each = jax.tree.map(lambda leaf: leaf[None], stages)
    after = quadrotor.carried(start, each, jnp.zeros(3), jnp.zeros(3), 0.01)
    before, later = (0.5 * jnp.sum(at.velocity**2) + GRAVITY * at.position[2] for at in (start, after))
    assert float(later) == pytest.approx(float(before), rel=1e-12)


def derivatives(time, y, airframe, asked, wind):
    body = Body(attitude=jnp.asarray(y[6:10]), rates=jnp.asarray(y[10:13]), rotors=jnp.asarray(y[13:]))
    slope = rates_of_change(body, asked, airframe)
    pull = thrust_of(body, airframe) - quadrotor.drag_of(body, airframe) @ (jnp.asarray(y[3:6]) - wind)
    return jnp.concatenate([jnp.asarray(y[3:6]), pull, slope.attitude, slope.rates, slope.rotors])


def test_the_integration_is_of_fourth_order(precise):
    """Against scipy with tight tolerances: a fifth as long a step errs at least 300 times less."""
    airframe, wind = in_float64(airframe_of(PHYSICS)), jnp.array([1.0, -2.0, 0.5])
    body, asked = in_float64(tumbling()), jnp.array([1500.0, 1350.0, 1400.0, 1450.0])
    velocity = jnp.array([3.0, 1.0, -2.0])
    start = np.concatenate([np.zeros(3), velocity, body.attitude, body.rates, body.rotors])
    slopes = jax.jit(lambda y: derivatives(0.0, y, airframe, asked, wind))
    truth = solve_ivp(lambda _, y: np.asarray(slopes(y)), (0.0, 0.2), start, rtol=1e-10, atol=1e-10).y[:, -1]

    def error(steps):
        def one(carry, _):
            body, motion = carry
            body, stages = turned(body, asked, airframe, 0.2 / steps)
            each = jax.tree.map(lambda leaf: leaf[None], stages)
            return (body, quadrotor.carried(motion, each, wind, jnp.zeros(3), 0.2 / steps)), None

        motion = quadrotor.Motion(position=jnp.zeros(3), velocity=velocity, thrust=jnp.zeros(3))
        end, motion = jax.jit(lambda: jax.lax.scan(one, (body, motion), None, steps)[0])()
        ours = np.concatenate([motion.position, motion.velocity, end.attitude, end.rates])
        return np.abs(ours - truth[:13]).max()

    coarse, fine = error(8), error(40)
    assert fine < coarse / 300.0 and coarse < 1e-3


@functools.partial(jax.jit, static_argnames="physics")
def flown(airframe, body, command, physics=PHYSICS):
    """States after each of 20 periods of holding a command, from hover."""
    rest = initial_state(jnp.zeros(3), jnp.zeros(3), physics).replace(body=body)
    drone = nominal_params(physics).replace(airframe=airframe)

    def one(state, _):
        return (quadrotor.step(state, command, drone, physics.time_step, physics.inner_rate),) * 2

    return jax.lax.scan(one, rest, None, 20)[1]


def held(command, name="crazyflie"):
    physics = PHYSICS.model_copy(update={"airframe": name})
    return flown(airframe_of(physics), hovering(physics), jnp.asarray(command, jnp.float32))


@pytest.mark.parametrize("name", sorted(AIRFRAMES))
def test_a_held_command_is_reached(name):
    states = held((3.0, -2.0, 1.0), name)
    np.testing.assert_allclose(states.thrust[-1], [3.0, -2.0, 1.0], atol=0.1)
    np.testing.assert_allclose(np.linalg.norm(states.body.attitude, axis=-1), 1.0, atol=1e-6)
    assert np.abs(states.body.rates[-1]).max() < 0.2


def test_rotors_stay_within_their_limits():
    slowest, fastest = (DATA.speed_at(thrust) for thrust in DATA.rotor_thrust)
    for command in ((30.0, 0.0, 8.0), (0.0, 0.0, -8.0), (-12.0, 12.0, 0.0)):
        rotors = np.asarray(held(command).body.rotors)
        assert rotors.min() >= slowest * (1.0 - 1e-5) and rotors.max() <= fastest * (1.0 + 1e-5)


def test_hover_needs_the_speed_that_the_thrust_curve_says():
    """Four rotors carry the weight; by the curve in revolutions per minute as it was published."""
    speed = float(hovering(PHYSICS).rotors[0]) * RPM
    assert 4.0 * (-3.133427287299859e-7 * speed + 4.407354891648379e-10 * speed**2) == pytest.approx(
        0.04338 * GRAVITY, rel=1e-5
    )


REFERENCE = """
import json, sys
import numpy as np
from drone_models.core import parametrize
from drone_models.first_principles import dynamics
given = {name: np.array(value) for name, value in json.load(sys.stdin).items()}
drone = parametrize(dynamics, "cf21B_500")
print(json.dumps([each.tolist() for each in drone(**given, prop_inertia=np.array(0.0))]))
"""


@pytest.mark.skipif(importlib.util.find_spec("drone_models") is None, reason="drone-models is not installed")
def test_it_moves_as_the_reference_simulator_says(precise):
    """drone-models, first principles, without the gyroscopic torque of the propellers, which is not modelled here.

    In a process of its own: it must be imported before scipy. Its rate of the quaternion is not compared: it takes
    (x, y, z, w) for (w, x, y, z) there, and its documentation says not to use it.
    """
    airframe, body = in_float64(airframe_of(PHYSICS)), in_float64(tumbling())
    asked, velocity = np.array([1500.0, 1250.0, 1400.0, 1450.0]), np.array([3.0, 1.0, -2.0])
    given = {
        "pos": np.zeros(3),
        "quat": np.roll(body.attitude, -1),
        "vel": velocity,
        "ang_vel": body.rates,
        "cmd": asked * RPM,
        "rotor_vel": np.asarray(body.rotors) * RPM,
    }
    content = json.dumps({name: np.asarray(value).tolist() for name, value in given.items()})
    done = subprocess.run([sys.executable, "-c", REFERENCE], input=content, capture_output=True, text=True, check=True)
    _, _, pulling, spinning, speeding = (np.array(each) for each in json.loads(done.stdout))
    slope = rates_of_change(body, jnp.asarray(asked), airframe)
    pull = thrust_of(body, airframe) - quadrotor.drag_of(body, airframe) @ velocity
    # Parameters are float32 here, and torques differences of thrusts.
    np.testing.assert_allclose(pull, pulling, rtol=1e-5)
    np.testing.assert_allclose(slope.rates, spinning, rtol=1e-4)
    np.testing.assert_allclose(slope.rotors * RPM, speeding, rtol=1e-4)
