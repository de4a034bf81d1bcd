"""Faults on demand: what the client sees, and whether the request was handled all the same."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from cryptography.exceptions import InvalidSignature

from midas.sandbox.app import SandboxServer
from midas.sandbox.errors import ControlError
from midas.sandbox.faults import FAULTS_MOST, FaultList, Target
from tests.sandbox.shop import terms
from tests.sandbox.test_http import signature_holds

CREATE = {"method": "POST", "path": "^/v1/charges$"}


def fault(kind: str, **parameters: Any) -> dict[str, Any]:
    """A fault of the next create."""
    return {"match": CREATE, "action": {"kind": kind, **parameters}}


async def create(http: aiohttp.ClientSession, order_no: str = "ORDER0000001") -> tuple[int, bytes]:
    """Status and body of a create."""
    async with http.post("/v1/charges", json=terms(order_no)) as response:
        return response.status, await response.read()


def charges(server: SandboxServer) -> int:
    """How many charges exist for the usual order."""
    return len(server.lookalike.charges_of("ORDER0000001"))


@pytest.mark.parametrize(("kind", "made"), [("lose_request", 0), ("lose_response", 1)])
async def test_lost_messages_reset_the_connection(
    server: SandboxServer, http: aiohttp.ClientSession, kind: str, made: int
) -> None:
    """Both look the same to the client; only the second one made a charge."""
    server.faults.add(fault(kind))
    with pytest.raises(aiohttp.ClientConnectionError):
        await create(http)
    assert charges(server) == made
    (logged,) = server.requests.matching("POST", "/v1/charges", "ORDER0000001")
    assert (logged.handled, logged.status, logged.faults) == (bool(made), None, (kind,))
    assert (await create(http))[0] == 200


@pytest.mark.parametrize(("kind", "made"), [("status", 0), ("status_after", 1)])
@pytest.mark.parametrize("body", ["json", "html", "empty"])
async def test_statuses_with_and_without_effect(
    server: SandboxServer, http: aiohttp.ClientSession, kind: str, made: int, body: str
) -> None:
    """A 502 may or may not have had an effect, and its body need not be JSON."""
    server.faults.add(fault(kind, code=502, body=body))
    status, content = await create(http)
    assert status == 502
    assert charges(server) == made
    if body == "json":
        assert json.loads(content)["error"]["type"] == "api_error"
    else:
        assert content.startswith(b"<html>") == (body == "html")


async def test_a_status_can_carry_a_chosen_error(
    server: SandboxServer, http: aiohttp.ClientSession
) -> None:
    """Every code of the errors table can be played."""
    error = {"type": "channel_error", "code": "refund_pending"}
    server.faults.add(fault("status", code=402, error=error))
    status, content = await create(http)
    assert (status, json.loads(content)["error"]["code"]) == (402, "refund_pending")


@pytest.mark.parametrize("kept", [0, 20])
async def test_a_truncated_answer_ends_in_a_reset(
    server: SandboxServer, http: aiohttp.ClientSession, kept: int
) -> None:
    """Some bytes of a body that promised more; the charge exists."""
    server.faults.add(fault("truncate", bytes=kept))
    with pytest.raises(aiohttp.ClientError):
        await create(http)
    assert charges(server) == 1


async def test_garbage_and_other_objects_are_200(
    server: SandboxServer, http: aiohttp.ClientSession
) -> None:
    """A 200 is not always a charge."""
    server.faults.add(fault("garbage"))
    server.faults.add(fault("wrong_object"))
    status, content = await create(http)
    assert status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(content)
    status, content = await create(http)
    assert (status, json.loads(content)["object"]) == (200, "transfer")
    assert charges(server) == 1


async def test_an_altered_answer_is_signed_but_not_true(
    server: SandboxServer, http: aiohttp.ClientSession
) -> None:
    """Wrong amount and app in the answer, right ones in the books; lists are altered per item."""
    server.faults.add({"action": {"kind": "alter", "fields": {"amount": 1, "app": "app_x"}}})
    async with http.post("/v1/charges", json=terms()) as response:
        body = await response.read()
        signature = response.headers["X-Pingplusplus-Signature"]
    charge = json.loads(body)
    assert (charge["amount"], charge["app"]) == (1, "app_x")
    assert signature_holds(server.public_key_pem, signature, body)
    assert server.lookalike.charge(charge["id"])["amount"] == 100
    server.faults.add({"action": {"kind": "alter", "fields": {"currency": "usd"}}})
    async with http.get("/v1/charges", params={"app[id]": server.options.app_id}) as response:
        listed = await response.json()
    assert [item["currency"] for item in listed["data"]] == ["usd"]


async def test_a_list_may_lag_behind(server: SandboxServer, http: aiohttp.ClientSession) -> None:
    """What was just made is not in the list yet, and is there the next time."""
    await create(http)
    server.faults.add({"match": {"method": "GET"}, "action": {"kind": "empty_list"}})
    lengths = []
    for _ in range(2):
        async with http.get("/v1/charges", params={"app[id]": server.options.app_id}) as response:
            lengths.append(len((await response.json())["data"]))
    assert lengths == [0, 1]


async def test_a_wrong_signature_does_not_verify(
    server: SandboxServer, http: aiohttp.ClientSession
) -> None:
    """The body is right, the signature is well formed and somebody else's."""
    server.faults.add(fault("wrong_signature"))
    async with http.post("/v1/charges", json=terms()) as response:
        body = await response.read()
        signature = response.headers["X-Pingplusplus-Signature"]
    with pytest.raises(InvalidSignature):
        signature_holds(server.public_key_pem, signature, body)


async def test_a_stalled_request_is_never_answered_nor_handled(
    server: SandboxServer, http: aiohttp.ClientSession
) -> None:
    """Only the client's own timeout ends it; stopping the sandbox is not held up by it."""
    server.faults.add(fault("stall"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(create(http), 0.2)
    assert charges(server) == 0
    await asyncio.wait_for(server.go_down(), 3)


async def test_a_request_delayed_before_handling_is_handled_though_the_client_left(
    server: SandboxServer,
) -> None:
    """A client that sent its request and went away has paid all the same."""
    paid = asyncio.Event()
    server.lookalike.on_event = lambda _: paid.set()
    server.faults.add(fault("delay", seconds=0.05))
    body = json.dumps(terms(channel="balance")).encode()
    port = int(server.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"Authorization: Bearer {server.options.key()}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(b"POST /v1/charges HTTP/1.1\r\nHost: x\r\n" + head.encode() + body)
    await writer.drain()
    writer.close()
    await asyncio.wait_for(paid.wait(), 5)
    assert server.lookalike.ledger.paid("ORDER0000001") == 100


async def test_a_request_delayed_after_handling_is_handled_but_not_answered(
    server: SandboxServer, http: aiohttp.ClientSession
) -> None:
    """The money has moved while the client still waits; going down resets it."""
    paid = asyncio.Event()
    server.lookalike.on_event = lambda _: paid.set()
    server.faults.add(fault("delay", seconds=600, when="after"))
    waiting = asyncio.ensure_future(http.post("/v1/charges", json=terms(channel="balance")))
    await asyncio.wait_for(paid.wait(), 5)
    assert not waiting.done()
    await server.go_down()
    with pytest.raises(aiohttp.ClientConnectionError):
        await waiting


async def test_a_delay_combines_with_another_fault(
    server: SandboxServer, http: aiohttp.ClientSession
) -> None:
    """Slow and then lost."""
    server.faults.add(fault("delay", seconds=0.05))
    server.faults.add(fault("lose_response"))
    with pytest.raises(aiohttp.ClientConnectionError):
        await create(http)
    (logged,) = server.requests.matching("POST")
    assert logged.faults == ("delay", "lose_response")


def hits(faults: FaultList, *targets: Target) -> list[list[str]]:
    """The kinds of faults that hit each request."""
    return [[fault.kind for fault in faults.take(target)] for target in targets]


def test_faults_match_by_method_path_order_and_channel() -> None:
    """Every condition given must hold."""
    faults = FaultList()
    match = {"method": "POST", "path": "/refunds$", "order_no": "A", "channel": "wx"}
    faults.add({"match": match, "count": None, "action": {"kind": "garbage"}})
    right = Target("POST", "/v1/charges/ch_1/refunds", "A", "wx")
    assert hits(
        faults,
        right,
        Target("GET", right.path, "A", "wx"),
        Target("POST", "/v1/charges", "A", "wx"),
        Target("POST", right.path, "B", "wx"),
        Target("POST", right.path, "A", "alipay"),
        right,
    ) == [["garbage"], [], [], [], [], ["garbage"]]


def test_nth_and_count_bound_a_fault() -> None:
    """Only the nth, or only the first few."""
    target = Target("GET", "/v1/charges", None, None)
    faults = FaultList()
    faults.add({"match": {"nth": 3}, "action": {"kind": "garbage"}})
    assert hits(faults, *[target] * 5) == [[], [], ["garbage"], [], []]
    faults.clear()
    faults.add({"count": 2, "action": {"kind": "stall"}})
    faults.add({"action": {"kind": "garbage"}})
    assert hits(faults, *[target] * 4) == [["stall"], ["stall"], ["garbage"], []]


def test_the_list_of_faults_is_bounded() -> None:
    """One more than the bound is refused; used-up ones make room."""
    faults = FaultList()
    for _ in range(FAULTS_MOST):
        faults.add({"action": {"kind": "garbage"}})
    with pytest.raises(ControlError, match="at most"):
        faults.add({"action": {"kind": "garbage"}})
    faults.take(Target("GET", "/", None, None))
    faults.add({"action": {"kind": "garbage"}})


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"action": {"kind": "explode"}},
        {"action": {"kind": "garbage"}, "when": "now"},
        {"action": {"kind": "garbage"}, "match": {"body": "x"}},
        {"action": {"kind": "garbage"}, "match": {"path": "("}},
        {"action": {"kind": "garbage"}, "count": 0},
        {"action": {"kind": "garbage"}, "match": {"nth": 0}},
        {"action": {"kind": "garbage", "bytes": 1}},
        {"action": {"kind": "status", "code": 99}},
        {"action": {"kind": "status", "body": "xml"}},
        {"action": {"kind": "delay", "seconds": -1}},
        {"action": {"kind": "delay", "when": "never"}},
        {"action": {"kind": "truncate", "bytes": "x"}},
        {"action": {"kind": "alter", "fields": []}},
    ],
)
def test_misdescribed_faults_are_refused(description: dict[str, Any]) -> None:
    """A misspelt fault is an error; without one it would just do nothing."""
    with pytest.raises(ControlError):
        FaultList().add(description)
