"""Who holds the connections, read from the kernel's own table."""

import asyncio
import socket
import sys
from contextlib import ExitStack

import pytest

from midas.rpc import connections
from midas.rpc.connections import held_by_address

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such table")

HEAD = "  sl  local_address rem_address   st\n"
TABLE = (
    HEAD
    + """\
   0: 0100007F:177B 00000000:0000 0A
   1: 0100007F:177B 0200007F:8F02 01
   2: 0100007F:177B 0200007F:8F04 01
   3: 0100007F:177B 0100007F:8F06 01
   4: 0100007F:177C 0300007F:8F06 01
   5: 0100007F:8F06 0100007F:177B 01
"""
)
TABLE_6 = (
    HEAD
    + """\
   0: 00000000000000000000000000000000:177B 0000000000000000FFFF00000200007F:8F02 01
   1: 00000000000000000000000000000000:177B B80D0120000000000000000001000000:8F02 01
"""
)


def test_the_tables_are_read() -> None:
    """Established connections to the port, by the other end's address; IPv4 in IPv6 is IPv4."""
    assert [*connections._peers(TABLE, 6011)] == ["127.0.0.2", "127.0.0.2", "127.0.0.1"]
    assert [*connections._peers(TABLE_6, 6011)] == ["127.0.0.2", "2001:db8::1"]


async def test_who_has_most_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From real connections; nobody is named while there is room, nor twice while there is none."""
    monkeypatch.setattr(connections, "LOOK_S", 0)
    looks = asyncio.Event()
    looked = [0]

    def held(port: int) -> object:
        looked[0] += 1
        if looked[0] == 3:
            looks.set()
        return held_by_address(port)

    monkeypatch.setattr(connections, "held_by_address", held)
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        address = server.getsockname()
        for _ in range(4):
            stack.enter_context(socket.create_connection(address))
        naming = asyncio.create_task(connections.name_who_holds(address[1], 5))
        await looks.wait()
        naming.cancel()
    (line,) = [each.__dict__ for each in caplog.records]
    assert (line["msg"], line["levelname"]) == ("connections_running_out", "WARNING")
    assert (line["peer"], line["held"], line["count"]) == ("127.0.0.1", 4, 4)
