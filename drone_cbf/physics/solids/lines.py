"""What the shapes share where a straight line meets a convex solid: rays of sensors, and motion past it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

FAR = 1e3  # Distance reported where there is no surface: of an unused slot, along a ray without a hit [m]
GRAZING = 1e-8
"""A ray that enters a round surface less than this deep passes it [m^2, of half the chord]: the distance along it
changes without bound as it grazes, and this bounds the gradient by 1e4 per metre of radius."""
PARALLEL = 1e-6  # A component of a unit direction below this counts as this: 1 mm aside over 1 km
SMALLEST = 1e-12  # Denominators below this count as this
TOUCHING = 1e-4  # A surface at most this far behind the origin of a ray was reached just now [m]


def away_from_zero(value: Float[Array, "*shape"], smallest: float) -> Float[Array, "*shape"]:
    """``value`` with a magnitude of at least ``smallest``, to divide by; the gradient below is zero."""
    return jnp.where(jnp.abs(value) < smallest, jnp.where(value < 0.0, -smallest, smallest), value)


def slab_crossing(
    position: Float[Array, "n #r"], direction: Float[Array, "n r"], half: Float[Array, "n #r"]
) -> tuple[Float[Array, "n r"], Float[Array, "n r"]]:
    """Where lines enter and leave the slab +-``half`` [m] along one axis; ``position`` [m] where they start."""
    inverse = 1.0 / away_from_zero(direction, PARALLEL)
    middle, reach = -position * inverse, half * jnp.abs(inverse)
    return middle - reach, middle + reach


def first_hit(enter: Float[Array, "n r"], leave: Float[Array, "n r"]) -> Float[Array, "n r"]:
    """Distance to a solid that a line is inside of from ``enter`` to ``leave`` [m]: 0 from inside, ``FAR`` if none."""
    return jnp.where((enter <= leave) & (leave >= 0.0), jnp.maximum(enter, 0.0), FAR)


def fraction_at(numerator: Float[Array, "*shape"], denominator: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The quotient as a fraction of a way: limited to [0, 1], and some such number where it is not defined."""
    return jnp.clip(numerator / away_from_zero(denominator, SMALLEST), 0.0, 1.0)


@jax.custom_jvp
def nearest_entry(distances: Float[Array, "r n"]) -> Float[Array, "r"]:
    """Smallest of each row; the gradient flows to one entry of it, and costs nothing where none is asked for."""
    return jnp.min(distances, axis=1)


@nearest_entry.defjvp
def _nearest_entry_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (distances,), (change,) = primals, tangents
    chosen = jnp.arange(distances.shape[1]) == place_of_nearest(distances)[:, None]
    return nearest_entry(distances), jnp.sum(jnp.where(chosen, change, 0.0), axis=1)


def place_of_nearest(distances: Float[Array, "r n"]) -> Int[Array, "r"]:
    """Index of the smallest entry of each row, the first of those equal up to rounding.

    Two plain minima: ``jnp.argmin`` is not vectorised on CPU. The slack covers that the compiler may compute
    ``distances`` anew for the second, rounded differently.
    """
    smallest = jnp.min(distances, axis=1, keepdims=True)
    places = jnp.arange(distances.shape[1], dtype=jnp.int32)
    slack = 1e-6 * jnp.abs(smallest) + 1e-9
    found = jnp.where(distances <= smallest + slack, places, distances.shape[1] - 1)
    return jnp.min(found, axis=1)
