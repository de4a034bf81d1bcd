"""One flow at a time for each key within this process; between processes the version decides."""

import asyncio
from collections import deque


class Turns:
    """Hands out turns: `async with turns.of(key)`. Whoever comes later waits for those before."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def of(self, key: str) -> "_Turn":
        """The turn of one flow."""
        return _Turn(self._waiting, key)


class _Turn:
    """A class of its own: this is on every charge's way."""

    __slots__ = ("_key", "_turns")

    def __init__(self, turns: dict[str, deque[asyncio.Future[None]]], key: str) -> None:
        self._turns = turns
        self._key = key

    async def __aenter__(self) -> None:
        waiting = self._turns.get(self._key)
        if waiting is None:
            self._turns[self._key] = deque()
            return
        mine = asyncio.get_running_loop().create_future()
        waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._pass_on()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        waiting = self._turns[self._key]
        while waiting:
            following = waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        del self._turns[self._key]
