"""docs/haproxy.cfg in front of a Midas whose connections an attacker wants to use up."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc import aio

from midas.rpc.callers import Callers
from midas.rpc.server import Binding, Tls
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub
from tests.attacks.http2 import PREFACE, client_tls
from tests.patience import PATIENCE_S
from tests.rpc.certificates import Authority, Pair
from tests.rpc.scripted import charge_request, served

CONFIGURATION = Path(__file__).resolve().parents[2] / "docs" / "haproxy.cfg"
EACH = 20
"""What the configuration lets an address have."""
CONNECTIONS = 2 * EACH + 5
"""What Midas has: two attackers alone would use them up."""
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed")


@asynccontextmanager
async def proxied(folder: Path, midas_port: int) -> AsyncIterator[int]:
    """HAProxy with the documented configuration but for the two ports; its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    text = CONFIGURATION.read_text()
    assert f"sc0_conn_cur gt {EACH}" in text
    text = text.replace("127.0.0.1:6010", f"127.0.0.1:{port}")
    text = text.replace("127.0.0.1:6011", f"127.0.0.1:{midas_port}")
    file = folder / "haproxy.cfg"
    file.write_text(text)
    assert HAPROXY is not None
    process = await asyncio.create_subprocess_exec(HAPROXY, "-db", "-q", "-f", str(file))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                assert process.returncode is None
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.01)
            yield port
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def files(folder: Path, authority: Authority, pair: Pair) -> list[str]:
    """Certificate, key and authority as files."""
    named = {"cert": pair.certificate, "key": pair.key, "ca": authority.pem}
    for name, pem in named.items():
        (folder / name).write_bytes(pem)
    return [str(folder / name) for name in named]


async def test_an_address_has_its_share(tmp_path: Path) -> None:
    """One attacker with a certificate and one without take all they can; a new caller is served.

    The one keeps his connections open and idle, the other does not even begin TLS.
    """
    authority = Authority()
    mine, pair = authority.issue("midas"), authority.issue("order-service")
    tls = client_tls(*files(tmp_path, authority, authority.issue("stranger")))
    binding = Binding(
        tls=Tls(mine.certificate, mine.key, authority.pem),
        callers=Callers({"order-service": frozenset({"*"})}),
        connections=CONNECTIONS,
    )
    async with (
        served(binding=binding) as midas,
        proxied(tmp_path, midas.server.port) as port,
        AsyncExitStack() as stack,
    ):
        opened = []
        for _ in range(CONNECTIONS + 5):
            for source, context in (("127.0.0.2", tls), ("127.0.0.3", None)):
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(
                        "127.0.0.1", port, ssl=context, local_addr=(source, 0)
                    )
                    stack.callback(writer.close)
                    writer.write(PREFACE if context else b"")
                    opened.append(source)
        assert opened.count("127.0.0.2") == EACH
        credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.certificate)
        async with aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            assert (await PaymentServiceStub(channel).Charge(charge_request())).charge_json
