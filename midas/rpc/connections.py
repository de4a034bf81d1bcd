"""Names who holds the connections when nearly all of them are taken.

grpc closes a connection that is one too many without any error, and does not report who holds the
others. The kernel's table of TCP connections shows that. It is read only while many files are open.
Other systems than Linux have no such table, so nothing is logged there.
"""

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LOOK_S = 5.0
NEARLY = 0.8
"""The part of the allowed connections that has to be taken before the log names who has most."""
TABLES = ("/proc/self/net/tcp", "/proc/self/net/tcp6")
_ESTABLISHED = "01"
_log = logging.getLogger(__name__)


async def name_who_holds(port: int, most: int) -> None:
    """Log who has most of the connections, once each time that nearly all are taken."""
    logged = False
    while True:
        await asyncio.sleep(LOOK_S)
        held = held_by_address(port) if _open_files() >= NEARLY * most else Counter[str]()
        running_out = held.total() >= NEARLY * most
        if running_out and not logged:
            address, count = held.most_common(1)[0]
            extra = {"count": held.total(), "peer": address, "held": count}
            _log.warning("connections_running_out", extra=extra)
        logged = running_out


def held_by_address(port: int) -> Counter[str]:
    """How many connections to this port each address has."""
    held = Counter[str]()
    for table in TABLES:
        with suppress(OSError):
            held.update(_peers(Path(table).read_text(), port))
    return held


def _peers(table: str, port: int) -> Iterator[str]:
    own = f":{port:04X}"
    for line in table.splitlines()[1:]:
        local, peer, state = line.split()[1:4]
        if state == _ESTABLISHED and local.endswith(own):
            yield _address(peer.partition(":")[0])


def _address(text: str) -> str:
    """The address in the kernel's form: words of 32 bits, each in the machine's byte order."""
    words = [bytes.fromhex(text[place : place + 8])[::-1] for place in range(0, len(text), 8)]
    if len(words) == 1:
        return socket.inet_ntop(socket.AF_INET, words[0])
    whole = b"".join(words)
    if whole.startswith(bytes(10) + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, whole[12:])
    return socket.inet_ntop(socket.AF_INET6, whole)


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a thousand names, no objects
    except OSError:
        return 0
