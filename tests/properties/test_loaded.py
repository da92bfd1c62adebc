"""Whatever a store or a caller gives is used, or refused on one line, and what is used is finite and in range."""

from __future__ import annotations

import io
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from drone_cbf.errors import LineageError
from drone_cbf.evaluation.replay_files import packed, unpacked
from drone_cbf.evaluation.worst import ReplayStates, with_room
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots, unused
from drone_cbf.serving.fields import example_observations
from drone_cbf.serving.observations import check_observations
from drone_cbf.tracking.checkpoints.certificates import check_parameters, checked_margin
from drone_cbf.tracking.checkpoints.store import match
from drone_cbf.tracking.runs.lineage import resolve_parent
from tests.properties.inputs import NASTY, both, hold, refused_or, scalars, values

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e30, -1e9, 1e9, np.nan, np.inf, 2.0**40, -5.0, 77.0])
KINDS = st.sampled_from(["f4", "f8", "i4", "i8", "u4", "?", "U3", "c8"])


def _array(kind: str, shape: tuple[int, ...], value: float) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        return np.full(shape, value).astype(kind)


arrays = st.builds(_array, KINDS, SHAPES, NUMBERS)
"""Arrays of any kind, shape and value."""


def like(array: np.ndarray) -> st.SearchStrategy[np.ndarray]:
    """``array`` with one value altered, or another in its place."""

    def spoilt(value: float) -> np.ndarray:
        other = array.copy()
        with np.errstate(invalid="ignore", over="ignore"):
            other.flat[:1] = np.asarray(value).astype(array.dtype)
        return other

    return st.one_of(NUMBERS.map(spoilt), arrays)


def one_flight(drones: int = 0) -> dict[str, np.ndarray]:
    """Arrays of a file with two flights among two capsules, each in a swarm of ``drones`` if that is not 0."""
    vector = np.zeros((2, 3), np.float32)
    obstacles = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], 2, axis=0), unused(Slots(capsules=2)))
    scenes = Scene(obstacles=obstacles, start=vector, start_velocity=vector, goal=vector, wind=vector, gust=vector)
    whole, numbers, text = np.zeros(2, int), np.zeros(2, np.float32), np.array(["a", "b"])
    states = ReplayStates(
        scenes=scenes, slots=np.tile([2, 0, 0, 0], (2, 1)), drones=np.full(2, drones), drone=whole,
        keys=np.zeros((2, 2), np.uint32), noise=numbers,
        rows=whole, cells=text, reasons=text, steps=whole, violation=numbers, clearance=numbers, status=whole,
        failures=whole, end=np.zeros((2, 3), np.float32), blend=1.0, horizon=4, batches=np.full(2, 2),
    )  # fmt: skip
    states = with_room(states, drones) if drones else states
    assert len(unpacked(packed(states), "file")) == 2
    with np.load(io.BytesIO(packed(states))) as file:
        return {name: file[name] for name in file.files}


@both
def test_every_file_of_flights(often: int) -> None:
    def check(change: tuple[dict[str, np.ndarray], str, Any]) -> None:
        whole, name, array = change
        buffer = io.BytesIO()
        np.savez(buffer, **{**whole, name: array})
        states = refused_or(lambda: unpacked(buffer.getvalue(), "file"))
        if states is not None:
            assert 0.0 <= states.blend <= 1.0 and 1 <= states.horizon <= 2000 and (states.batches >= 1).all()
            assert (states.rows < states.batches).all() and (states.steps < states.horizon).all()
            assert (states.drone < np.maximum(states.drones, 1)).all() and np.max(states.drones) <= (states.widest or 0)
            leaves = jax.tree.leaves((states.scenes, states.noise))
            assert all(np.isfinite(leaf).all() for leaf in leaves if leaf.dtype.kind == "f")

    def one_of(whole: dict[str, np.ndarray]) -> st.SearchStrategy[Any]:
        names = st.sampled_from(sorted(whole))
        return names.flatmap(lambda name: st.tuples(st.just(whole), st.just(name), like(whole[name])))

    hold(st.one_of(one_of(one_flight()), one_of(one_flight(drones=3))), check, 130, often)


@both
def test_every_content_of_a_file_of_flights(often: int) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **one_flight())
    content = buffer.getvalue()

    def check(change: tuple[int, int, int]) -> None:
        place, byte, end = change
        damaged = bytearray(content)
        damaged[place] = byte
        refused_or(lambda: unpacked(bytes(damaged[:end]), "file"))

    ends = st.one_of(st.just(len(content)), st.integers(0, len(content)))
    hold(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255), ends), check, 60, often)


@both
def test_every_tree_of_a_checkpoint(often: int) -> None:
    whole: dict[str, Any] = {"policy": {"a": {"kernel": np.ones((2, 2), np.float32), "bias": np.zeros(2, np.float32)}}}
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), whole)
    leaf = st.one_of(arrays, like(whole["policy"]["a"]["kernel"]))
    trees = st.recursive(
        leaf, lambda inner: st.dictionaries(st.sampled_from("ab"), inner, min_size=1, max_size=2), max_leaves=3
    )
    kernel = like(whole["policy"]["a"]["kernel"]).map(lambda array: {"kernel": array, "bias": np.zeros(2, np.float32)})
    policies = st.one_of(kernel.map(lambda layer: {"a": layer}), trees)

    def check(drawn: tuple[Any, Any]) -> None:
        tree, margin = drawn

        def load() -> Any:
            loaded = match(target, {"policy": tree}, "the policy")
            check_parameters(loaded, "the policy")
            return loaded, checked_margin(margin, "the policy")

        loaded = refused_or(load)
        if loaded is not None:
            assert np.isfinite(loaded[0]["policy"]["a"]["kernel"]).all() and 0.0 <= loaded[1] <= 50.0

    margins = st.one_of(NUMBERS.map(np.float32), arrays, st.just({"a": np.zeros(1)}))
    hold(st.tuples(policies, margins), check, 100, often)


@both
def test_every_observation(often: int) -> None:
    more = {"noise": np.zeros(1), "thrust": np.zeros((1, 3)), "queue": np.zeros((1, 2, 3))}
    whole = {**example_observations(swarm=True), **more, "other_mask": np.ones((1, 1), bool)}
    fields = {name: array.tolist() for name, array in whole.items()}
    known = st.sampled_from(sorted(fields))
    entry = st.one_of(arrays, arrays.map(np.ndarray.tolist), values(known), scalars)
    near = known.flatmap(lambda name: st.tuples(st.just(name), like(np.asarray(whole[name]))))

    def check(change: tuple[Any, Any]) -> None:
        name, value = change
        request = refused_or(lambda: check_observations({**fields, name: value}, 2, swarm=True))
        if request is not None:
            assert np.isfinite(request.position).all() and np.isfinite(request.velocity).all()
            assert np.isfinite(request.points[request.mask]).all() and (request.noise >= 0.0).all()
            assert np.isfinite(request.others).all() and np.isfinite(request.other_velocities).all()

    hold(st.one_of(st.tuples(known, entry), near, st.tuples(st.sampled_from(NASTY), entry)), check, 150, often)


@both
def test_every_run_id(often: int, experiment: str) -> None:
    letters = st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp"))  # others are no parameter
    plain = st.sampled_from([each for each in NASTY if each.isprintable() and each])

    def check(run_id: str) -> None:
        with pytest.raises(LineageError) as caught:
            resolve_parent(run_id, ["safety"])
        assert str(caught.value).isprintable()

    hold(st.one_of(plain, st.text(letters, min_size=1, max_size=20)), check, 20, often)


def test_deep_and_large_requests_are_refused_by_name() -> None:
    deep: Any = 1.0
    for _ in range(900):
        deep = [deep]
    for name in example_observations():
        assert refused_or(lambda name=name: check_observations({**example_observations(), name: deep}, 2)) is None
