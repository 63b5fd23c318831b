"""Gathering: while a process is busy, the threads that take turns at its interpreter are kept on one core.

More than one core is of no use to them, and costs: where the system spreads them, each turn begins with waking another
core up, whose caches know nothing. Where somebody else wants that core too, they are let go.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Lock, Thread, get_ident, get_native_id
from typing import NamedTuple, TypeVar

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")

_TASKS = Path("/proc/self/task")
_STAT = Path("/proc/stat")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_CORE_FIELD = 36
"""Where the core is in `stat`, counted from behind the name."""

_LOOK_SECONDS = 0.25
_BUSY = 0.5
"""They are gathered when they use so much of a core."""

_IDLE, _IDLE_SECONDS = 0.25, 10.0
"""They are let go when they have used less of it for so long."""

_CROWDED, _CROWDED_LOOKS = 0.3, 2
"""They are let go when others use so much of their core while they wait for it as long, so often in a row."""

_REST_SECONDS = 30.0
"""How long they are left alone after that."""


class _Usage(NamedTuple):
    """How many seconds a thread has run, and how many it could have run but had no core."""

    run: float
    waited: float


_ALL: frozenset[int] = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()
"""The cores that this process may use."""

_lock = Lock()
"""Held while threads are kept or let go."""

_kept: set[int] = set()
_excused: set[int] = set()
"""Which threads are kept on one core, and which are not to be for now."""


class Gathering:
    """The threads of one process that run Python most of the time."""

    def __init__(self, names: Iterable[str] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nobody gathered.

        Args:
            names: Of threads that belong to them from the beginning.
            clock: Tells the time, in seconds.
        """
        self._names = frozenset(names)
        self._clock = clock
        self._joined: dict[int, int] = {}
        self._core: int | None = None
        self._used: dict[int, _Usage] = {}
        self._core_used = 0.0
        self._crowded = 0
        self._looked_at = clock()
        self._busy_at = 0.0
        self._not_before = 0.0
        self._ended = Event()

    @property
    def core(self) -> int | None:
        """Where they are gathered, if they are."""
        return self._core

    def around(self, work: Callable[[A, B], R]) -> Callable[[A, B], R]:
        """Return a function that does the same; the threads that call it are of them."""
        joined = self._joined

        def gathered(one: A, other: B) -> R:
            if get_ident() not in joined:
                joined[get_ident()] = get_native_id()
            return work(one, other)

        return gathered

    def start(self) -> None:
        """Look now and then, where anything can come of it."""
        if len(_ALL) > 1 and (_TASKS / str(get_native_id()) / "schedstat").exists():
            Thread(target=self._run, name="gathering", daemon=True).start()

    def stop(self) -> None:
        """Let them go, and look no more."""
        self._ended.set()  # a look that is under way keeps nobody any more
        self._let_go()

    def _run(self) -> None:
        try:
            while not self._ended.wait(_LOOK_SECONDS):
                self.look()
        finally:  # nobody is kept where nobody looks
            self._let_go()

    def look(self) -> None:
        """Gather them or let them go, as they were busy since the last time."""
        now = self._clock()
        seconds, self._looked_at = max(now - self._looked_at, 1e-3), now
        before, self._used = self._used, dict(_usages(self._threads()))
        known = self._used.keys() & before.keys()
        run = {thread: self._used[thread].run - before[thread].run for thread in known}
        share = sum(run.values()) / seconds
        waited = sum(self._used[thread].waited - before[thread].waited for thread in known) / seconds
        if self._core is None:
            if share >= _BUSY and now >= self._not_before and not self._ended.is_set():
                self._gather(_core_of(max(run, key=run.__getitem__)))
        elif self._is_crowded(share, waited, seconds):
            self._not_before = now + _REST_SECONDS
            self._let_go()
        elif share < _IDLE and now >= self._busy_at + _IDLE_SECONDS:
            self._let_go()
        if share >= _IDLE:
            self._busy_at = now
        self._keep()  # each time, because some may have joined, or were excused

    def _keep(self) -> None:
        with _lock:
            if self._core is not None and not self._ended.is_set():
                for thread in self._used.keys() - _excused:
                    _keep_on(thread, {self._core})
                    _kept.add(thread)

    def _gather(self, core: int | None) -> None:
        self._core = core
        self._crowded = 0
        self._core_used = _core_seconds(core)

    def _is_crowded(self, share: float, waited: float, seconds: float) -> bool:
        """Whether others have wanted the core for a while."""
        before, self._core_used = self._core_used, _core_seconds(self._core)
        others = (self._core_used - before) / seconds - share
        self._crowded = self._crowded + 1 if min(others, waited) > _CROWDED else 0
        return self._crowded >= _CROWDED_LOOKS

    def _threads(self) -> set[int]:
        here = _tasks()
        for identity, thread in self._joined.copy().items():
            if thread not in here:
                del self._joined[identity]  # another thread may have it by now, and joins
        named = {thread.native_id for thread in threading.enumerate() if thread.name in self._names}
        return here & {*self._joined.copy().values(), *named}

    def _let_go(self) -> None:
        with _lock:
            core, self._core = self._core, None
            _kept.clear()
            seen: set[int] = set()
            while core is not None and (found := _tasks() - seen):  # those too that one of them starts meanwhile
                seen |= found
                for thread in found:
                    if _cores_of(thread) == {core}:
                        _keep_on(thread, _ALL)


@contextmanager
def anywhere() -> Iterator[None]:
    """Let the thread that calls this run on any core, if it is kept on one: so what it starts may, too."""
    thread = get_native_id()
    with _lock:
        is_first = thread not in _excused
        _excused.add(thread)
        if thread in _kept:
            _kept.discard(thread)
            _keep_on(thread, _ALL)
    try:
        yield
    finally:
        if is_first:
            _excused.discard(thread)


def _tasks() -> set[int]:
    return {int(task.name) for task in _TASKS.iterdir()}


def _usages(threads: Iterable[int]) -> Iterator[tuple[int, _Usage]]:
    """Yield what threads used since they began, if they are still there."""
    for thread in threads:
        with suppress(OSError):
            run, waited, _ = (_TASKS / str(thread) / "schedstat").read_text(encoding="ascii").split()
            yield thread, _Usage(int(run) / 1e9, int(waited) / 1e9)


def _core_seconds(core: int | None) -> float:
    """Return how long a core has been busy since the system began."""
    for line in _STAT.read_text(encoding="ascii").splitlines():
        name, *times = line.split()
        if name == f"cpu{core}":
            return (sum(map(int, times[:3])) + sum(map(int, times[5:8]))) / _TICKS  # all but idle and waiting
    return 0.0


def _core_of(thread: int) -> int | None:
    """Return where a thread ran last, None when it is gone."""
    with suppress(OSError):
        stat = (_TASKS / str(thread) / "stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[_CORE_FIELD])
    return None


def _keep_on(thread: int, cores: Iterable[int]) -> None:
    if _ALL:
        with suppress(OSError):  # it is gone, or may not be told
            os.sched_setaffinity(thread, cores)


def _cores_of(thread: int) -> set[int]:
    with suppress(OSError):
        return os.sched_getaffinity(thread)
    return set()
