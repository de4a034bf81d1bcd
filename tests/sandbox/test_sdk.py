"""The unmodified pingpp 2.7.2 SDK as the client: its requests, its signature, its error classes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from midas.sandbox.app import SandboxOptions, SandboxServer
from tests.sandbox.conftest import KeyPair

CLIENT = Path(__file__).parent / "sdk_client.py"
RUN_S = 300


async def play(server: SandboxServer, key_path: Path, scenario: str) -> dict[str, Any]:
    """Run one scenario of sdk_client.py in a process of its own; its results."""
    arguments = [server.url, server.options.key(), server.options.app_id, str(key_path), scenario]
    command = [sys.executable, str(CLIENT), *arguments]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=RUN_S)

    finished = await asyncio.to_thread(run)
    assert finished.returncode == 0, finished.stderr
    results: dict[str, Any] = json.loads(finished.stdout)
    return results


@pytest.fixture
async def strict(merchant_keys: KeyPair, sandbox_keys: KeyPair) -> AsyncIterator[SandboxServer]:
    """A sandbox that wants every request signed by the merchant, in the newest way."""
    server = SandboxServer(
        SandboxOptions(
            merchant_public_key=merchant_keys.public,
            signing_private_key=sandbox_keys.private,
            strict=True,
        )
    )
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def key_path(merchant_keys: KeyPair, tmp_path: Path) -> Path:
    """The merchant's private key as the file that the SDK wants."""
    path = tmp_path / "merchant.pem"
    path.write_text(merchant_keys.private)
    return path


async def test_the_sdk_can_do_everything_midas_needs(strict: SandboxServer, key_path: Path) -> None:
    """Create, pay, retrieve, list, refund, reverse and event through signed SDK calls."""
    results = await play(strict, key_path, "everything")
    assert results["created"]["credential"]["wx_pub"]["appId"]
    assert results["again"] == results["created"]["id"]
    assert results["retrieved"]["paid"] is True
    assert results["listed"] == [results["created"]["id"]]
    assert results["refund"]["status"] == "succeeded"
    assert results["refund"]["metadata"] == {"refund_no": "R1"}
    assert results["refunds"] == [results["refund"]["id"]]
    assert results["retrieved_refund"] == results["refund"]["id"]
    assert results["reversed"] is True
    assert results["event"]["type"] == "charge.succeeded"
    assert strict.lookalike.ledger.refunded(results["created"]["id"]) == 30


async def test_the_sdk_raises_its_error_classes(strict: SandboxServer, key_path: Path) -> None:
    """400, 401, 402, 403, 404, 500 and a lost answer become the classes of pingpp.error."""
    strict.faults.add(
        {
            "match": {"path": "^/v1/charges/ch_403$"},
            "action": {"kind": "status", "code": 403, "error": {"type": "rate_limit_error"}},
        }
    )
    strict.faults.add(
        {"match": {"path": "^/v1/charges/ch_500$"}, "action": {"kind": "status", "code": 500}}
    )
    strict.faults.add(
        {"match": {"path": "^/v1/charges/ch_lost$"}, "action": {"kind": "lose_response"}}
    )
    results = await play(strict, key_path, "errors")
    assert results == {
        "400": ["InvalidRequestError", "amount"],
        "True in a query": ["InvalidRequestError", "paid"],
        "401": ["AuthenticationError", None],
        "402": ["ChannelError", "charge_order_no_used"],
        "403": ["RateLimitError", None],
        "404": ["InvalidRequestError", "id"],
        "500": ["APIError", None],
        "lost": ["APIConnectionError", None],
        "unsigned": ["InvalidRequestError", None],
    }


async def test_the_sdk_sends_a_refund_again_after_a_502(
    strict: SandboxServer, key_path: Path
) -> None:
    """The SDK's own retry makes two refunds of one call; the request log shows both."""
    strict.faults.add(
        {
            "match": {"method": "POST", "path": "/refunds$"},
            "action": {"kind": "status_after", "code": 502},
        }
    )
    results = await play(strict, key_path, "refund_once")
    assert strict.requests.count("POST", "/v1/charges/[^/]+/refunds") == 2
    assert strict.lookalike.ledger.refunded(results["charge"]) == 20
