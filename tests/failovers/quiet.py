"""When the load is over: what is open comes to its end, or the run fails with what does not."""

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from grpc import aio

from midas.sandbox.webhook_sends import Match
from tests.failovers.stage import Stage
from tests.patience import PATIENCE_S

LOOK_S = 1.0
REFRESHED_AT_ONCE = 8

_OPEN = """
SELECT order_no, 'charge ' || state FROM charges
    WHERE state = 'SUBMITTING' AND operator_reason = ''
UNION ALL SELECT order_no, 'refund ' || state FROM refunds
    WHERE state IN ('SUBMITTING', 'PENDING') AND operator_reason = ''
UNION ALL SELECT coalesce(order_no, ''), 'event ' || standing FROM events
    WHERE standing = 'WAITING'
UNION ALL SELECT order_no, 'not delivered' FROM orders
    WHERE delivered_sequence < last_sequence AND parked_code = ''
"""
_UNPAID = "SELECT DISTINCT order_no FROM charges WHERE state IN ('SUBMITTING', 'PENDING')"
_PARKED = "SELECT order_no, parked_code FROM orders WHERE parked_code <> ''"
_DELIVERED = "SELECT order_no, delivered_sequence FROM orders"


class NeverQuiet(Exception):
    """Nothing has come to its end for PATIENCE_S; the text names what is open."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """How far the order's notifications are delivered, as Midas has it on disk."""

    delivered: int = 0
    parked_code: str = ""


async def become_quiet(stage: Stage) -> None:
    """Return when nothing is under way any more. Raises NeverQuiet.

    Limited by progress: as long as less and less is open, it waits.
    """
    await stage.serve()
    await _come_to_ends(stage)
    # What is not paid here may be paid at Ping++: its webhook was taken, and then perhaps lost.
    await _refresh(stage, {each[0] for each in await fetch(stage.database_url, _UNPAID)})
    await _come_to_ends(stage)


async def _come_to_ends(stage: Stage) -> None:
    fewest, since = math.inf, time.monotonic()
    while found := await _open(stage):
        await _nudge(stage, {order_no for order_no, _ in found if order_no})
        if len(found) < fewest:
            fewest, since = len(found), time.monotonic()
        if time.monotonic() - since > stage.plan.settle_window_s + PATIENCE_S:
            raise NeverQuiet("; ".join(sorted(f"{order_no} {what}" for order_no, what in found)))
        await asyncio.sleep(LOOK_S)


async def outboxes(database_url: str) -> dict[str, Outbox]:
    """Of every order."""
    parked = dict(await fetch(database_url, _PARKED))
    rows = await fetch(database_url, _DELIVERED)
    return {each[0]: Outbox(each[1], parked.get(each[0], "")) for each in rows}


async def fetch(database_url: str, sql: str) -> list[Any]:
    """What the database answers."""
    connection = await asyncpg.connect(database_url)
    try:
        rows: list[Any] = await connection.fetch(sql)
    finally:
        await connection.close()
    return [tuple(each) for each in rows]


async def _open(stage: Stage) -> list[tuple[str, str]]:
    """What has not come to its end, each with its order."""
    found: list[tuple[str, str]] = await fetch(stage.database_url, _OPEN)
    webhooks = stage.chain.webhooks.log
    if webhooks.totals()["pending"]:
        waiting = webhooks.matching(Match(outcome="pending"))
        found += [(each.order_no or "", "webhook") for each in waiting]
    return found


async def _nudge(stage: Stage, order_nos: set[str]) -> None:
    """The bank comes to its decisions, and somebody asks about what is open."""
    lookalike = stage.harness.sandbox.lookalike
    for charge in lookalike.newest_charges(10**6):
        for refund in lookalike.refunds_of(charge["id"]):
            if refund["status"] == "pending":
                lookalike.approve_refund(refund["id"])
    await _refresh(stage, order_nos)


async def _refresh(stage: Stage, order_nos: set[str]) -> None:
    """Query with refresh; an order whose query is refused is asked about again."""
    places = asyncio.Semaphore(REFRESHED_AT_ONCE)

    async def one(number: int, order_no: str) -> None:
        async with places:
            midas = stage.midas[number % len(stage.midas)]
            try:
                await midas.query(order_no, refresh=True)
            except aio.AioRpcError as error:
                refused.append((order_no, error))

    refused: list[tuple[str, aio.AioRpcError]] = []
    await asyncio.gather(*(one(n, each) for n, each in enumerate(sorted(order_nos))))
