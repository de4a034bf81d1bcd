"""T6: failovers of a real PostgreSQL cluster under load, and the three ledgers compared (D3, A7).

HA_CLUSTER names the tool that has the cluster: a program with the verbs `up DIR [--sync]` (prints
DATABASE_URL=…), `kill-primary DIR --wait [--lag S]`, `revive DIR --wait` and `down DIR`. Run it as
root.

    HA_CLUSTER=…/ha-cluster uv run pytest -n 0 -s -m long tests/faults/test_cluster_failovers.py

FAILOVERS is how many there are, 5 unless the environment says otherwise. Synchronous: nothing is
lost, and the ledgers of Ping++, Midas and the order service agree. Asynchronous, with the last
LAG_S seconds cut off: whatever Midas has, the order service has been told, once, and it was told of
no money that Ping++ does not have. What the database has lost together with its webhook is printed;
to find that again takes a look through Ping++'s lists.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from grpc import aio

from midas.charge import ChargeState
from midas.refund import RefundState
from midas.storage import migrate, open_store
from tests.faults.processes import Harness, Keys, until
from tests.faults.webhook_load import AGAIN, FINAL, Load, _reason
from tests.faults.webhook_stage import Chain

if TYPE_CHECKING:
    from midas.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

Answer = TypeVar("Answer")

TOOL = os.environ.get("HA_CLUSTER", "")
FAILOVERS = int(os.environ.get("FAILOVERS", "5"))
SEED = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(10**6)))
LAG_S = "2"
CALLERS = 4
ORDERS_BETWEEN = 30
"""So many are begun between two failovers."""
PATIENCE = {"COMMIT_PATIENCE_S": "60"}
"""Longer than a failover of the cluster takes."""
HEALING_S = 180.0
EVERYTHING = 10**6
PAUSES_S = (0.5,) + (1.0,) * 500

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not TOOL, reason="HA_CLUSTER names no cluster"),
    pytest.mark.timeout(FAILOVERS * 180 + 2 * HEALING_S),
]


@dataclass
class Cluster:
    """One cluster in a folder."""

    folder: Path
    url: str = ""

    async def run(self, verb: str, *options: str) -> dict[str, str]:
        """What it printed as KEY=VALUE. AssertionError if it failed."""
        process = await asyncio.create_subprocess_exec(
            *(TOOL, verb, str(self.folder), *options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        lines = (line.partition("=") for line in out.decode().splitlines())
        return {key: value for key, _, value in lines}


class Loss(Load):
    """Callers who give an order up when they are told what only a loss explains."""

    async def _insist(
        self, call: Callable[["PaymentServiceAsyncStub"], Awaitable[Answer]]
    ) -> Answer | None:
        while True:
            try:
                answer = await call(self._rng.choice(self._stubs))
            except aio.AioRpcError as error:
                reason = _reason(error)
                self.ends[reason or error.code().name] += 1
                if reason in FINAL or reason not in AGAIN:
                    return None
                await asyncio.sleep(0.2)
            else:
                self.ends["OK"] += 1
                return answer


@pytest.fixture
async def chain(tmp_path: Path, keys: Keys) -> AsyncIterator[Chain]:
    """All the way of a webhook; which database is for the test to say."""
    sends = {"webhook_pauses_s": PAUSES_S, "webhook_sends_most": len(PAUSES_S)}
    harness = Harness(tmp_path, keys, **sends)
    await harness.open()
    made = Chain(harness, "")
    yield made
    made.close()
    await harness.close()


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "asynchronous"])
async def test_failovers_under_load(chain: Chain, synchronous: bool) -> None:
    """No difference that nobody was told of, in any of the three ledgers."""
    cluster = Cluster(Path("/tmp") / f"midas-cluster-{os.getpid()}")  # noqa: S108 - postgres enters
    told = await cluster.run("up", *(["--sync"] if synchronous else []))
    chain.database_url = told["DATABASE_URL"]
    try:
        await migrate(chain.database_url)
        await chain.all_up(PATIENCE)
        load = Loss(chain, [chain.midas_port], random.Random(SEED))
        await _fail_over(cluster, load, [] if synchronous else ["--lag", LAG_S])
        await _healed(chain)
        await _compare(chain, load, synchronous=synchronous)
        (midas,) = (each for each in chain.harness.processes if each.name == "midas")
        assert midas.has("failover_may_lose_commits") != synchronous
        assert len(midas.lines("sequence_floor_raised")) == FAILOVERS
    finally:
        await cluster.run("down")


async def _fail_over(cluster: Cluster, load: Loss, options: list[str]) -> None:
    """Kill the primary again and again while callers call; then let them finish."""
    calling = asyncio.create_task(load.run(CALLERS))
    try:
        for _ in range(FAILOVERS):
            wanted = len(load.order_nos) + ORDERS_BETWEEN
            await until(partial(_begun, load, wanted), "orders are begun", HEALING_S)
            assert not calling.done(), calling.result()
            print(await cluster.run("kill-primary", "--wait", *options))
            print(await cluster.run("revive", "--wait"))
        load.stop()
        async with asyncio.timeout(HEALING_S):
            await calling
    finally:
        calling.cancel()
        await asyncio.wait([calling])
        await load.close()


def _begun(load: Loss, wanted: int) -> bool:
    return len(load.order_nos) >= wanted


async def _healed(chain: Chain) -> None:
    log = chain.webhooks.log
    await until(lambda: not log.totals()["pending"], "all webhooks accepted", HEALING_S)
    await chain.all_delivered()
    assert not log.totals()["given_up"]


async def _compare(chain: Chain, load: Loss, *, synchronous: bool) -> None:
    lookalike = chain.harness.sandbox.lookalike
    charges = lookalike.newest_charges(EVERYTHING)
    refunds = [one for each in charges for one in lookalike.refunds_of(each["id"])]
    at_psp = {each["id"]: each["amount"] for each in charges if each["paid"]}
    at_psp |= {each["id"]: each["amount"] for each in refunds if each["status"] == "succeeded"}
    at_orders: Counter[str] = Counter()
    for order_no in load.order_nos:
        order = chain.book.order(order_no)
        at_orders.update(_told_money(chain, order_no))
        assert order.amount_refunded <= order.amount_paid + _doubled(order.money_to_give_back)
    here = await _money_here(chain, load.order_nos)
    assert not here.keys() - at_orders.keys(), "I8: Midas has it, and never told"
    assert not at_orders.keys() - at_psp.keys(), "I12: told of money that Ping++ does not have"
    lost = at_psp.keys() - here.keys()
    silent = lost - at_orders.keys()
    print(f"SOAK_SEED={SEED}: {len(load.order_nos)} orders, calls {dict(load.ends)}")
    print(f"{len(at_psp)} at Ping++, {len(here)} here, {len(at_orders)} told")
    print(f"lost by the database {len(lost)}, of them nowhere but at Ping++ {sorted(silent)}")
    alarms = Counter(
        line.get("kind", line["event"])
        for each in chain.harness.processes
        for name in ("operator_needed", "order_parked", "event_parked")
        for line in each.lines(name)
    )
    print(f"alarms {dict(alarms)}")
    assert max(at_orders.values(), default=1) == 1, "told with an effect twice"
    if synchronous:
        assert not lost
        assert not alarms


def _told_money(chain: Chain, order_no: str) -> list[str]:
    """The payments and refunds that had an effect at the order service, each as often as it had."""
    counted = []
    seen = set()
    for each in chain.book.received(order_no):
        if each.kind == "pay_order_success":
            key, name = each.request.charge.out_trade_no, each.request.charge.charge_id
        elif each.kind == "refund_success":
            key, name = each.request.refund.refund_no, each.request.refund.refund_id
        else:
            continue
        if (each.kind, key) not in seen:
            seen.add((each.kind, key))
            counted.append(name)
    return counted


def _doubled(back: list[tuple[str, int]]) -> int:
    return sum(amount for _, amount in back)


async def _money_here(chain: Chain, order_nos: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    async with await open_store(chain.database_url) as store:
        for order_no in order_nos:
            order = await store.load(order_no)
            for charge in order.charges:
                if charge.state is ChargeState.SUCCEEDED:
                    found[str(charge.charge_id)] = charge.amount
            for refund in order.refunds:
                if refund.state is RefundState.SUCCEEDED:
                    found[str(refund.refund_id)] = refund.amount
    return found
