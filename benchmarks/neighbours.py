"""Time per drone to find the neighbours of all drones of a swarm, by cells and from all pairs.

    python -m benchmarks.neighbours --drones 32,128,512,1024

As many swarms at once as hold ``--total`` drones, at the density of GCBF+ (8 drones in a cube of 2 m, sensing radius
0.5 m). Calls are interleaved; times are of the processor, medians of the repeats.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Timing, interleaved, machine
from drone_cbf.physics.neighbours import by_cells, nearest_neighbours, of_all_pairs
from drone_cbf.reporting.tables import markdown_table

RADIUS, NEIGHBOURS = 0.5, 12
VOLUME = 1.0
"""Of a drone [m³]."""
WAYS = {"chosen by size": nearest_neighbours, "by cells": by_cells, "all pairs": of_all_pairs}


def calls(drones: int, total: int) -> dict[tuple[int, str], Callable[[], Any]]:
    """Compiled functions by size of the swarm and way of looking."""
    swarms, side = max(1, total // drones), (drones * VOLUME) ** (1.0 / 3.0)
    position = np.random.default_rng(0).uniform(0.0, side, (swarms, drones, 3))
    found = {}
    for name, way in WAYS.items():
        program = jax.jit(jax.vmap(partial(way, radius=RADIUS, count=NEIGHBOURS)))
        there = jnp.asarray(position, jnp.float32)
        found[drones, name] = lambda program=program, there=there: jax.block_until_ready(program(there))
    return found


def measure(sizes: list[int], total: int, repeats: int, seconds: float) -> list[dict[str, Any]]:
    """One row for each size of the swarm; ratios are to the smallest one."""
    functions = {key: call for drones in sizes for key, call in calls(drones, total).items()}
    names = {f"{drones} {name}": key for key in functions for drones, name in [key]}
    times = interleaved({name: functions[key] for name, key in names.items()}, repeats, seconds)
    rows = []
    for drones in sizes:
        flown = drones * max(1, total // drones)
        row: dict[str, Any] = {"drones": drones}
        for way in WAYS:
            timing = times[f"{drones} {way}"]
            assert isinstance(timing, Timing), timing
            row[f"{way} [µs per drone]"] = 1e3 * timing.cpu / flown
        first = rows[0] if rows else row
        column = "chosen by size [µs per drone]"
        rows.append(row | {"chosen by size, to the smallest swarm": row[column] / first[column]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drones", default="32,128,512,1024", help="sizes of swarms (default: %(default)s)")
    parser.add_argument("--total", type=int, default=8192, help="drones of all swarms together (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=15, help="timed calls for each figure (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure at most (default: %(default)s)")
    arguments = parser.parse_args()
    sizes = [int(text) for text in arguments.drones.split(",")]
    print(", ".join(f"{name} {value}" for name, value in machine(("jax",)).items()))
    print(markdown_table(measure(sizes, arguments.total, arguments.repeats, arguments.seconds)))


if __name__ == "__main__":
    main()
