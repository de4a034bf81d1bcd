"""Calls that go on, and what they receive when they have to make room."""

import asyncio
from typing import Any

import pytest

from midas.rpc import entrance
from midas.rpc.entrance import OpenMethods, write


class Watcher:
    """A call that is answered once, over a slow connection."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent = asyncio.Event()
        self.received: list[str] = []

    def peer(self) -> str:
        """Each has its own."""
        return f"ipv4:127.0.0.1:{self.name}"

    def auth_context(self) -> dict[str, Any]:
        """Nobody in particular."""
        return {}

    async def write(self, message: str) -> None:
        """As grpc does: complete when the connection has taken it."""
        await self.sent.wait()
        self.received.append(message)

    async def abort(self, code: Any, *_: Any) -> None:
        """As grpc does: it raises."""
        self.received.append(code.name)
        raise ConnectionAbortedError


async def test_a_call_that_makes_room_is_answered_after_what_is_being_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Grpc takes no status beside a message: the call would never end."""
    monkeypatch.setattr(entrance, "OPEN_STREAMS", 1)
    anybody = OpenMethods()

    async def watch(each: Any) -> None:
        await write(each, "SERVING")
        await asyncio.Event().wait()

    first, second = (Watcher(name) for name in ("1", "2"))
    calls: list[Any] = [first, second]
    tasks = []
    for each in calls:
        tasks.append(asyncio.create_task(anybody.hold(each, "Watch", watch(each))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.wait(tasks, timeout=0)
    assert first.received == []
    first.sent.set()
    with pytest.raises(ConnectionAbortedError):
        await tasks[0]
    assert first.received == ["SERVING", "RESOURCE_EXHAUSTED"]
    tasks[1].cancel()
    second.sent.set()
    await asyncio.wait(tasks[1:])
    assert second.received == ["SERVING"]
