"""One flow at a time for each key within this process; between processes the version decides."""

import asyncio
from collections import deque
from types import TracebackType


class Turns:
    """Hands out turns: `async with turns.of(key)`. Whoever comes later waits for those before.

    `broken_by`: a turn that ends with this exception lets all who wait for the key go on at once,
    each without a turn. For turns that only save work, and must not make a line out of many
    patiences while the database is away.
    """

    def __init__(self, broken_by: type[BaseException] | None = None) -> None:
        self._waiting: dict[str, deque[asyncio.Future[bool]]] = {}
        self._broken_by = broken_by

    def of(self, key: str) -> "_Turn":
        """The turn of one flow. Entering it tells whether others had to be waited for."""
        return _Turn(self._waiting, key, self._broken_by)


class _Turn:
    """A class of its own: this is on every charge's way."""

    __slots__ = ("_broken_by", "_key", "_mine", "_turns")

    def __init__(
        self,
        turns: dict[str, deque[asyncio.Future[bool]]],
        key: str,
        broken_by: type[BaseException] | None,
    ) -> None:
        self._turns = turns
        self._key = key
        self._broken_by = broken_by
        self._mine = True

    async def __aenter__(self) -> bool:
        waiting = self._turns.get(self._key)
        if waiting is None:
            self._turns[self._key] = deque()
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
        waiting = self._turns[self._key]
        while waiting:
            following = waiting.popleft()
            if not following.done():
                following.set_result(True)
                return
        del self._turns[self._key]

    def _let_all_go(self) -> None:
        for each in self._turns.pop(self._key):
            if not each.done():
                each.set_result(False)
