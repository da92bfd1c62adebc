"""How programs meet the machine: a batch of flights is spread over all devices, each core of a CPU or each accelerator.

How many devices there are is decided where JAX is configured. What is computed is the same on any number, but sums over
a batch are rounded in another order: figures are repeated bit for bit on the same number of devices only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")


def jit_update(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``jax.jit`` for updates, large programs that run a hundred times.

    On a CPU they are compiled with less effort: an efficiency update takes 33 in place of 45 s of processor time, a
    joint one 92 in place of 118 s, one of pretraining 18 in place of 26 s. They run as fast, that of pretraining in
    three quarters of the time. At level 0 they would run eleven times as long; what flies for an evaluation would run a
    fifth longer at level 1, and stays as it is.
    """
    ours = jax.default_backend() == "cpu" and not jax.config.read("jax_disable_most_optimizations")  # what is set wins
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 1} if ours else None, **options)


def jit_rarely_run(function: Callable[..., Any]) -> Callable[..., Any]:
    """``jax.jit`` for what runs a few times only, such as drawing scenes: half the time to compile, slower code."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def shard_batch(tree: Tree) -> Tree:
    """Inside a compiled function: shares the leading axis of every leaf out to the devices.

    A leading axis that the devices do not divide evenly is left as it is: each device then computes all of it.
    """
    devices = jax.device_count()
    return jax.tree.map(lambda leaf: _constrained(leaf, "flights") if leaf.shape[0] % devices == 0 else leaf, tree)


def map_sharded(function: Callable[..., Tree], params: Any, *flights: Any) -> Tree:
    """When compiled: ``function(params, *flight)`` for all ``flights`` (leading axis), each device its share.

    Gradients towards ``params`` are added up on each device and once between them, at the end: each device runs a
    program of its own, where one program for all would make devices wait for one another after every step of the
    flights.
    """
    devices, count = jax.device_count(), jax.tree.leaves(flights)[0].shape[0]
    mapped = jax.vmap(function, in_axes=(None, *(0 for _ in flights)))
    if devices == 1 or count % devices:
        return mapped(params, *flights)
    whole, share = PartitionSpec(), PartitionSpec("flights")
    # Checked, replicated values would be made varying, and their gradients added up, where they are used: in every
    # step.
    each = jax.shard_map(
        mapped, mesh=_mesh(), in_specs=(whole, *(share for _ in flights)), out_specs=share, check_vma=False
    )
    return each(params, *flights)


def replicate(tree: Tree) -> Tree:
    """Inside a compiled function: every device holds all of ``tree``, as the next update will want it."""
    return jax.tree.map(_constrained, tree)


def put_replicated(tree: Tree) -> Tree:
    """Copies ``tree`` to every device as :func:`replicate` leaves it: a first update compiles no second time."""
    return jax.device_put(tree, _sharding()) if jax.device_count() > 1 else tree


def _constrained(leaf: jax.Array, *axes: str) -> jax.Array:
    return jax.lax.with_sharding_constraint(leaf, _sharding(*axes)) if jax.device_count() > 1 else leaf


def _sharding(*axes: str) -> NamedSharding:
    return NamedSharding(_mesh(), PartitionSpec(*axes))


def _mesh() -> Mesh:
    return Mesh(np.array(jax.devices()), ("flights",))
