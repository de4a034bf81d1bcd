"""The order service's control API over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from midas.sandbox.orders.server import OrderOptions, OrderServer
from tests.sandbox.orders.notifications import caller


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OrderServer]:
    """A running service with a control API."""
    options = OrderOptions(file=tmp_path / "orders.sqlite3", control_port=0)
    async with OrderServer(options) as running:
        yield running


async def asked(
    server: OrderServer, method: str, path: str, sent: Any = None
) -> tuple[int, dict[str, Any]]:
    """One request; status and JSON."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{server.control_url}{path}", json=sent) as answer,
    ):
        return answer.status, await answer.json()


async def test_it_shows_what_was_received(server: OrderServer) -> None:
    """State, one order, and everything in order of arrival."""
    async with caller(server.target) as midas:
        await midas.notify("PayOrderSuccess", "o-1", 1)
        await midas.notify("RefundSuccess", "o-2", 1, refund={"amount": 30})
    assert (await asked(server, "GET", "/state"))[1]["accepted"] == 2
    _, order = await asked(server, "GET", "/order?order_no=o-2")
    assert (order["refund_success"], order["amount_refunded"]) == (1, 30)
    _, everything = await asked(server, "GET", "/received")
    assert [each["order_no"] for each in everything["received"]] == ["o-1", "o-2"]
    assert everything["received"][0]["request"]["charge"]["charge_id"] == "ch_1"
    _, one = await asked(server, "GET", "/received?order_no=o-2")
    assert [each["kind"] for each in one["received"]] == ["refund_success"]


async def test_faults_are_added_listed_and_removed(server: OrderServer) -> None:
    """One or a list of them."""
    fault = {"match": {"order_no": "o-1"}, "action": {"kind": "refuse", "code": "NOT_FOUND"}}
    assert (await asked(server, "POST", "/faults", [fault]))[0] == 200
    async with caller(server.target) as midas:
        assert await midas.notify("PayOrderSuccess", "o-1", 1) == "NOT_FOUND"
    _, listed = await asked(server, "GET", "/faults")
    assert [(each["applied"], each["exhausted"]) for each in listed["faults"]] == [(1, True)]
    assert (await asked(server, "DELETE", "/faults"))[1] == {"faults": []}


async def test_down_and_up(server: OrderServer) -> None:
    """The control API stays there while nobody listens for Midas."""
    assert (await asked(server, "POST", "/down"))[1]["up"] is False
    assert (await asked(server, "POST", "/up"))[1]["up"] is True
    async with caller(server.target) as midas:
        assert await midas.notify("PayOrderSuccess", "o-1", 1) == "OK"


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"action": {"kind": "explode"}},
        {"action": {"kind": "refuse", "code": "OK"}},
        {"action": {"kind": "delay", "seconds": -1}},
        {"action": {"kind": "stall", "seconds": 1}},
        {"action": {"kind": "stall"}, "count": 0},
        {"action": {"kind": "stall"}, "match": {"sequence": "1"}},
        {"action": {"kind": "stall"}, "match": {"method": "Pay"}},
        {"action": {"kind": "stall"}, "match": {"order": "o-1"}},
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused(server: OrderServer, fault: Any) -> None:
    """With a sentence that says what it takes, and nothing is added."""
    status, answer = await asked(server, "POST", "/faults", fault)
    assert (status, type(answer["error"])) == (409, str)
    assert server.faults.to_json() == []


@pytest.mark.parametrize("sent", [3, "x", [1]])
async def test_what_cannot_be_read_is_a_bad_request(server: OrderServer, sent: Any) -> None:
    """Not a failure of the server."""
    assert (await asked(server, "POST", "/faults", sent))[0] == 400
