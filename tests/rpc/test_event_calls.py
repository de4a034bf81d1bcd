"""EventService: who may call it, how a wait ends, and the whole of it over SQLite."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from midas.flows.announce import Announcer
from midas.flows.inbox import Inbox
from midas.flows.payment_calls import Payments, SystemClock, new_out_trade_no
from midas.rpc.callers import Callers
from midas.rpc.event_service import SERVICE
from midas.rpc.server import Binding, Server, Tls
from midas.sandbox.forgery import compact
from midas.sandbox.ledger import Lookalike
from midas.sandbox.samples import sample_event
from midas.storage import open_store
from midas.v1 import charge_pb2
from midas.v1 import event_service_pb2 as pb
from midas.v1.event_service_pb2_grpc import EventServiceStub
from tests.fakes.psp import DirectWire, client_over
from tests.faults.scenarios import TERMS
from tests.rpc.certificates import Authority
from tests.rpc.scripted import error_of

if TYPE_CHECKING:
    from midas.v1.event_service_pb2_grpc import EventServiceAsyncStub
from tests.rpc.scripted_events import (
    ScriptedAnnouncer,
    Served,
    served,
    settle,
    settlement,
)


async def test_the_gateway_may_do_this_and_nothing_else() -> None:
    """Its certificate permits that; a service that may charge may not record events of Ping++."""
    authority = Authority()
    mine = authority.issue("midas")
    callers = Callers(
        {
            "gateway": frozenset({f"{SERVICE}/*"}),
            "orders": frozenset({"midas.v1.PaymentService/*"}),
        }
    )
    tls = Tls(mine.certificate, mine.key, authority.pem)
    async with served(binding=Binding(tls=tls, callers=callers)) as midas:
        address = f"127.0.0.1:{midas.server.port}"
        for name, may in (("gateway", True), ("orders", False)):
            pair = authority.issue(name)
            credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.certificate)
            async with aio.secure_channel(address, credentials) as channel:
                stub: EventServiceAsyncStub = EventServiceStub(channel)
                calls = (
                    stub.RecordEvent(pb.RecordEventRequest(body=b"{}")),
                    stub.LeaseNotifications(pb.LeaseNotificationsRequest()),
                    stub.SettleNotifications(settle(settlement())),
                )
                for call in calls:
                    if may:
                        await call
                    else:
                        assert (await error_of(call)).code is grpc.StatusCode.PERMISSION_DENIED
        assert len(midas.inbox.asked) == len(midas.announcer.asked) == 1


async def test_a_caller_that_goes_away_ends_its_wait() -> None:
    """The wait is cancelled with the call: nothing is leased for nobody."""
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with served(announcer=ScriptedAnnouncer(before=wait)) as midas:
        call = midas.stub.LeaseNotifications(
            pb.LeaseNotificationsRequest(wait=Duration(seconds=60))
        )
        asyncio.ensure_future(call.code())  # noqa: RUF006 - it only sends the request
        await waiting.wait()
        call.cancel()
        await ended.wait()


@dataclass
class Whole:
    """The real inbox, announcer and store behind the service."""

    midas: Served
    payments: Payments
    announcer: Announcer
    lookalike: Lookalike

    async def charge(self, order_no: str) -> str:
        """An open charge; its id."""
        made = await self.payments.charge(replace(TERMS, order_no=order_no))
        return str(json.loads(made.charge_json)["id"])

    async def record(self) -> pb.RecordEventResponse:
        """The webhook of the newest event."""
        body = compact(list(self.lookalike.events.values())[-1])
        return await self.midas.stub.RecordEvent(pb.RecordEventRequest(body=body))

    async def lease(self, wait_s: int = 0) -> pb.LeaseNotificationsResponse:
        """What is due."""
        wait = Duration(seconds=wait_s)
        return await self.midas.stub.LeaseNotifications(pb.LeaseNotificationsRequest(wait=wait))


@pytest.fixture
async def whole(sqlite_url: str) -> AsyncIterator[Whole]:
    """Everything real but the socket to Ping++."""
    lookalike = Lookalike("app_1")
    psp = client_over(DirectWire(lookalike), "app_1", timedelta(seconds=5))
    async with await open_store(sqlite_url) as store:
        payments = Payments(store, psp, SystemClock())
        announcer = Announcer(store, SystemClock())
        async with served(Inbox(payments.ports), announcer) as midas:
            yield Whole(midas, payments, announcer, lookalike)


async def test_from_the_webhook_to_the_acknowledgement(whole: Whole) -> None:
    """A long poll waits, the webhook comes, the notification is handed out, settled, and gone."""
    charge_id = await whole.charge("o-1")
    waiting = asyncio.ensure_future(whole.lease(wait_s=50))
    whole.lookalike.pay(charge_id)
    assert (await whole.record()).outcome == pb.EVENT_OUTCOME_ACCEPTED
    assert (await whole.record()).outcome == pb.EVENT_OUTCOME_DUPLICATE
    (leased,) = (await waiting).notifications
    assert leased.notification.charge.state == charge_pb2.CHARGE_STATE_SUCCEEDED
    assert not (await whole.lease()).notifications
    done = pb.Settlement(
        lease_token=leased.lease_token,
        order_no="o-1",
        sequence=leased.notification.sequence,
        outcome=pb.DELIVERY_OUTCOME_DELIVERED,
    )
    assert list((await whole.midas.stub.SettleNotifications(settle(done))).applied) == [True]
    assert list((await whole.midas.stub.SettleNotifications(settle(done))).applied) == [False]
    assert not (await whole.lease()).notifications


async def test_a_payment_of_an_order_that_is_not_there(whole: Whole) -> None:
    """Its number is one of ours, so the gateway may answer 2xx and a person has to look."""
    number = new_out_trade_no(datetime.now(UTC))
    sample = sample_event("charge.succeeded", livemode=False)
    sample["data"]["object"] |= {"app": "app_1", "order_no": number, "created": int(time.time())}
    answer = await whole.midas.stub.RecordEvent(pb.RecordEventRequest(body=compact(sample)))
    assert (answer.outcome, answer.reason) == (pb.EVENT_OUTCOME_IGNORED, "order_lost")


async def test_a_drain_lets_waiting_calls_go(whole: Whole) -> None:
    """Long polls are answered, empty, when the process is about to end; none is cut off."""
    calls = [asyncio.ensure_future(whole.lease(wait_s=50)) for _ in range(3)]
    await _under_way(whole.midas.server, len(calls))
    whole.announcer.stop_waiting()
    assert await whole.midas.server.drain(timedelta(seconds=10)) == 0
    assert [list(each.notifications) for each in await asyncio.gather(*calls)] == [[], [], []]


async def _under_way(server: Server, count: int) -> None:
    """Until so many calls are being served."""
    async with asyncio.timeout(20):
        while len(server._calls._active) < count:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
