"""Connections without sockets: aiohttp's parser, the protocol and the handler are the real ones.

Only the kernel is missing: bytes are handed to the protocol, and its answers are kept in a list.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from webhook_gateway.connections import Connections

TURNS = 12
"""Turns of the event loop in which a request whose bytes are all there is answered."""


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Keep them."""
        self.written.extend(bytes(each) for each in list_of_data)

    def is_closing(self) -> bool:
        """Whether the gateway has closed it."""
        return self.closed

    def close(self) -> None:
        """The gateway has had enough."""
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        """All bytes are handed over at once."""

    resume_reading = pause_reading


async def answered_to_each(server: Connections, requests: Iterable[bytes]) -> list[bytes]:
    """What the gateway writes on a connection of its own for each of these; then they go away."""
    open_ones = []
    for raw in requests:
        connection, transport = server(), MemoryTransport()
        connection.connection_made(transport)
        connection.data_received(raw)
        open_ones.append((connection, transport))
    for _ in range(TURNS):
        await asyncio.sleep(0)
    for connection, _ in open_ones:
        connection.connection_lost(None)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    return [b"".join(transport.written) for _, transport in open_ones]
