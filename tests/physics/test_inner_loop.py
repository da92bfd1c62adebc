"""Which command the inner loop reads at each of its steps, against the times at which commands arrive."""

import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.drone import initial_state, nominal_params
from drone_cbf.physics.inner_loop import arriving

PERIOD, STEPS = 0.05, 10


@pytest.mark.parametrize("transport", [0.0, 0.012, 0.03, 0.05, 0.087, 0.1])
def test_each_inner_step_reads_the_newest_command_that_has_arrived(transport):
    config = PhysicsConfig(time_step=PERIOD, delay=transport)
    state, drone = initial_state(jnp.zeros(3), jnp.zeros(3), config), nominal_params(config)
    sent = np.arange(len(state.queue) + 1)  # command k was sent k periods ago, and is k along x
    commands = np.stack([sent, 0.0 * sent, 0.0 * sent], -1).astype(np.float32)
    state = state.replace(queue=jnp.asarray(commands[1:]))
    read, queue = arriving(state, jnp.asarray(commands[0]), drone, jnp.float32(transport), PERIOD, STEPS)
    for index in range(STEPS):
        now = index * PERIOD / STEPS
        arrived = [age for age in sent if transport - age * PERIOD <= now + 1e-4 * PERIOD]
        assert float(read[index, 0]) == min(arrived)
    np.testing.assert_array_equal(queue, commands[:-1])
