"""Webhooks: sent once, signed, repeated on Ping++'s schedule, and never lost by the sandbox."""

from __future__ import annotations

import base64
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from midas.sandbox.app import SandboxOptions, SandboxServer
from midas.sandbox.errors import ControlError
from midas.sandbox.options import WEBHOOK_PAUSES_S
from midas.sandbox.webhook_sends import Match
from tests.sandbox.conftest import KeyPair
from tests.sandbox.shop import terms
from tests.sandbox.webhook_receiver import SIGNATURE, Receiver
from tests.sandbox.webhook_stage import STANDS_STILL, Stage, staged

DAY_S = 24 * 3600


@pytest.fixture
async def stage(sandbox_keys: KeyPair) -> AsyncIterator[Stage]:
    """A sandbox and its receiver."""
    async with staged(sandbox_keys.private) as made:
        yield made


async def test_a_payment_is_sent_once_signed_and_compact(stage: Stage) -> None:
    """One POST of compact UTF-8 JSON, signed over its exact bytes, equal to the event."""
    stage.pay(subject="测试/订单")
    (received,) = await stage.accepted()
    (event,) = stage.server.lookalike.events.values()
    assert received.event == event
    assert received.path == "/pingpp/webhooks"
    assert stage.genuine(received)
    assert len(base64.b64decode(received.header(SIGNATURE)[0], validate=True)) == 256
    assert "测试/订单".encode() in received.body
    assert b'": ' not in received.body
    assert received.body.endswith(b"}")
    assert received.header("Content-Type") == ["application/json;charset=utf-8"]


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_any_2xx_ends_it(stage: Stage, status: int) -> None:
    """However far the clock is moved, an accepted webhook is not sent again."""
    stage.receiver.status = status
    stage.pay()
    await stage.accepted()
    stage.server.clock.advance(2 * DAY_S)
    await stage.server.webhooks.quiet()
    assert len(stage.receiver.received) == 1


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 500, 503])
async def test_anything_else_is_repeated_with_the_same_bytes(stage: Stage, status: int) -> None:
    """A redirect is not followed; the second send has the body and signature of the first."""
    stage.receiver.answers.append(status)
    stage.pay()
    (delivery,) = await stage.until(sends=1)
    assert delivery.outcome == "pending"
    stage.server.clock.advance(5.1)
    first, second = await stage.accepted()
    assert (first.path, second.path) == ("/pingpp/webhooks", "/pingpp/webhooks")
    assert first.body == second.body
    assert first.header(SIGNATURE) == second.header(SIGNATURE)
    assert [send.status for send in delivery.sends] == [status, 200]


async def test_the_schedule_is_that_of_pingpp(stage: Stage) -> None:
    """Ten sends after the documented pauses, none earlier, and none after the last."""
    stage.receiver.status = 500
    stage.pay()
    await stage.until(sends=1)
    for number, pause_s in enumerate(WEBHOOK_PAUSES_S[:9], start=1):
        stage.server.clock.advance(pause_s - 1)
        await stage.server.webhooks.quiet()
        assert len(stage.receiver.received) == number
        stage.server.clock.advance(1.01)
        await stage.until(sends=number + 1)
    (delivery,) = await stage.until(outcome="given_up")
    stage.server.clock.advance(10 * DAY_S)
    await stage.server.webhooks.quiet()
    assert len(stage.receiver.received) == len(delivery.sends) == 10
    assert len({received.body for received in stage.receiver.received}) == 1


async def test_a_day_in_one_step_brings_every_send_of_that_day(stage: Stage) -> None:
    """Moving the clock does not skip sends."""
    stage.receiver.status = 500
    stage.pay()
    await stage.until(sends=1)
    stage.server.clock.advance(DAY_S)
    (delivery,) = await stage.until(outcome="given_up")
    assert len(delivery.sends) == 10


async def test_an_hour_brings_only_the_sends_of_that_hour(stage: Stage) -> None:
    """5 s, 10 s, 2, 5, 10 and 30 minutes are within the hour, the next is not."""
    stage.receiver.status = 500
    stage.pay()
    await stage.until(sends=1)
    stage.server.clock.advance(3600)
    await stage.server.webhooks.quiet()
    assert len(stage.receiver.received) == 7


async def test_the_schedule_runs_as_fast_as_scaled_time(sandbox_keys: KeyPair) -> None:
    """Ten hours of sends pass by themselves in a fraction of a second."""
    async with staged(sandbox_keys.private, time_scale=100_000.0) as stage:
        stage.receiver.status = 500
        stage.pay()
        (delivery,) = await stage.until(outcome="given_up")
        times = [send.at for send in delivery.sends]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert len(times) == 10
        assert all(gap >= pause for gap, pause in zip(gaps, WEBHOOK_PAUSES_S, strict=False))


async def test_eleven_sends_make_use_of_the_last_pause(sandbox_keys: KeyPair) -> None:
    """Where "10" is read as repeats, the whole list of pauses counts: about 25 hours."""
    async with staged(sandbox_keys.private, webhook_sends_most=11) as stage:
        stage.receiver.status = 500
        stage.pay()
        await stage.until(sends=1)
        stage.server.clock.advance(DAY_S)
        (delivery,) = await stage.until(sends=10)
        assert delivery.outcome == "pending"
        stage.server.clock.advance(DAY_S / 20)
        await stage.until(outcome="given_up", sends=11)


async def test_no_answer_in_time_is_a_failed_send(sandbox_keys: KeyPair) -> None:
    """The wait for an answer ends, and the repeat finds the receiver well again."""
    async with staged(sandbox_keys.private, webhook_timeout_s=0.05, time_scale=1.0) as stage:
        stage.receiver.open.clear()
        stage.pay()
        (delivery,) = await stage.until(sends=1)
        assert (delivery.sends[0].status, delivery.sends[0].error) == (None, "timeout")
        stage.receiver.open.set()
        stage.server.clock.advance(5.1)
        await stage.until(outcome="accepted")


async def test_nobody_listening_is_a_failed_send(stage: Stage, unused_url: str) -> None:
    """A refused connection is noted and repeated."""
    stage.server.webhooks.urls = (unused_url,)
    stage.pay()
    (delivery,) = await stage.until(sends=1)
    assert delivery.sends[0].status is None
    assert "Connect" in str(delivery.sends[0].error)
    assert delivery.outcome == "pending"


@pytest.fixture
async def unused_url() -> str:
    """A URL at which nobody listens."""
    async with Receiver() as gone:
        return gone.url


async def test_every_url_gets_every_event_and_is_repeated_alone(stage: Stage) -> None:
    """Two URLs: the one that refused is sent again, the other is not."""
    async with Receiver() as second:
        stage.server.webhooks.urls = (stage.receiver.url, second.url)
        stage.receiver.answers.append(500)
        stage.pay()
        await stage.until(2, sends=1)
        stage.server.clock.advance(5.1)
        await stage.until(2, outcome="accepted")
        assert len(stage.receiver.received) == 2
        assert len(second.received) == 1
        assert second.received[0].body == stage.receiver.received[0].body


async def test_urls_change_at_run_time(stage: Stage) -> None:
    """Without a URL nothing is sent, and what happened meanwhile is not sent later."""
    stage.server.webhooks.urls = ()
    stage.pay("ORDER0000001")
    stage.server.webhooks.urls = (stage.receiver.url, stage.receiver.url)
    stage.pay("ORDER0000002")
    (received,) = await stage.accepted()
    assert received.about["order_no"] == "ORDER0000002"


@pytest.mark.parametrize("url", ["", "gateway:6013", "ftp://x/", "http://", "http://x:99999/"])
async def test_what_is_no_url_is_refused(stage: Stage, url: str) -> None:
    """With a sentence, and the URLs stay as they were."""
    with pytest.raises(ControlError, match="not an http or https URL"):
        stage.server.webhooks.urls = (url,)
    assert stage.server.webhooks.urls == (stage.receiver.url,)


async def test_the_api_answers_while_webhooks_hang(sandbox_keys: KeyPair) -> None:
    """Many events, a receiver that does not answer: no answer waits, and only so many are sent."""
    async with staged(sandbox_keys.private, webhook_concurrency=3) as stage:
        stage.receiver.open.clear()
        headers = {"Authorization": f"Bearer {stage.server.options.key()}"}
        async with aiohttp.ClientSession(stage.server.url, headers=headers) as http:
            for number in range(20):
                order = terms(f"ORDER{number:07d}", "balance")
                async with http.post("/v1/charges", json=order) as response:
                    assert (await response.json())["paid"] is True
        await stage.receiver.arrivals(3)
        assert stage.server.webhooks.log.totals() == {
            "pending": 20,
            "accepted": 0,
            "given_up": 0,
        }
        stage.receiver.open.set()
        await stage.until(20, outcome="accepted")
        assert stage.receiver.most_at_once == 3


async def test_connections_are_used_again(stage: Stage) -> None:
    """One webhook after the other goes over the same connection."""
    for number in range(1, 6):
        stage.pay(f"ORDER{number:07d}")
        await stage.until(number, outcome="accepted")
    assert len({received.connection for received in stage.receiver.received}) == 1


async def test_going_down_ends_sending_and_coming_back_goes_on(stage: Stage) -> None:
    """A webhook under way when the sandbox goes down is sent again when it is back."""
    stage.receiver.open.clear()
    stage.pay()
    await stage.receiver.arrivals(1)
    await stage.server.go_down()
    stage.receiver.open.set()
    assert stage.server.webhooks.log.totals()["pending"] == 1
    await stage.server.start()
    await stage.until(outcome="accepted")
    first, second = stage.receiver.received
    assert first.body == second.body


async def test_a_restart_owes_what_was_not_accepted(sandbox_keys: KeyPair, tmp_path: Path) -> None:
    """Pending repeats end cleanly with the sandbox, and the next one on the ledger sends them."""
    async with Receiver() as receiver:
        options = SandboxOptions(
            signing_private_key=sandbox_keys.private,
            ledger_path=tmp_path / "ledger.jsonl",
            webhook_urls=(receiver.url,),
            time_scale=STANDS_STILL,
        )
        receiver.answers.extend([200, 500])
        async with SandboxServer(options) as first:
            one = Stage(first, receiver)
            one.pay("ORDER0000001")
            await one.until(outcome="accepted")
            one.pay("ORDER0000002")
            await one.until(order_no="ORDER0000002", sends=1)
        async with SandboxServer(options) as second:
            await second.webhooks.log.until(Match(outcome="accepted"))
            await second.webhooks.quiet()
        orders = [received.about["order_no"] for received in receiver.received]
        assert orders == ["ORDER0000001", "ORDER0000002", "ORDER0000002"]
        assert receiver.received[1].body == receiver.received[2].body
        async with SandboxServer(options) as third:
            assert third.lookalike.owed_webhooks == []
            await third.webhooks.quiet()
        assert len(receiver.received) == 3


async def test_reset_forgets_pending_repeats(stage: Stage) -> None:
    """After a reset nothing of before is sent, and new events are."""
    stage.receiver.answers.append(500)
    stage.pay("ORDER0000001")
    await stage.until(sends=1)
    stage.server.lookalike.reset()
    stage.server.webhooks.clear()
    stage.server.clock.advance(DAY_S)
    stage.pay("ORDER0000002")
    received = await stage.accepted()
    assert [one.about["order_no"] for one in received] == ["ORDER0000001", "ORDER0000002"]
    assert stage.server.webhooks.log.totals() == {"pending": 0, "accepted": 1, "given_up": 0}


async def test_reset_forgets_what_is_under_way(stage: Stage) -> None:
    """A webhook that was being sent is neither counted nor repeated afterwards."""
    stage.receiver.open.clear()
    stage.receiver.answers.append(500)
    stage.pay()
    await stage.receiver.arrivals(1)
    stage.server.lookalike.reset()
    stage.server.webhooks.clear()
    stage.receiver.open.set()
    stage.pay("ORDER0000002")
    await stage.until(outcome="accepted")
    stage.server.clock.advance(DAY_S)
    await stage.server.webhooks.quiet()
    assert len(stage.receiver.received) == 2
    assert stage.server.webhooks.log.totals() == {"pending": 0, "accepted": 1, "given_up": 0}


def test_a_concurrency_of_nothing_is_refused() -> None:
    """At once: such a sandbox would never send."""
    with pytest.raises(ControlError, match="webhook_concurrency"):
        SandboxServer(SandboxOptions(webhook_concurrency=0))
