"""Compiled programs of a training: its own, or those that it shares with the other members of a population.

Members of a population differ in their seed alone. Each is trained by the same code as a training by itself, in a
thread; one runs at a time, until it calls a program that is mapped over the population or ends. Once all wait, the
program that most of them wait for is carried out, for all of these at once (``jax.vmap``). So a member may be rolled
back, extended, fail or be resumed without the others: its learning rate, its stage and its step are its own arguments.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp

from drone_cbf.devices import jit_rarely_run, jit_update, put_replicated, replicate

T = TypeVar("T")


class Jit(Protocol):
    """Compiles a function of one training; ``held`` are the positions of arguments that stay the same objects from call
    to call, such as the data to train on, and ``options`` those of ``jax.jit`` for a training by itself."""

    def __call__(
        self, function: Callable[..., Any], *, held: Sequence[int] = (), **options: Any
    ) -> Callable[..., Any]: ...


class Programs(Protocol):
    """Where a training takes its compiled functions from."""

    def shared(self, name: Hashable, make: Callable[[Jit], T]) -> T:
        """What ``make`` returns: made once for each ``name``, and used by every member. No seed may be in it."""


class OwnPrograms:
    """Those of a training by itself."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def shared(self, name: Hashable, make: Callable[[Jit], T]) -> T:
        if name not in self._made:
            self._made[name] = make(self._jit)
        return self._made[name]

    @staticmethod
    def _jit(function: Callable[..., Any], *, held: Sequence[int] = (), **options: Any) -> Callable[..., Any]:
        return jit_update(function, **options)


class Population:
    """Programs of ``count`` trainings that are carried out side by side.

    A member keeps its lane, and lanes whose member does something else or has ended compute another one's update once
    more: so one program serves all along, and a population that is resumed computes the same to the last bit.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._made: dict[Hashable, Any] = {}
        self._members: list[_Member] = []
        self._active: _Member | None = None
        self._interruption: KeyboardInterrupt | None = None

    def shared(self, name: Hashable, make: Callable[[Jit], T]) -> T:
        if name not in self._made:
            self._made[name] = make(self._jit)
        return self._made[name]

    def train(self, trainings: Sequence[Callable[[], T] | None]) -> list[T | BaseException | None]:
        """What each training returns, or the exception with which it ended; None stays None: that lane has no member.

        Raises:
            KeyboardInterrupt: the process was interrupted; by then each member has been, too, at its next program.
        """
        assert len(trainings) == self.count
        self._members = [_Member(lane, work) for lane, work in enumerate(trainings) if work is not None]
        self._interruption = None
        over = threading.Event()  # join() of a thread takes it for ended once it was interrupted
        threading.Thread(target=self._conduct, args=(over,), name="population", daemon=True).start()
        while not over.is_set():
            try:
                over.wait()
            except KeyboardInterrupt as error:  # members are told at their next program
                self._interruption = error
        if self._interruption is not None:
            raise self._interruption
        outcomes: list[Any] = [None] * self.count
        for member in self._members:
            outcomes[member.lane] = member.outcome
        return outcomes

    def _jit(self, function: Callable[..., Any], *, held: Sequence[int] = (), **options: Any) -> Callable[..., Any]:
        program = _MappedProgram(function, self.count, tuple(held))

        def call(*arguments: Any) -> Any:
            assert self._active is not None, "a program of a population is called by a member"
            return self._active.ask(program, arguments)

        return call

    def _conduct(self, over: threading.Event) -> None:
        """Gives each member its turn, then carries out what most of them ask for, until all have ended."""
        ready = list(self._members)
        while ready:
            for member in ready:
                self._active = member
                member.take_turn()
            waiting = [member for member in self._members if not member.ended]
            ready = self._answer(waiting) if waiting else []
        over.set()

    def _answer(self, waiting: Sequence[_Member]) -> list[_Member]:
        """Carries out one program; the members that have an answer."""
        if self._interruption is not None:
            for member in waiting:
                member.answer = KeyboardInterrupt(*self._interruption.args)
            return list(waiting)
        wanted = Counter(member.program for member in waiting).most_common(1)[0][0]
        asking = {member.lane: member for member in waiting if member.program is wanted}
        try:
            answers = wanted({lane: member.arguments for lane, member in asking.items()})
        except Exception as error:
            answers = dict.fromkeys(asking, error)
        for lane, member in asking.items():
            member.answer = answers[lane]
        return list(asking.values())


class _Member:
    """A training in a thread of its own, which runs only in its turn."""

    def __init__(self, lane: int, work: Callable[[], Any]) -> None:
        self.lane, self._work = lane, work
        self.program: Any = None
        self.arguments: tuple[Any, ...] = ()
        self.answer: Any = None
        self.outcome: Any = None
        self.ended = False
        self._turn, self._over = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=f"member {lane}", daemon=True)

    def take_turn(self) -> None:
        """From the conductor's thread: lets the training go on until it asks for a program, or ends."""
        if self._thread.ident is None:
            self._thread.start()
        self._turn.release()
        self._over.acquire()

    def ask(self, program: Any, arguments: tuple[Any, ...]) -> Any:
        """From the member's thread: waits for the result of ``program``."""
        self.program, self.arguments = program, arguments
        self._over.release()
        self._turn.acquire()
        answer, self.program, self.arguments, self.answer = self.answer, None, (), None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _run(self) -> None:
        self._turn.acquire()
        try:
            self.outcome = self._work()
        except BaseException as error:
            self.outcome = error
        self.ended = True
        self._over.release()


class _MappedProgram:
    """A function of one training, compiled for all lanes at once.

    Lanes are stacked and taken apart by programs of their own: inside the large one their many small copies would take
    longer to compile than the function.
    """

    def __init__(self, function: Callable[..., Any], count: int, held: tuple[int, ...]) -> None:
        self._count, self._held = count, held
        self._stacked: dict[int, tuple[list[Any], Any]] = {}
        self._stack = jit_rarely_run(lambda trees: replicate(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)))
        self._take_apart = jit_rarely_run(
            lambda tree: replicate([jax.tree.map(lambda leaf, lane=lane: leaf[lane], tree) for lane in range(count)])
        )
        self._mapped = jit_update(jax.vmap(function))

    def __call__(self, asked: dict[int, tuple[Any, ...]]) -> dict[int, Any]:
        """Lane -> result, from lane -> arguments."""
        spare = next(iter(asked.values()))
        lanes = [asked.get(lane, spare) for lane in range(self._count)]
        moving = [place for place in range(len(spare)) if place not in self._held]
        parts = self._stack([tuple(lane[place] for place in moving) for lane in lanes])
        given = dict(zip(moving, parts, strict=True))
        given |= {place: self._kept(place, [lane[place] for lane in lanes]) for place in self._held}
        results = jax.block_until_ready(self._take_apart(self._mapped(*(given[place] for place in sorted(given)))))
        return {lane: results[lane] for lane in asked}

    def _kept(self, place: int, values: list[Any]) -> Any:
        """The arguments of all lanes at ``place``, stacked only when one of them is another object than before."""
        before, stacked = self._stacked.get(place, ([], None))
        if len(before) != len(values) or any(one is not other for one, other in zip(before, values, strict=True)):
            stacked = self._stack([put_replicated(value) for value in values])
            self._stacked[place] = (values, stacked)
        return stacked
