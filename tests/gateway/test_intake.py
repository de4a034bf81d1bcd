"""From a request to RecordEvent and back, over a real socket and a real gRPC server."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
from grpc import StatusCode

from midas.v1 import event_service_pb2 as events
from tests.gateway.account import ABSENT, Account, Genuine, event_body, genuine_webhooks
from tests.gateway.events_double import EventsDouble, Fails, served
from tests.gateway.intake_stage import Stage, request, staged, until
from tests.gateway.test_event import UNREADABLE

GENUINE = genuine_webhooks()
ACCOUNT = Account()
BODY = event_body()
SIGNATURE = ACCOUNT.sign(BODY)


@dataclass
class Scene:
    """An intake before a double of Midas."""

    stage: Stage
    midas: EventsDouble


@asynccontextmanager
async def scene(**options: int | float) -> AsyncIterator[Scene]:
    """A scene whose intake has the account's key."""
    async with AsyncExitStack() as stack:
        midas = EventsDouble()
        port = await stack.enter_async_context(served(midas))
        keys = [ACCOUNT.key]
        stage = await stack.enter_async_context(
            staged(keys, port, **options)  # type: ignore[arg-type]
        )
        yield Scene(stage, midas)


async def test_a_webhook_is_answered_when_midas_has_it() -> None:
    """RecordEvent gets the body byte for byte and the key's name; the sender gets 200."""
    async with scene() as on:
        answer = await on.stage.post(BODY, SIGNATURE)
        assert (answer.status, answer.body) == (200, b"accepted\n")
        (recorded,) = on.midas.recorded
        assert (recorded.body, recorded.key_name, recorded.unreadable) == (BODY, "pingpp", "")
        assert on.stage.counted("accepted") == 1


@pytest.mark.skipif(not GENUINE, reason=ABSENT)
@pytest.mark.parametrize("webhook", GENUINE, ids=lambda each: each.name)
async def test_genuine_webhooks_go_all_the_way(webhook: Genuine) -> None:
    """Their own account's key among several accepts them; the other keys alone refuse them."""
    midas = EventsDouble()
    others = [each.key for each in GENUINE if each.key.name != webhook.key.name]
    async with served(midas) as port:
        async with staged([*others, webhook.key], port) as stage:
            assert (await stage.post(webhook.body, webhook.signature)).status == 200
            assert [each.key_name for each in midas.recorded] == [webhook.key.name]
        async with staged(others, port) as stage:
            assert (await stage.post(webhook.body, webhook.signature)).status == 401
            assert len(midas.recorded) == 1


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (events.EVENT_OUTCOME_ACCEPTED, b"accepted\n"),
        (events.EVENT_OUTCOME_DUPLICATE, b"duplicate\n"),
        (events.EVENT_OUTCOME_IGNORED, b"ignored\n"),
        (99, b"recorded\n"),
        (77, b"recorded\n"),
    ],
)
async def test_every_ok_of_midas_is_a_200(
    outcome: events.EventOutcome.ValueType, text: bytes
) -> None:
    """An OK answer means that the event is on disk, also with an outcome of a later version."""
    async with scene() as on:

        async def script(_: events.RecordEventRequest) -> events.RecordEventResponse:
            return events.RecordEventResponse(outcome=outcome)

        on.midas.script = script
        answer = await on.stage.post(BODY, SIGNATURE)
        assert (answer.status, answer.body) == (200, text)


async def test_an_ok_without_an_outcome_is_a_503() -> None:
    """An empty answer comes from something that is not Midas: nothing is on disk by that (I11)."""
    async with scene() as on:

        async def script(_: events.RecordEventRequest) -> events.RecordEventResponse:
            return events.RecordEventResponse()

        on.midas.script = script
        assert (await on.stage.post(BODY, SIGNATURE)).status == 503


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
async def test_every_error_of_midas_has_its_status(code: StatusCode) -> None:
    """Only what sending again cannot mend is a 4xx; nobody sees Midas's own words."""
    wanted = {StatusCode.ALREADY_EXISTS: 409, StatusCode.INVALID_ARGUMENT: 400}.get(code, 503)
    async with scene() as on:

        async def script(_: events.RecordEventRequest) -> events.RecordEventResponse:
            raise Fails(code)

        on.midas.script = script
        answer = await on.stage.post(BODY, SIGNATURE)
        assert answer.status == wanted
        assert answer.body in {b"event_id_reused\n", b"refused\n", b"unavailable\n"}
        assert "details" not in answer.head


@pytest.mark.parametrize("name", [each for each in UNREADABLE if UNREADABLE[each][0]])
async def test_w12_an_unreadable_body_with_a_valid_signature_is_recorded(name: str) -> None:
    """2xx once Midas has it: a 4xx would only make Ping++ send it ten times (I11)."""
    body, reason = UNREADABLE[name]
    async with scene() as on:
        signature = ACCOUNT.sign(body)
        answer = await on.stage.post(body, signature)
        if len(body) > 64 * 1024:
            assert (answer.status, on.midas.recorded) == (413, [])
            return
        assert (answer.status, answer.body) == (200, b"unreadable\n")
        (recorded,) = on.midas.recorded
        assert (recorded.body, recorded.unreadable) == (body, reason)


async def test_an_unreadable_body_that_midas_cannot_take_is_a_503() -> None:
    """Not durable is not 2xx, for any body."""
    async with scene() as on:

        async def script(_: events.RecordEventRequest) -> events.RecordEventResponse:
            raise Fails(StatusCode.UNAVAILABLE)

        on.midas.script = script
        assert (await on.stage.post(b"[", ACCOUNT.sign(b"["))).status == 503


async def test_w19_an_unknown_type_is_passed_on_and_counted_as_other() -> None:
    """Whether it is ignored is Midas's decision; the sender gets its 2xx."""
    body = event_body(kind="coupon.invented")
    async with scene() as on:
        assert (await on.stage.post(body, ACCOUNT.sign(body))).status == 200
        assert on.midas.recorded[0].unreadable == ""
        metrics = on.stage.metrics.exposition().decode()
        assert 'webhook_gateway_events_total{key="pingpp",type="other"} 1.0' in metrics
        assert "coupon" not in metrics


async def test_w7_forged_webhooks_get_401_or_400_and_no_call() -> None:
    """No header, an empty one, two of them, another key, another body."""
    async with scene() as on:
        other = Account("other").sign(BODY)
        header = f"X-Pingplusplus-Signature: {SIGNATURE}"
        assert (await on.stage.send(request(BODY, None))).status == 401
        assert (await on.stage.post(BODY, "")).status == 401
        assert (await on.stage.post(BODY, "  ")).status == 401
        assert (await on.stage.post(BODY, other)).status == 401
        assert (await on.stage.post(BODY + b" ", SIGNATURE)).status == 401
        assert (await on.stage.post(BODY, SIGNATURE, header)).status == 400
        assert (await on.stage.post(BODY, other, header)).status == 400
        assert (
            await on.stage.post(BODY, SIGNATURE, header.upper().split(":")[0] + ":")
        ).status == 400
        assert (await on.stage.post(b"", ACCOUNT.sign(b""))).status == 400
        assert on.midas.recorded == []


async def test_w15_midas_down_is_a_503_and_redelivery_succeeds() -> None:
    """Nothing is acknowledged while it is down; when it is back the gateway notices soon."""
    midas = EventsDouble()
    async with served(midas) as port:
        pass
    async with staged([ACCOUNT.key], port) as stage:
        for _ in range(3):
            assert (await stage.post(BODY, SIGNATURE)).status == 503
        async with served(midas, port):
            await accepted_again(stage)
        assert len(midas.recorded) == 1
        assert (await stage.post(BODY, SIGNATURE)).status == 503
        async with served(midas, port):
            await accepted_again(stage)
        assert len(midas.recorded) == 2


async def accepted_again(stage: Stage) -> None:
    """Send the webhook until it is accepted, as Ping++ does, only sooner."""
    for _ in range(600):
        if (await stage.post(BODY, SIGNATURE)).status == 200:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the gateway did not notice that Midas is back")


async def test_w15_midas_that_hangs_is_a_503_after_the_deadline() -> None:
    """The deadline goes with the call, so that Midas knows it too."""
    async with scene(record_timeout_s=0.3) as on:
        hung = asyncio.Event()

        async def script(_: events.RecordEventRequest) -> events.RecordEventResponse:
            await hung.wait()
            return events.RecordEventResponse(outcome=events.EVENT_OUTCOME_ACCEPTED)

        on.midas.script = script
        assert (await on.stage.post(BODY, SIGNATURE)).status == 503
        hung.set()


async def test_w15_a_midas_that_takes_connections_and_answers_nothing_is_a_503() -> None:
    """A port behind which nobody speaks gRPC does not hold a webhook beyond the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with staged([ACCOUNT.key], mute.getsockname()[1], record_timeout_s=0.3) as stage:
            assert (await stage.post(BODY, SIGNATURE)).status == 503


async def test_w16_recorded_but_not_answered_is_a_duplicate_the_next_time() -> None:
    """Midas dies after its commit: 503, Ping++ sends it again, and that is a 200 without effect."""
    midas = EventsDouble()
    on_disk: set[bytes] = set()
    async with AsyncExitStack() as dies:
        port = await dies.enter_async_context(served(midas))

        async def commits_and_dies(sent: events.RecordEventRequest) -> events.RecordEventResponse:
            on_disk.add(sent.body)
            await asyncio.Event().wait()
            raise AssertionError

        async def remembers(sent: events.RecordEventRequest) -> events.RecordEventResponse:
            assert sent.body in on_disk
            return events.RecordEventResponse(outcome=events.EVENT_OUTCOME_DUPLICATE)

        midas.script = commits_and_dies
        async with staged([ACCOUNT.key], port) as stage:
            first = asyncio.create_task(stage.post(BODY, SIGNATURE))
            await until(lambda: bool(on_disk))
            await dies.aclose()
            assert (await first).status == 503
            midas.script = remembers
            async with served(midas, port):
                await accepted_again(stage)
            assert stage.counted("duplicate") == 1


async def test_more_than_the_bound_at_once_is_a_503_at_once() -> None:
    """What is under way goes on; one more is not kept waiting."""
    async with scene(concurrent=2) as on:
        release = asyncio.Event()

        async def script(_: events.RecordEventRequest) -> events.RecordEventResponse:
            await release.wait()
            return events.RecordEventResponse(outcome=events.EVENT_OUTCOME_ACCEPTED)

        on.midas.script = script
        under_way = [asyncio.create_task(on.stage.post(BODY, SIGNATURE)) for _ in range(2)]
        await until(lambda: len(on.midas.recorded) == 2)
        answer = await on.stage.post(BODY, SIGNATURE)
        assert (answer.status, answer.body) == (503, b"overloaded\n")
        release.set()
        assert [(await each).status for each in under_way] == [200, 200]
        assert (await on.stage.post(BODY, SIGNATURE)).status == 200


async def test_a_sender_that_goes_away_does_not_undo_its_webhook() -> None:
    """Once the body is here, RecordEvent is finished, also when the sender has gone."""
    async with scene() as on:
        release = asyncio.Event()

        async def script(_: events.RecordEventRequest) -> events.RecordEventResponse:
            await release.wait()
            return events.RecordEventResponse(outcome=events.EVENT_OUTCOME_ACCEPTED)

        on.midas.script = script
        _, writer = await asyncio.open_connection("127.0.0.1", on.stage.port)
        writer.write(request(BODY, SIGNATURE))
        await until(lambda: bool(on.midas.recorded))
        writer.transport.abort()
        release.set()
        await until(lambda: on.stage.counted("accepted") == 1)


async def test_a_connection_serves_one_webhook_after_another() -> None:
    """Accepted webhooks keep it open; a refusal closes it."""
    async with scene() as on:
        good = request(BODY, SIGNATURE, close=False)
        bad = request(BODY + b" ", SIGNATURE, close=False)
        answers = await on.stage.exchange(good + good + bad + good)
        assert [each.status for each in answers] == [200, 200, 401]
        assert len(on.midas.recorded) == 2


async def test_answers_show_nothing_of_what_is_behind_them() -> None:
    """No version, no library, the same few words for everybody."""
    async with scene() as on:
        answers = [
            await on.stage.post(BODY, SIGNATURE),
            await on.stage.post(BODY, "x"),
            await on.stage.send(b"\x16\x03\x01\r\n\r\n"),
        ]
        for answer in answers:
            assert "Server: webhook-gateway" in answer.head
            assert "aiohttp" not in answer.head
            assert len(answer.body) < 32
