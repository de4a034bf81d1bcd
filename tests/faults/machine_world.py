"""Callers, processes of Midas, a real database, Ping++'s look-alike and a payer (T2 and T3)."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from midas.charge import ChargeState
from midas.errors import MidasError
from midas.flows.charge import ChargeResult
from midas.flows.payments import Payments
from midas.payment import Change, Order
from midas.ports import KeyKind
from midas.psp.breaker import BreakerLimits
from midas.psp.client import PingppClient
from midas.psp.options import PspOptions
from midas.psp.sdk import Prepared
from midas.refund import RefundState
from midas.sandbox.ledger import Lookalike
from midas.storage.store import SqlStore
from tests.fakes.psp import API_BASE, deliver
from tests.faults.conservation import check_one_commit, check_truth_of
from tests.faults.machine_gate import Gate
from tests.faults.machine_ports import LATEST, MachineStore, MachineWire, Plan
from tests.faults.machine_stage import MovedDatabase, Stage, TestClock
from tests.faults.world import Crash, Failed, Process

ORDERS = ("A", "B")
MOST_TICKS = 200
HURRY_AFTER = 10
"""So many looks are made as soon as they are due; then time is let pass faster."""
ONE_CALL_S = 0.001

Call = Callable[[Payments], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class HungUp:
    """The caller was gone before there was an answer."""


class Named(Process):
    """A process with a name for the queue at the gate."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


@dataclass(slots=True)
class Replica:
    """One process of Midas with connections of its own."""

    process: Named
    payments: Payments


class World:
    """Everything that takes part in one run. Open it with `World.open`, and close it."""

    def __init__(self, databases: Sequence[MovedDatabase], clock: TestClock, skew_s: float) -> None:
        self.clock = clock
        self.lookalike = Lookalike("app_1", now=lambda: clock.now.timestamp() + skew_s, rng_seed=1)
        self.gate = Gate()
        self.plan = Plan()
        self.met: Counter[str] = Counter()
        self.trace: list[str] = []
        self.late: list[tuple[datetime, Prepared]] = []
        self.posts: Counter[str] = Counter()
        self.handed_out: list[str] = []
        self._databases = databases
        self._callers: list[asyncio.Task[Any]] = []
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
        self.plan = plan or Plan()
        count = len(self.replicas)
        doors = [self.replicas[n % count].payments for n in range(len(calls))]
        work = [call(door) for call, door in zip(calls, doors, strict=True)]
        self._callers = [asyncio.ensure_future(each) for each in work]
        await self.gate.drive(self._callers)
        errors = [task.exception() for task in self._callers if not task.cancelled()]
        violated = next((each for each in errors if isinstance(each, AssertionError)), None)
        if violated is not None:
            raise violated
        self.restart()
        results = [_outcome(task) for task in self._callers]
        for result in results:
            self._remember(result)
        return results

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
            self.met[f"{kind} {way}"] += 1
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
        self.met.update(entry.event for entry in change.journal)
        if any(each.late for each in change.notifications):
            self.met["late money"] += 1
        if any(each.duplicate_payment for each in change.notifications):
            self.met["paid twice"] += 1

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
                self.met["arrived late"] += 1
                deliver(self.lookalike, request)
        self.late.clear()

    async def orders(self) -> list[Order]:
        """What is on disk."""
        return list(await asyncio.gather(*(self._books.load(each) for each in ORDERS)))

    @property
    def books(self) -> SqlStore:
        """The database as it is, without faults and turns."""
        return self._books

    async def tell_time(self) -> None:
        """The database learns what time it is."""
        await self._databases[0].tell_time()

    async def settle(self) -> None:
        """The faults stop, time passes, and Midas finds out by itself, in bounded steps (I13)."""
        for tick in range(MOST_TICKS):
            due = _next_due(await self.orders())
            if due is None:
                return
            pause = timedelta(seconds=1) if tick < HURRY_AFTER else timedelta(hours=6)
            self.clock.now = max(self.clock.now, due) + pause
            for result in await self.ask(lambda payments: payments.resolve_due()):
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
        process = Named(str(n))
        options = PspOptions(
            api_key="sk_test_000000000000000000000000",
            app_id="app_1",
            api_base=API_BASE,
            # It measures by the machine's clock, which has no place in a run that can be repeated.
            breaker=BreakerLimits(failures=1_000_000),
        )
        psp = PingppClient(options, MachineWire(self, process))
        store = MachineStore(self, process, self._databases[n].database)
        return Replica(process, Payments(store, psp, _Waiting(self, process)))

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

    def _remember(self, result: Any) -> None:
        if isinstance(result, Failed):
            self.met[type(result.error).__name__] += 1
        if isinstance(result, ChargeResult):
            self.handed_out.append(json.loads(result.charge_json)["id"])


def _query(order_no: str) -> Call:
    return lambda payments: payments.query(KeyKind.ORDER_NO, order_no, refresh=True)


class _Waiting:
    """Waiting moves this world's time."""

    def __init__(self, world: World, process: Named) -> None:
        self._world = world
        self._process = process

    async def sleep(self, seconds: float) -> None:
        """No time passes outside."""
        async with self._world.gate.turn(f"{self._process.name} sleep"):
            self._process.still_alive()
            self._world.clock.pass_time(seconds)

    def monotonic(self) -> float:
        """Seconds of this world."""
        return self._world.clock.now.timestamp()


def _outcome(task: asyncio.Task[Any]) -> Any:
    if task.cancelled():
        return HungUp()
    error = task.exception()
    if isinstance(error, MidasError | Crash):
        return Failed(error)
    return task.result()


def _next_due(orders: Sequence[Order]) -> datetime | None:
    """When Midas wants to look next at something that it does not know."""
    rows: list[Any] = [
        each
        for order in orders
        for each in order.charges
        if each.state is ChargeState.SUBMITTING
        or (each.state is ChargeState.PENDING and each.superseded)
    ]
    rows += [r for order in orders for r in order.refunds if r.state is RefundState.SUBMITTING]
    return min((each.due_at for each in rows if each.due_at is not None), default=None)
