"""Reaching Midas over a real socket, or not."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from midas.cli.app import cli
from midas.v1.charge_pb2 import Charge
from midas.v1.payment_service_pb2 import QueryRequest, QueryResponse
from midas.v1.payment_service_pb2_grpc import (
    PaymentServiceServicer,
    add_PaymentServiceServicer_to_server,
)

QUERY = ["query", "--order-no", "A1", "--json"]


class _Midas(PaymentServiceServicer):
    def Query(self, request: QueryRequest, context: Any) -> QueryResponse:  # noqa: N802
        return QueryResponse(charges=[Charge(order_no=request.order_no)])


def test_the_target_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """MIDAS_TARGET names the server, and a proxy of the environment is not asked."""
    server = grpc.server(ThreadPoolExecutor(1))
    add_PaymentServiceServicer_to_server(_Midas(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("MIDAS_TARGET", f"127.0.0.1:{port}")
    try:
        result = CliRunner().invoke(cli, QUERY)
    finally:
        server.stop(None).wait()
    assert result.exit_code == 0, result.output
    assert '"order_no": "A1"' in result.stdout


@pytest.mark.parametrize("tls", [[], ["--tls"]])
def test_nobody_listens(tls: list[str]) -> None:
    """An unreachable Midas is a failure with status 1: nothing was sent, money or not."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{unused.getsockname()[1]}"
        options = ["--target", target, "--timeout", "0.3", *tls]
        charge = ["charge", "--order-no", "A1", "--channel", "wx", "--amount", "1"]
        result = CliRunner().invoke(cli, [*charge, "--subject", "Tea", *options])
    assert result.exit_code == 1
    assert "Connection refused; nothing was sent [MIDAS_UNREACHABLE]" in result.stderr
    assert "--target" in result.stderr


def test_the_cause_is_printed() -> None:
    """A name that nobody has, a server that speaks no TLS, one that never answers."""
    server = grpc.server(ThreadPoolExecutor(1))
    plain = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        unanswered = f"127.0.0.1:{mute.getsockname()[1]}"
        causes = {
            "failed for :::: Misformatted domain name": ["--target", ":::"],
            "handshake failed": ["--target", plain, "--tls"],
            "no answer in time": ["--target", unanswered],
        }
        for cause, options in causes.items():
            result = CliRunner().invoke(cli, [*QUERY, *options, "--timeout", "0.5"])
            assert result.exit_code == 1
            assert cause in json.loads(result.stdout)["error"]["message"]
    server.stop(None).wait()
