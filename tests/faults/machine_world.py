"""Callers, processes of Midas, a real database, Ping++'s look-alike, a payer and an order service.

For T2 and T3.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from midas.charge import ChargeState
from midas.flows.apply_event import Recorded
from midas.flows.create_charge import ChargeResult
from midas.flows.payment_calls import Payments
from midas.payment import Change, Order
from midas.ports import KeyKind
from midas.psp.sdk import Prepared
from midas.refund import RefundState
from midas.sandbox.ledger import Lookalike
from midas.storage.database import Database
from midas.storage.store import SqlStore
from tests.fakes.psp import deliver
from tests.faults.conservation import check_one_commit, check_truth_of
from tests.faults.machine_books import next_due
from tests.faults.machine_events import Mail, Relay, arrive
from tests.faults.machine_gate import Gate
from tests.faults.machine_ports import LATEST, Plan
from tests.faults.machine_replica import (
    Named,
    Replica,
    Work,
    apply_due,
    outcome,
    resolve_due,
    started,
)
from tests.faults.machine_stage import MovedDatabase, Stage, TestClock
from tests.faults.order_service import OrderService
from tests.faults.world import Failed

ORDERS = ("A", "B")
MOST_TICKS = 200
HURRY_AFTER = 10
"""So many looks are made as soon as they are due; then time is let pass faster."""
ONE_CALL_S = 0.001

LEASED_AT_ONCE = 8

Call = Callable[[Payments], Awaitable[Any]]


class World:
    """Everything that takes part in one run. Open it with `World.open`, and close it."""

    def __init__(self, databases: Sequence[MovedDatabase], clock: TestClock, skew_s: float) -> None:
        self.clock = clock
        self.lookalike = Lookalike("app_1", now=lambda: clock.now.timestamp() + skew_s, rng_seed=1)
        self.gate = Gate()
        self.plan = Plan()
        self.reached: Counter[str] = Counter()
        self.trace: list[str] = []
        self.late: list[tuple[datetime, Prepared]] = []
        self.posts: Counter[str] = Counter()
        self.handed_out: list[str] = []
        self.mail = Mail()
        self.lookalike.on_event = self.mail.announce
        self.order_service = OrderService()
        self.rounds = 0
        """Of relays."""
        self._databases = databases
        self._callers: list[asyncio.Task[Any]] = []
        self._meanwhile: dict[str, asyncio.Task[Any]] = {}
        self._books = SqlStore(databases[0].database)
        self.replicas = [self._replica(n) for n in range(len(databases))]

    @classmethod
    async def open(cls, stage: Stage, processes: int = 1, skew_s: float = 0.0) -> "World":
        """An empty database and this many processes of Midas on it."""
        clock = TestClock()
        await stage.clear()
        return cls([await stage.open(clock) for _ in range(processes)], clock, skew_s)

    async def close(self) -> None:
        """Give back all connections."""
        for each in self._databases:
            await each.database.close()

    async def ask(self, *calls: Call, plan: Plan | None = None) -> list[Any]:
        """These calls at once, one per replica in turn, and what each caller got."""
        return await self.run(*map(at_the_door, calls), plan=plan)

    async def run(self, *work: Work, plan: Plan | None = None) -> list[Any]:
        """Any work of a process of Midas, as `ask` does it for calls."""
        self.plan = plan or Plan()
        count = len(self.replicas)
        coming = [each(self.replicas[n % count]) for n, each in enumerate(work)]
        self._callers = [asyncio.ensure_future(each) for each in coming]
        await self.gate.drive(self._callers)
        tasks = [*self._callers, *self._meanwhile.values()]
        assert all(each.done() for each in tasks), "I13: a webhook waits for nothing"
        errors = [task.exception() for task in tasks if not task.cancelled()]
        violated = next((each for each in errors if isinstance(each, AssertionError)), None)
        if violated is not None:
            raise violated
        self.restart()
        await self._finish_meanwhile()
        results = [outcome(task) for task in self._callers]
        for result in results:
            await self._remember(result)
        return results

    async def webhook(self, event_id: str, *, plan: Plan | None = None) -> None:
        """Ping++ sends one of its webhooks, and gets the answer."""
        body = self.mail.waiting[event_id]
        (recorded,) = await self.run(lambda replica: arrive(replica, body), plan=plan)
        if isinstance(recorded, Recorded):
            self.mail.accept(event_id)

    def relay(self, limit: int = LEASED_AT_ONCE) -> Work:
        """One round of a gateway's relay."""
        self.rounds += 1
        return lambda replica: Relay(self, replica, Named("gateway")).round(limit)

    def send_webhooks_meanwhile(self) -> None:
        """The webhook overtakes the answer of Ping++: the call itself has moved the money."""
        for event_id, body in self.mail.waiting.items():
            if event_id not in self._meanwhile:
                sent = asyncio.ensure_future(arrive(self.replicas[0], body))
                self._meanwhile[event_id] = sent

    def restart(self, *, all_of_them: bool = False) -> None:
        """A new process, with nothing in its memory, for each one that died."""
        for n, replica in enumerate(self.replicas):
            if replica.process.dead or all_of_them:
                replica.process.dead = True
                self.replicas[n] = self._replica(n)

    def hang_up(self) -> None:
        """The first caller goes away."""
        self._callers[0].cancel()

    @asynccontextmanager
    async def turn(self, kind: str, process: Named) -> AsyncIterator[str]:
        """One call through a port of a process, and how it goes."""
        async with self.gate.turn(f"{process.name} {kind}"):
            process.still_alive()
            self.clock.pass_time(ONE_CALL_S)
            way = self.plan.way(kind)
            self.trace.append(f"{kind} {way}")
            self.reached[f"{kind} {way}"] += 1
            if way == "crash_before":
                process.crash()
            yield way
            if way == "crash_after":
                process.crash()

    def committed(self, change: Change) -> None:
        """Look at what was just written: it must be true, and whole."""
        check_truth_of(change, self.lookalike)
        check_one_commit(change)
        self._check_nothing_given_up(change)
        self.reached.update(entry.event for entry in change.journal)
        if any(each.late for each in change.notifications):
            self.reached["late money"] += 1
        if any(each.duplicate_payment for each in change.notifications):
            self.reached["paid twice"] += 1
        by_webhook = [entry for entry in change.journal if entry.by == "WEBHOOK"]
        if any(entry.state_before == "SUBMITTING" for entry in by_webhook):
            self.reached["webhook before our own commit"] += 1

    def sent(self, request: Prepared) -> None:
        """Count what may reach Ping++ and must not do so twice (I1, I2)."""
        if request.method != "POST" or not request.body:
            return
        body = json.loads(request.body)
        if body.get("channel") in ("wx_pub_scan", "balance"):
            self.posts[f"charge {body['order_no']}"] += 1
        if request.url.endswith("/refunds"):
            self.posts[f"refund {body['metadata']['refund_no']}"] += 1

    def late_requests_arrive(self) -> None:
        """What was given up as lost reaches Ping++ after all, unless it is too old."""
        for sent_at, request in self.late:
            if self.clock.now <= sent_at + LATEST:
                self.reached["arrived late"] += 1
                deliver(self.lookalike, request)
        self.late.clear()

    async def orders(self) -> list[Order]:
        """What is on disk."""
        return list(await asyncio.gather(*(self._books.load(each) for each in ORDERS)))

    @property
    def books(self) -> SqlStore:
        """The database as it is, without faults and turns."""
        return self._books

    @property
    def database(self) -> Database:
        """The database itself."""
        return self._databases[0].database

    async def set_time(self) -> None:
        """Give the test's time to the database."""
        await self._databases[0].set_time()

    async def settle(self) -> None:
        """The faults stop, time passes, and Midas finds out by itself, in bounded steps (I13).

        Ping++'s webhooks arrive, and the order service is notified.
        """
        for tick in range(MOST_TICKS):
            for event_id in list(self.mail.waiting):
                await self.webhook(event_id)
            assert not self.mail.waiting, "I11: healed, and a webhook is not accepted"
            due = await next_due(self.database, await self.orders())
            if due is None:
                return
            pause = timedelta(seconds=1) if tick < HURRY_AFTER else timedelta(hours=6)
            self.clock.now = max(self.clock.now, due) + pause
            for each in (resolve_due, apply_due, self.relay()):
                for result in await self.run(each):
                    assert not isinstance(result, Failed), f"I13: healed, and {result}"
        raise AssertionError("I13: not settled in bounded time")

    async def refresh(self) -> None:
        """Ask for everything once, with all healed."""
        for order in await self.orders():
            if not order.charges:
                continue
            key = order.order_no
            (got,) = await self.ask(_query(key))
            assert not isinstance(got, Failed), f"I13: healed, and {got}"

    def _replica(self, n: int) -> Replica:
        return started(self, str(n), self._databases[n].database)

    def _check_nothing_given_up(self, change: Change) -> None:
        """I5: what may still reach Ping++ has not failed."""
        coming = [req for sent_at, req in self.late if self.clock.now <= sent_at + LATEST]
        bodies = [json.loads(request.body or b"{}") for request in coming]
        keys = {
            each.get("metadata", each).get("refund_no", each.get("order_no")) for each in bodies
        }
        for charge in change.changed_charges:
            lost = charge.state is ChargeState.FAILED and charge.out_trade_no in keys
            assert not lost, "I5: FAILED, and Ping++ may still make it"
        for refund in change.changed_refunds:
            lost = refund.state is RefundState.FAILED and refund.refund_no in keys
            assert not lost, "I5: FAILED, and Ping++ may still make it"

    async def _remember(self, result: Any) -> None:
        if isinstance(result, Failed):
            self.reached[type(result.error).__name__] += 1
        if isinstance(result, ChargeResult):
            self.handed_out.append(json.loads(result.charge_json)["id"])
        if isinstance(result, Recorded):
            event = result.event
            self.reached[f"event {result.outcome} {event.reason}".rstrip()] += 1
            stored = await self._books.event(event.event_id)
            assert stored is not None, "I11: accepted, and not on disk"
            assert stored.body_digest == event.body_digest, "I11: another one is on disk"

    async def _finish_meanwhile(self) -> None:
        """What became of the webhooks that were sent in the middle of a call."""
        sent, self._meanwhile = self._meanwhile, {}
        for event_id, task in sent.items():
            result = outcome(task)
            await self._remember(result)
            if isinstance(result, Recorded):
                self.mail.accept(event_id)


def _query(order_no: str) -> Call:
    return lambda payments: payments.query(KeyKind.ORDER_NO, order_no, refresh=True)


def at_the_door(call: Call) -> Work:
    """A call of a service's methods, as something to ask a process for."""
    return lambda replica: call(replica.payments)
