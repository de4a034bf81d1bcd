"""`midas orders` over TLS, called through the gateway's own channel."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from midas.sandbox.errors import SandboxError
from midas.sandbox.orders.server import OrderOptions, OrderServer
from midas.sandbox.orders.tls import OrderTls
from tests.rpc.certificates import Authority
from tests.sandbox.orders.notifications import Caller
from webhook_gateway import grpc_channels
from webhook_gateway.config.settings import Settings

COMMAND = [sys.executable, "-m", "midas", "orders", "--port", "0", "--control-port", "0"]


@dataclass(frozen=True)
class Files:
    """Certificates of one authority."""

    ca: Path
    server: OrderTls
    cert: Path
    key: Path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """For a server and for a gateway."""
    authority = Authority()
    written = {"ca": authority.pem}
    for name in ("orders", "gateway"):
        pair = authority.issue(name)
        written |= {f"{name}-cert": pair.certificate, f"{name}-key": pair.key}
    for name, pem in written.items():
        (tmp_path / f"{name}.pem").write_bytes(pem)
    cert, key = tmp_path / "orders-cert.pem", tmp_path / "orders-key.pem"
    return Files(
        ca=tmp_path / "ca.pem",
        server=OrderTls(cert=cert, key=key),
        cert=tmp_path / "gateway-cert.pem",
        key=tmp_path / "gateway-key.pem",
    )


async def notify_from_gateway(target: str, files: Files, *, with_certificate: bool = False) -> str:
    """The status of a notification from a gateway that knows the authority."""
    own = {"tls_cert_path": files.cert, "tls_key_path": files.key} if with_certificate else {}
    settings = Settings(
        pingpp_public_key_paths=(Path("unused.pem"),),
        order_target=target,
        tls_ca_path=files.ca,
        **own,  # type: ignore[arg-type]
    )
    async with grpc_channels.open_order_service(settings) as channel:
        return await Caller(channel).notify("PayOrderSuccess", "o-1", 1)


async def test_a_gateway_with_tls_is_served(tmp_path: Path, files: Files) -> None:
    """Also after the service was down for a while."""
    options = OrderOptions(file=tmp_path / "orders.sqlite3", tls=files.server)
    async with OrderServer(options) as server:
        assert server.has_tls
        assert await notify_from_gateway(server.target, files) == "OK"
        await server.go_down()
        await server.come_up()
        assert await notify_from_gateway(server.target, files) == "OK"


async def test_callers_without_a_certificate_can_be_refused(tmp_path: Path, files: Files) -> None:
    """With the authority that signs those of callers."""
    tls = OrderTls(cert=files.server.cert, key=files.server.key, client_ca=files.ca)
    async with OrderServer(OrderOptions(file=tmp_path / "orders.sqlite3", tls=tls)) as server:
        assert await notify_from_gateway(server.target, files) == "UNAVAILABLE"
        assert await notify_from_gateway(server.target, files, with_certificate=True) == "OK"
        assert len(server.book.received()) == 1


@pytest.mark.parametrize("wrong", ["cert", "key", "client_ca"])
def test_files_that_are_no_certificates_are_refused(
    wrong: str, tmp_path: Path, files: Files
) -> None:
    """At the start, by name; gRPC would start with them and refuse every caller."""
    (tmp_path / "wrong.pem").write_text("-----BEGIN NOTHING-----\n")
    right = {"cert": files.server.cert, "key": files.server.key, "client_ca": files.ca}
    tls = OrderTls(**{**right, wrong: tmp_path / "wrong.pem"})
    with pytest.raises(SandboxError, match=r"wrong\.pem"):
        OrderServer(OrderOptions(file=tmp_path / "orders.sqlite3", tls=tls))


def test_half_of_a_pair_is_wrong_usage(tmp_path: Path, files: Files) -> None:
    """The certificate without its key."""
    options = ["--file", str(tmp_path / "orders.sqlite3"), "--tls-cert", str(files.server.cert)]
    half = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=120)
    assert half.returncode == 2
    assert "--tls-cert and --tls-key belong together" in half.stderr


@contextmanager
def orders(*options: str) -> Iterator[dict[str, Any]]:
    """What the command prints when it is ready; killed at the end."""
    command = [*COMMAND, *options, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


async def test_the_command_speaks_tls(tmp_path: Path, files: Files) -> None:
    """It says so when it is ready."""
    cert, key = str(files.server.cert), str(files.server.key)
    file = str(tmp_path / "orders.sqlite3")
    with orders("--file", file, "--tls-cert", cert, "--tls-key", key) as ready:
        assert ready["tls"] is True
        assert await notify_from_gateway(ready["target"], files) == "OK"
