"""The store alone, in a process of its own: begins and finishes charges as the charge flow does.

Each operation is two durable writes, one after the other: the intent, then what Ping++ answered.
"""

import asyncio
import itertools
import json
import os
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import uvloop

from midas.charge import Charge, ChargeFacts, ChargeObservation, ChargeReport, ObservedBy
from midas.draft import Draft
from midas.flows.payment_calls import new_out_trade_no
from midas.payment import Change, Order
from midas.storage import SqlStore, open_store
from tests.benchmarks.child import Command, obey

_ANSWER_CHARACTERS = 900
"""The length of Ping++'s JSON, which is stored with the charge."""


async def _main() -> None:
    async with await open_store(os.environ["DATABASE_URL"]) as store:

        async def answer(command: Command) -> Command:
            return await _write(store, command["prefix"], command["count"], command["callers"])

        await obey(answer)


async def _write(store: SqlStore, prefix: str, count: int, callers: int) -> Command:
    """What is written is made before the clock starts: only the store is measured."""
    pairs = [_changes(f"{prefix}-{number}", number) for number in range(count)]
    numbers = itertools.count()

    async def caller() -> None:
        while (number := next(numbers)) < count:
            for change in pairs[number]:
                if not await store.commit(change):
                    raise AssertionError("a change of a new order was refused")

    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return {
        "elapsed_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
    }


def _changes(order_no: str, number: int) -> tuple[Change, Change]:
    draft = Draft(Order(order_no))
    charge = _charge(order_no, number)
    draft.add_charge(charge, ObservedBy.CREATE)
    begun = draft.change(uuid4().hex)
    assert begun is not None
    draft = Draft(begun.after)
    facts = _facts(charge)
    observation = ChargeObservation(
        ChargeReport.WAITING, ObservedBy.CREATE, charge.created_at + timedelta(seconds=1), facts
    )
    draft.observe_charge(charge.out_trade_no, observation)
    finished = draft.change(uuid4().hex)
    assert finished is not None
    return begun, finished


def _charge(order_no: str, number: int) -> Charge:
    now = datetime.now(UTC)
    return Charge(
        out_trade_no=new_out_trade_no(now),
        order_no=order_no,
        app_id="app_benchmark",
        livemode=False,
        channel="wx_pub_qr",
        amount=1999,
        currency="cny",
        subject="A pair of socks",
        body="A pair of woollen socks, size 42",
        client_ip="127.0.0.1",
        extra={"product_id": f"p{number}"},
        metadata={"shop": "benchmark", "basket": str(number)},
        terms_digest="0" * 64,
        created_at=now,
        updated_at=now,
        due_at=now + timedelta(seconds=32),
    )


def _facts(charge: Charge) -> ChargeFacts:
    charge_id = f"ch_{charge.out_trade_no}"
    answer = {"id": charge_id, "object": "charge", "credential": "x" * _ANSWER_CHARACTERS}
    return ChargeFacts(
        charge_id=charge_id,
        out_trade_no=charge.out_trade_no,
        app_id=charge.app_id,
        livemode=False,
        channel=charge.channel,
        amount=charge.amount,
        currency=charge.currency,
        paid=False,
        reversed=False,
        created_at=charge.created_at,
        expires_at=charge.created_at + timedelta(hours=2),
        has_credential=True,
        raw=json.dumps(answer),
    )


if __name__ == "__main__":
    uvloop.run(_main())
