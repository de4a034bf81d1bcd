"""Calls that have begun and whose message has not arrived.

A call begins with its headers, 60 bytes of them, and its message may follow whenever the caller
likes. So a call gets nothing that is scarce before its message is there. It waits here, for a few
seconds at most. If too many wait, the oldest one is ended. An honest caller sends headers and
message together, and waits only until both are read.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grpc import aio

Context = aio.ServicerContext[Any, Any]

SWEEP_S = 2.5
"""The seconds between two sweeps. A call that two sweeps have found waiting is ended, so it gets
one to two times as long. Sweeps are counted and not seconds, so that a process that was held up
ends no call for that."""


class NotArrived(Exception):
    """The message did not arrive in time, or another one needed the room."""


class NoMessage(Exception):
    """The caller ended the call without any message."""


class Ending:
    """Ends calls from within, and distinguishes that from a caller who has gone."""

    def __init__(self) -> None:
        self._ended: set[asyncio.Task[Any]] = set()

    def end(self, task: asyncio.Task[Any]) -> None:
        """Interrupt the task where it waits."""
        self._ended.add(task)
        task.cancel()

    @contextmanager
    def raises(self, error: Exception) -> Iterator[None]:
        """Raise `error` where `end` interrupts the present task: grpc gets no CancelledError."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - grpc.aio runs every handler in a task
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise error from None
        finally:
            self._ended.discard(task)


class Arrivals:
    """The calls that wait for their message, the oldest first."""

    def __init__(self, most: int, sweep_s: float = SWEEP_S) -> None:
        self._most = most
        self._sweep_s = sweep_s
        self._waiting: dict[asyncio.Task[Any], int] = {}
        """Each waiting task, and the number of sweeps that had been made when it came."""
        self._sweeps = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ending = Ending()

    def __len__(self) -> int:
        return len(self._waiting)

    async def message(self, context: Context) -> bytes:
        """The one message of the call. Raises NotArrived and NoMessage."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - grpc.aio runs every handler in a task
        if len(self._waiting) >= self._most:
            self._end(next(iter(self._waiting)))
        self._waiting[task] = self._sweeps
        if self._timer is None:
            self._sweep_later()
        try:
            message = await context.read()
        except asyncio.CancelledError:
            with self._ending.raises(NotArrived()):
                raise
        finally:
            self._waiting.pop(task, None)
        if not isinstance(message, bytes):
            raise NoMessage
        return message

    def end_all(self) -> set[asyncio.Task[Any]]:
        """End every call that waits, as if its time were over. Gives their tasks."""
        waiting = set(self._waiting)
        for task in waiting:
            self._end(task)
        return waiting

    def _end(self, task: asyncio.Task[Any]) -> None:
        del self._waiting[task]
        self._ending.end(task)

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._sweep_s, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        late = [task for task, came in self._waiting.items() if came < self._sweeps]
        for task in late:
            self._end(task)
        self._sweeps += 1
        if self._waiting:
            self._sweep_later()


class Shares:
    """Places for calls that go on for as long as the caller likes.

    If there are more places than connections, each connection has one place of its own. The other
    places are shared. When all are taken, one call is ended: it is a call of the caller who has
    most of the shared places, and the oldest one on his connection that has most calls. So a
    newcomer always gets a place, and nobody can keep others out with calls of his own.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[Holder, dict[asyncio.Task[Any], None]] = {}
        self._shared: Counter[str] = Counter()
        """What each caller has beyond one on each of his connections."""
        self._taken = 0
        self._ending = Ending()

    def __len__(self) -> int:
        return self._taken

    @contextmanager
    def place(self, holder: "Holder", error: Exception) -> Iterator[None]:
        """A place for the present task; raises `error` in it when it must make room."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - grpc.aio runs every handler in a task
        if self._taken >= self._most:
            self._make_room()
        self._enter(holder, task)
        with self._ending.raises(error):
            try:
                yield
            finally:
                self._leave(holder, task)

    def _make_room(self) -> None:
        # among equals this finds the newest connection
        holder = max(
            reversed(self._held),
            key=lambda each: (self._shared[each[0]], len(self._held[each])),
        )
        task = next(iter(self._held[holder]))
        self._leave(holder, task)
        self._ending.end(task)

    def _enter(self, holder: "Holder", task: asyncio.Task[Any]) -> None:
        mine = self._held.setdefault(holder, {})
        mine[task] = None
        self._taken += 1
        if len(mine) > 1:
            self._shared[holder[0]] += 1

    def _leave(self, holder: "Holder", task: asyncio.Task[Any]) -> None:
        mine = self._held.get(holder, {})
        if task not in mine:
            return  # it has made room for another call
        del mine[task]
        self._taken -= 1
        if not mine:
            del self._held[holder]
            return
        self._shared[holder[0]] -= 1
        if not self._shared[holder[0]]:
            del self._shared[holder[0]]


Holder = tuple[str, str]
"""A caller, and one of his connections."""
