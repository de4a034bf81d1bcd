"""A lock for each key within this process; between processes the order's version decides."""

import asyncio
from collections import deque
from types import TracebackType


class KeyedLocks:
    """`async with locks.of(key)` holds the lock of this key; those who wait get it in their order.

    `broken_by`: a holder that ends with this exception lets all who wait for the key go on at once,
    each without the lock. That is for locks that only save work: while the database is away, those
    who wait must not lose their patience one after the other.
    """

    def __init__(self, broken_by: type[BaseException] | None = None) -> None:
        self._waiting: dict[str, deque[asyncio.Future[bool]]] = {}
        self._broken_by = broken_by

    def of(self, key: str) -> "_Lock":
        """The lock for one holder. Entering it returns whether others had to be waited for."""
        return _Lock(self._waiting, key, self._broken_by)


class _Lock:
    """One holder's use of a lock. It is a class of its own for speed: every charge needs some."""

    __slots__ = ("_broken_by", "_key", "_mine", "_waiting")

    def __init__(
        self,
        waiting: dict[str, deque[asyncio.Future[bool]]],
        key: str,
        broken_by: type[BaseException] | None,
    ) -> None:
        self._waiting = waiting
        self._key = key
        self._broken_by = broken_by
        self._mine = True

    async def __aenter__(self) -> bool:
        waiting = self._waiting.get(self._key)
        if waiting is None:
            self._waiting[self._key] = deque()
            return False
        mine = asyncio.get_running_loop().create_future()
        waiting.append(mine)
        try:
            self._mine = await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled() and mine.result():
                self._pass_on()
            raise
        return True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._mine:
            return
        if self._broken_by is not None and isinstance(error, self._broken_by):
            self._let_all_go()
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        waiting = self._waiting[self._key]
        while waiting:
            following = waiting.popleft()
            if not following.done():
                following.set_result(True)
                return
        del self._waiting[self._key]

    def _let_all_go(self) -> None:
        for each in self._waiting.pop(self._key):
            if not each.done():
                each.set_result(False)
