"""Work on batches: all problems of nested ``vmap`` at once, and only on those that need it."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

Tree = TypeVar("Tree")
OnBatch = Callable[[Any, Any], Tree]
"""(what all problems share, problems) -> answers; problems and answers have a leading axis n."""


def as_one_batch(function: OnBatch[Tree]) -> OnBatch[Tree]:
    """``function``, which under ``vmap``, however nested, sees the problems of all batches as one.

    Where what they share is batched as well, it is mapped. It must not close over values that are traced. Not
    differentiable.
    """
    merged = jax.custom_batching.custom_vmap(function)

    @merged.def_vmap
    def of_batches(size: int, batched: Any, shared: Any, problems: Any) -> tuple[Tree, Any]:
        of_shared, of_problems = batched
        if any(jax.tree.leaves(of_shared)):
            axes = jax.tree.map(lambda has: 0 if has else None, (of_shared, of_problems))
            answers = jax.vmap(function, in_axes=axes, axis_size=size)(shared, problems)
        else:
            every = jax.tree.map(
                lambda leaf, has: leaf if has else jnp.broadcast_to(leaf, (size, *leaf.shape)), problems, of_problems
            )
            flat = jax.tree.map(lambda leaf: leaf.reshape(size * leaf.shape[1], *leaf.shape[2:]), every)
            answers = merged(shared, flat)
            answers = jax.tree.map(lambda leaf: leaf.reshape(size, leaf.shape[0] // size, *leaf.shape[1:]), answers)
        return answers, jax.tree.map(lambda _: True, answers)

    return merged


def of_single(function: OnBatch[Tree], shared: Any, problem: Any) -> Tree:
    """``function`` of a single problem."""
    answers = function(shared, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], problem))
    return jax.tree.map(lambda leaf: leaf[0], answers)


def replaced_where(
    needed: Bool[Array, "n"], function: Callable[[Any], Tree], problems: Any, answers: Tree, at_once: int
) -> Tree:
    """``answers`` with those of ``function`` for the problems for which they are ``needed``.

    It is applied to ``at_once`` problems at a time, at most n, as often as needed; some answers besides are replaced.
    """
    order, count = _first(needed), jnp.sum(needed)

    def some(state: tuple[Array, Tree]) -> tuple[Array, Tree]:
        done, answers = state
        rows = jax.lax.dynamic_slice(order, (done,), (at_once,))  # of the last ones, if fewer are left
        found = function(jax.tree.map(lambda leaf: leaf[rows], problems))
        return done + at_once, jax.tree.map(lambda every, part: every.at[rows].set(part), answers, found)

    return jax.lax.while_loop(lambda state: state[0] < count, some, (jnp.int32(0), answers))[1]


def _first(chosen: Bool[Array, "n"]) -> Int[Array, "n"]:
    """Indices of all entries, of those that are ``chosen`` first."""
    index = jnp.arange(chosen.shape[0], dtype=jnp.int32)
    before = jnp.cumsum(chosen, dtype=jnp.int32) - chosen
    place = jnp.where(chosen, before, jnp.sum(chosen, dtype=jnp.int32) + index - before)
    return jnp.zeros_like(index).at[place].set(index, unique_indices=True)
