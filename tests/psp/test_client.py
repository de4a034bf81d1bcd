"""The client keeps the port's promises over real sockets."""

import asyncio
import base64
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from midas.errors import Overloaded, PspUnavailable, SettingsError
from midas.ports import Done, NotDone, Psp, Refusal, Unknown
from midas.psp.breaker import BreakerLimits
from midas.psp.client import PingppClient
from midas.psp.options import PspOptions
from midas.refund import FundingSource
from tests.psp import made, wire

Call = Callable[[PingppClient], Awaitable[Any]]

CREATES: dict[str, Call] = {
    "create_charge": lambda psp: psp.create_charge(made.charge()),
    "create_refund": lambda psp: psp.create_refund(made.refund()),
    "reverse_charge": lambda psp: psp.reverse_charge(made.CHARGE_ID),
}
READS: dict[str, Call] = {
    "retrieve_charge": lambda psp: psp.retrieve_charge(made.CHARGE_ID),
    "retrieve_refund": lambda psp: psp.retrieve_refund(made.CHARGE_ID, made.REFUND_ID),
    "list_refunds": lambda psp: psp.list_refunds(made.CHARGE_ID),
    "list_charges": lambda psp: psp.list_charges(made.NOW, made.NOW),
}
CALLS = CREATES | READS


@asynccontextmanager
async def asking(
    status: int, data: Any, **changed: Any
) -> AsyncIterator[tuple[PingppClient, wire.Wire]]:
    """A client whose Ping++ always answers this."""
    body = data if isinstance(data, bytes) else made.text(data).encode()
    async with (
        wire.serving(wire.always(wire.response(status, body))) as server,
        PingppClient(made.options(server.url, **changed)) as psp,
    ):
        yield psp, server


def sent_body(server: wire.Wire) -> Any:
    """The JSON of the last request."""
    return json.loads(server.received[-1].body)


def test_the_client_is_a_psp() -> None:
    """Every member of the port is there, with the same parameters in the same order."""
    client = PingppClient(made.options())
    port: Psp = client
    assert port is client
    members = [name for name in vars(Psp) if not name.startswith("_")]
    assert len(members) >= 15
    for name in members:
        wanted, real = inspect.getattr_static(Psp, name), inspect.getattr_static(PingppClient, name)
        if isinstance(wanted, property):
            assert isinstance(real, property)
            continue
        has = [(p.name, p.default) for p in inspect.signature(real).parameters.values()]
        asked = [(p.name, p.default) for p in inspect.signature(wanted).parameters.values()]
        assert has == asked, name
        assert inspect.iscoroutinefunction(real) == inspect.iscoroutinefunction(wanted), name


async def test_what_creating_a_charge_sends() -> None:
    """The fields of pingpp.md section 1.1; expiry and metadata only where they were asked for."""
    async with asking(200, made.charge_data()) as (psp, server):
        verdict = await psp.create_charge(made.charge(extra={"limit_pay": "no_credit"}))
        assert isinstance(verdict, Done)
        assert (server.received[0].method, server.received[0].target) == ("POST", "/v1/charges")
        assert sent_body(server) == {
            "order_no": "A1B2C3D4E5F6G7H8J9K0",
            "app": {"id": made.APP_ID},
            "channel": "wx",
            "amount": 100,
            "currency": "cny",
            "client_ip": "203.0.113.7",
            "subject": "订单",
            "body": "订单详情",
            "extra": {"limit_pay": "no_credit"},
        }
        await psp.create_charge(made.charge(asked_expires_at=made.NOW, metadata={"a": "b"}))
        assert sent_body(server)["time_expire"] == int(made.NOW.timestamp())
        assert sent_body(server)["metadata"] == {"a": "b"}


async def test_what_creating_a_refund_sends() -> None:
    """Our key travels in the metadata beside the caller's own."""
    async with asking(200, made.refund_data()) as (psp, server):
        source = FundingSource.RECHARGE_FUNDS
        verdict = await psp.create_refund(made.refund(metadata={"a": "b"}, funding_source=source))
        assert isinstance(verdict, Done)
        assert server.received[0].target == f"/v1/charges/{made.CHARGE_ID}/refunds"
        assert sent_body(server) == {
            "amount": 40,
            "description": "不想要了",
            "metadata": {"a": "b", "refund_no": "refund-1"},
            "funding_source": "recharge_funds",
        }


async def test_what_a_list_asks_for() -> None:
    """The app, the window in whole seconds, a full page, and the rest only where it is wanted."""
    page = {"object": "list", "url": "/v1/charges", "has_more": False, "data": [made.charge_data()]}
    async with asking(200, page) as (psp, server):
        later = made.NOW + timedelta(seconds=90)
        verdict = await psp.list_charges(made.NOW, later, channel="wx", after="ch_9")
        assert isinstance(verdict, Done)
        assert [each.charge_id for each in verdict.answer.charges] == [made.CHARGE_ID]
        assert parse_qs(urlsplit(server.received[0].target).query) == {
            "app[id]": [made.APP_ID],
            "created[gte]": [str(int(made.NOW.timestamp()))],
            "created[lte]": [str(int(later.timestamp()))],
            "limit": ["100"],
            "channel": ["wx"],
            "starting_after": ["ch_9"],
        }
        await psp.list_charges(made.NOW, later)
        asked = parse_qs(urlsplit(server.received[1].target).query)
        assert "channel" not in asked
        assert "starting_after" not in asked


@pytest.mark.parametrize("name", CALLS)
async def test_every_request_is_signed(name: str) -> None:
    """GET too: the merchant's key signed body, target and time exactly as they arrived."""
    async with asking(500, b"", private_key=made.private_pem()) as (psp, server):
        await CALLS[name](psp)
        request = server.received[0]
        time = request.headers["pingplusplus-request-timestamp"].encode()

        signature = base64.b64decode(request.headers["pingplusplus-signature"])
        data = request.body + request.target.encode() + time
        made.key("merchant").public_key().verify(signature, data, padding.PKCS1v15(), SHA256())


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("status", [200, 429, 500, 502, 503])
async def test_trouble_is_unknown_and_nothing_is_repeated(name: str, status: int) -> None:
    """For each call: one request leaves, and the verdict is unknown (P9, P10)."""
    async with asking(status, b"<html>") as (psp, server):
        assert isinstance(await CALLS[name](psp), Unknown)
        assert len(server.received) == 1


@pytest.mark.parametrize("name", CALLS)
async def test_refusals_are_proven(name: str) -> None:
    """A refusal, and a port that nobody listens on, prove that nothing was done."""
    async with asking(400, made.error_body(param="amount")) as (psp, _):
        verdict = await CALLS[name](psp)
        assert verdict == NotDone(Refusal.REFUSED, param="amount", message="不行")
    with wire.refusing() as url:
        async with PingppClient(made.options(url)) as psp:
            verdict = await CALLS[name](psp)
            assert isinstance(verdict, NotDone)
            assert verdict.refusal is Refusal.NOT_SENT


@pytest.mark.parametrize("name", CALLS)
async def test_timeouts_are_bounded_and_unknown(name: str) -> None:
    """The configured total bounds each call, and what was sent by then is unknown.

    On a machine so busy that the connection takes all of the time, nothing is sent, and the verdict
    is another one; then the call gets more time.
    """
    for brief in (timedelta(milliseconds=60), timedelta(seconds=1), timedelta(seconds=10)):
        async with wire.serving(wire.never) as server:
            options = made.options(server.url, total_timeout=brief)
            async with PingppClient(options) as psp:
                verdicts = [
                    await CALLS[name](psp),
                    await psp.retrieve_charge(made.CHARGE_ID, timedelta(hours=1)),
                ]
            if len(server.received) == len(verdicts):
                break
    assert verdicts == [Unknown("timeout")] * 2


@pytest.mark.parametrize("name", ["retrieve_charge", "reverse_charge"])
async def test_an_answer_about_another_charge_is_no_answer(name: str) -> None:
    """What was asked about one id is not answered by facts of another."""
    async with asking(200, made.charge_data(id="ch_other")) as (psp, _):
        assert await CALLS[name](psp) == Unknown("other_object")
    async with asking(200, made.refund_data(id="re_other")) as (psp, _):
        assert await CALLS["retrieve_refund"](psp) == Unknown("other_object")


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a?b", "ch 1", "x" * 65, "订", "ch_1\n"])
async def test_strange_ids_go_nowhere(bad: str) -> None:
    """An id that Ping++ cannot have made does not reach its URLs."""
    async with asking(200, made.charge_data()) as (psp, server):
        for call in (
            psp.retrieve_charge(bad),
            psp.reverse_charge(bad),
            psp.list_refunds(bad),
            psp.retrieve_refund(bad, made.REFUND_ID),
            psp.retrieve_refund(made.CHARGE_ID, bad),
            psp.create_refund(made.refund(charge_id=bad)),
        ):
            verdict = await call
            assert isinstance(verdict, NotDone)
            assert verdict.refusal is Refusal.NOT_FOUND
        assert server.received == []


async def test_what_cannot_be_written_is_refused() -> None:
    """An `extra` that is no JSON never raises."""
    deep: list[Any] = []
    deep.append(deep)
    async with asking(200, made.charge_data()) as (psp, server):
        for extra in ({"a": object()}, {"a": deep}):
            verdict = await psp.create_charge(made.charge(extra=extra))
            assert isinstance(verdict, NotDone)
        assert server.received == []


async def test_a_bar_code_refusal_stays_open() -> None:
    """The same words that refuse a wx charge leave a bar code's outcome unknown (P5)."""
    async with asking(402, made.error_body("channel_request_error")) as (psp, _):
        assert isinstance(await psp.create_charge(made.charge()), NotDone)
        scan = made.charge(channel="wx_pub_scan")
        verdict = await psp.create_charge(scan)
        assert isinstance(verdict, Unknown)
        assert verdict.reason == "code_channel_request_error"
        assert verdict.declined is not None


async def test_the_breaker_learns_from_calls() -> None:
    """Enough trouble closes the door to new flows, refusals do not, one good answer opens it."""
    limits = BreakerLimits(failures=2)
    answers = iter([500, 400, 500, 500, 400])

    async def reply(_request: wire.Received, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.response(next(answers), made.error_body(param="id")))
        await writer.drain()

    async with (
        wire.serving(reply) as server,
        PingppClient(made.options(server.url, breaker=limits)) as psp,
    ):
        for _ in range(3):
            await psp.retrieve_charge(made.CHARGE_ID)
            async with psp.admit():
                pass
        await psp.retrieve_charge(made.CHARGE_ID)
        with pytest.raises(PspUnavailable):
            async with psp.admit():
                pass
        await psp.retrieve_charge(made.CHARGE_ID)
        async with psp.admit():
            pass


async def test_callers_in_a_hurry_do_not_open_the_breaker() -> None:
    """The end of a caller's own short time proves nothing about Ping++."""
    async with wire.serving(wire.never) as server:
        options = made.options(server.url, breaker=BreakerLimits(failures=1))
        async with PingppClient(options) as psp:
            for hurry in (timedelta(milliseconds=30), timedelta(0)):
                await psp.retrieve_charge(made.CHARGE_ID, hurry)
            async with psp.admit():
                pass


async def test_flows_are_bounded_and_other_calls_are_not_refused() -> None:
    """When all places are taken, a poll's call still goes out."""
    async with asking(200, made.charge_data(), concurrent_flows=1) as (psp, _), psp.admit():
        with pytest.raises(Overloaded):
            async with psp.admit():
                pass
        assert isinstance(await psp.retrieve_charge(made.CHARGE_ID), Done)


def test_unknown_channels_are_taken_for_dangerous() -> None:
    """Never posted again, never reversed, and perhaps paid at once."""
    psp = PingppClient(made.options())
    assert psp.pays_at_create("no_such")
    assert psp.repost_window("no_such") == timedelta(0)
    assert not psp.can_reverse("no_such")
    assert psp.can_reverse("wx")
    assert not psp.gives_back("no_such")
    assert psp.repost_window("wx") == timedelta(hours=2)
    assert not psp.pays_at_create("wx")


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"api_key": ""}, "PINGPP_API_KEY"),
        ({"api_key": "pk_test_x"}, "PINGPP_API_KEY"),
        ({"api_key": "sk_test_a b"}, "PINGPP_API_KEY"),
        ({"api_key": "sk_test_a\n"}, "PINGPP_API_KEY"),
        ({"app_id": ""}, "PINGPP_APP_ID"),
        ({"api_base": "api.pingxx.com"}, "PINGPP_API_BASE"),
        ({"api_base": "ftp://x"}, "PINGPP_API_BASE"),
        ({"api_base": "https://x/v1"}, "PINGPP_API_BASE"),
        ({"api_base": "https://x:y"}, "PINGPP_API_BASE"),
        ({"api_base": "http://pingpp.example", "api_key": "sk_live_x"}, "PINGPP_API_BASE"),
        ({"total_timeout": timedelta(0)}, "total_timeout"),
        ({"concurrent_flows": 0}, "concurrent_flows"),
    ],
)
def test_useless_options_are_refused_in_words(changed: dict[str, Any], word: str) -> None:
    """The sentence names the setting, and repeats no key."""
    with pytest.raises(SettingsError, match=word) as caught:
        replace(made.options(), **changed)
    key = changed.get("api_key")
    assert not key or key not in str(caught.value)


def test_the_key_decides_the_mode() -> None:
    """Live and test keys go to the same host."""
    live = PspOptions(api_key="sk_live_x", app_id="app_x")
    assert (live.livemode, live.api_base) == (True, "https://api.pingxx.com")
    assert not PingppClient(made.options()).livemode
    assert PspOptions(api_key="sk_live_x", app_id="a", api_base="http://127.0.0.1:1").livemode


def test_secrets_do_not_show() -> None:
    """Neither options nor client show a key when they are logged."""
    options = made.options(private_key=made.private_pem(), public_keys=(made.public_pem(),))
    shown = repr(options) + repr(PingppClient(options)) + str(options)
    assert made.API_KEY not in shown
    assert "BEGIN" not in shown
