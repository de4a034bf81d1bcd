"""T4: webhooks that arrive while Midas or its database is away (W15), or dies over one (W16)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from midas.sandbox.webhook_sends import Delivery
from tests.faults.books import books_agree
from tests.faults.processes import NOT_SERVING, SERVING, Midas
from tests.faults.test_database_faults import locked
from tests.faults.test_kill import KILLED
from tests.faults.webhook_stage import SHORT_LEASE, Chain, Gateway
from tests.postgres import PostgresServer

ORDERS = ["o-1", "o-2", "o-3"]
IMPATIENT = {"COMMIT_PATIENCE_S": "1"}
"""Shorter than the gateway waits for Midas, so that Midas itself answers that it cannot."""


async def test_w15_midas_is_down(chain: Chain) -> None:
    """503, no delivery; when Midas is back the schedule brings them again, once in effect."""
    midas, gateway, _ = await chain.all_up()
    charges = await asyncio.gather(*(midas.charge(each) for each in ORDERS))
    await midas.kill()
    for charge in charges:
        chain.harness.pay(charge)
    _none_acknowledged(await chain.sent(len(ORDERS), sends=1))
    await chain.midas()
    await _made_up_for(chain, gateway)


async def test_w15_the_database_is_locked(chain: Chain, sqlite_path: Path) -> None:
    """The same while another program holds SQLite's lock."""
    midas, gateway, _ = await chain.all_up(IMPATIENT)
    charges = await asyncio.gather(*(midas.charge(each) for each in ORDERS))
    with locked(sqlite_path):
        for charge in charges:
            chain.harness.pay(charge)
        _none_acknowledged(await chain.sent(len(ORDERS), sends=1))
    await _made_up_for(chain, gateway)


async def test_w15_the_database_is_down(postgres_chain: Chain, postgres: PostgresServer) -> None:
    """The same while PostgreSQL is stopped; nothing has to be restarted."""
    chain = postgres_chain
    midas, gateway, _ = await chain.all_up(IMPATIENT)
    charges = await asyncio.gather(*(midas.charge(each) for each in ORDERS))
    async with _stopped(postgres, midas):
        for charge in charges:
            chain.harness.pay(charge)
        _none_acknowledged(await chain.sent(len(ORDERS), sends=1))
    await midas.health(SERVING)
    await _made_up_for(chain, gateway)


async def test_w16_killed_between_the_commit_and_the_2xx(either_chain: Chain) -> None:
    """Not acknowledged, sent again, and then a duplicate: the order service is notified once."""
    chain = either_chain
    victim, gateway, _ = await asyncio.gather(
        chain.midas("event.after", "o-1"), chain.gateway(), chain.orders()
    )
    await gateway.connected()
    await chain.paid(victim, "o-1")
    assert await victim.ended() == KILLED
    (delivery,) = await chain.sent(sends=1)
    _none_acknowledged([delivery])
    await chain.midas(limits=SHORT_LEASE)
    await chain.notified("o-1")
    await gateway.connected()
    await chain.schedule_passes()
    _refused_then_accepted(delivery)
    assert (await gateway.verdicts(len(delivery.sends)))[-1] == "duplicate"
    await _once_each(chain, ["o-1"])


async def _made_up_for(chain: Chain, gateway: Gateway) -> None:
    await gateway.connected()
    await chain.schedule_passes()
    deliveries = await chain.sent(len(ORDERS), outcome="accepted")
    for delivery in deliveries:
        _refused_then_accepted(delivery)
    verdicts = await gateway.verdicts(sum(len(each.sends) for each in deliveries))
    # what could not be promised in time may have been written all the same
    assert set(verdicts) - {"unavailable"} <= {"accepted", "duplicate"}
    await _once_each(chain, ORDERS)


async def _once_each(chain: Chain, order_nos: list[str]) -> None:
    for order_no in order_nos:
        assert (await chain.notified(order_no)).pay_order_success == 1
    await chain.all_delivered()
    chain.assert_in_order(*order_nos)
    assert len(chain.book.received()) == len(order_nos)
    await books_agree(chain.database_url, order_nos, chain.harness.sandbox.lookalike)


def _refused_then_accepted(delivery: Delivery) -> None:
    """At least once, and more often where the schedule was quicker than a process that starts."""
    *before, last = [each.status for each in delivery.sends]
    assert set(before) == {503}
    assert last == 200


def _none_acknowledged(deliveries: list[Delivery]) -> None:
    statuses = {send.status for each in deliveries for send in each.sends}
    assert statuses == {503}, "I11: acknowledged, and not on disk"


@asynccontextmanager
async def _stopped(postgres: PostgresServer, midas: Midas) -> AsyncIterator[None]:
    await asyncio.to_thread(postgres.stop)
    try:
        await midas.health(NOT_SERVING)
        yield
    finally:
        await asyncio.to_thread(postgres.start)
