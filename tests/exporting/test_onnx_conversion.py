"""What the converter and onnxruntime lack is put right, and whole controllers answer as ONNX as the service does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.exporting.drone_policy import Policy
from drone_cbf.exporting.folder import write_folder
from drone_cbf.exporting.onnx_conversion import converted
from drone_cbf.packing import as_one_batch, of_single
from drone_cbf.serving.service import PolicyService
from tests.exporting.exported import served
from tests.serving import services, swarms, test_images

STEPS, SLOTS = 8, 32
ROUNDING = 1e-3
"""Of commands up to 10 m/s^2, which follow from memories of float32 over eight steps."""


def test_outer_products_in_a_batch_swish_and_calls_with_a_rule_for_batches_are_converted() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    doubled = as_one_batch(lambda shared, rows: shared * rows)

    def program(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
        outer = jax.lax.dot_general(a, b, (((), ()), ((0,), (0,))))
        return jax.nn.silu(outer), of_single(doubled, jnp.float32(2.0), a)

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    model = converted(
        program,
        (jax.ShapeDtypeStruct(a.shape, a.dtype), jax.ShapeDtypeStruct(b.shape, b.dtype)),
        ["a", "b"],
        ["x", "y"],
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    x, y = session.run(None, {"a": a, "b": b})
    outer = a[:, :, None].astype(float) * b[:, None, :]
    np.testing.assert_allclose(x, outer / (1.0 + np.exp(-outer)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y, 2.0 * a)


def observations(kind: str) -> list[dict[str, Any]]:
    """Of a flight among random points, pixels or drones, far from the world's origin."""
    rng, start = np.random.default_rng(1), np.array([4e5, 5e6, 100.0])
    found = []
    for step in range(STEPS):
        position = start + 0.1 * step * np.array([[1.0, 0.3, 0.0]])
        own = {
            "position": position,
            "velocity": np.array([[2.0, 0.6, 0.0]]),
            "goal": start + np.array([[9.0, 0.0, 1.0]]),
        }
        if kind == "depth":
            found.append(
                own
                | {
                    "image": rng.uniform(0.5, 6.0, (1, test_images.ROWS, test_images.COLUMNS)),
                    "yaw": np.array([0.1 * step]),
                }
            )
            continue
        ray = rng.normal(size=(1, SLOTS, 3))
        points = position[:, None] + rng.uniform(0.5, 3.0, (1, SLOTS, 1)) * ray / np.linalg.norm(
            ray, axis=-1, keepdims=True
        )
        own |= {"points": points, "mask": rng.random((1, SLOTS)) > 0.3}
        if kind == "swarm":
            own |= {"others": position[:, None] + 0.4 * rng.normal(size=(1, 3, 3)), "velocity": own["velocity"] / 10.0}
            own |= {"other_velocities": 0.3 * rng.normal(size=(1, 3, 3))}
        found.append(own)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lidar", "depth", "swarm"])
def test_a_whole_controller_answers_as_onnx_as_the_service_does(kind: str, tmp_path: Path) -> None:
    system, params = {
        "lidar": (services.SYSTEM, services.ANALYTIC),
        "depth": (test_images.SYSTEM, test_images.PARAMS),
        "swarm": (swarms.SYSTEM, swarms.PARAMS),
    }[kind]
    service = PolicyService(system, params.replace(blend=jnp.float32(1.0)))
    asked = observations(kind)
    write_folder(tmp_path / kind, system, service, SLOTS, ("onnx",), "models:/small/1")
    policy, memory, own = Policy(tmp_path / kind, "onnx"), None, []
    for fields in asked:
        answer, memory = policy(memory, **fields)
        own.append(answer)
    expected = served(service, asked)
    for one, other in zip(own, expected, strict=True):
        for name in ("command", "nominal_command", "h"):
            np.testing.assert_allclose(one[name], other[name], atol=ROUNDING, err_msg=name)
    assert np.ptp([answer["command"] for answer in expected], axis=0).max() > 0.1, "what is seen changes the command"
