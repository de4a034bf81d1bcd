"""One caller, one Midas, one Ping++, one payer, a gateway and an order service, in memory.

They have a clock of their own. Every call of Midas through a port asks the chooser how it goes. A
crash ends the process; the disk and Ping++ outlive it, and the caller tries again.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, TypeVar

from grpc import StatusCode

from midas.charge import Charge, ChargeState, ChargeTerms
from midas.errors import MidasError, StorageUnavailable
from midas.flows.announce import Announcer
from midas.flows.inbox import Inbox
from midas.flows.not_sent import record_not_sent
from midas.flows.payment_calls import Payments
from midas.payment import Change, Order
from midas.ports import ClaimedRow, DueTimes, KeyKind, RowKind
from midas.psp.sdk import Prepared
from midas.psp.transport import NO_TIME_LEFT, Answer, Lost, NotSent, Sent
from midas.refund import Refund, RefundState
from midas.rpc.errors import failure_of
from midas.sandbox.forgery import compact
from midas.sandbox.ledger import Lookalike
from midas.storage.recent import CommittedOrders
from tests.fakes.psp import client_over, deliver
from tests.fakes.store import Disk, MemoryStore
from tests.faults.chooser import Chooser
from tests.faults.conservation import check_truth_of
from tests.faults.crash import COMMIT_WAYS, READ_WAYS, Crash, Process, written
from tests.faults.event_ports import FaultyQueues, Relay, Webhooks
from tests.faults.order_service import OrderService

Result = TypeVar("Result")

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOTAL_TIMEOUT = timedelta(seconds=30)
MOST_TICKS = 200

POST_WAYS = (
    "ok",
    "not_sent",
    "lost_request",
    "lost_response",
    "status_502_after",
    "throttled",
    "turned_down",
    "crash_before",
    "crash_after",
)
GET_WAYS = ("ok", "lost_response", "crash_before")
ODD_ANSWERS = ("not_found", "lagging", "other_account", "rejected")
"""What a question can be answered by a list that lags or to a key that is not the right one."""
LATEST = timedelta(minutes=14)
"""How long a list or a picture of a charge may lag: less than Midas's settle window."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What the caller got instead of an answer."""

    error: MidasError | Crash


class World:
    """Everything that takes part in one run."""

    def __init__(self, chooser: Chooser, terms: ChargeTerms, *, loses: int = 0) -> None:
        """`loses`: the commit, counted from 1, that a failover loses after it was answered."""
        self.chooser = chooser
        self.terms = terms
        self._loses = loses
        self._standby: Disk | None = None
        self.failed_over = False
        self.disk = MemoryStore(clock=START)
        self.lookalike = Lookalike("app_1", now=lambda: self.true_seconds, rng_seed=1)
        self.ahead_s = 0.0
        """How far the database's clock is ahead of Ping++'s, which is right."""
        self.dated = True
        """Whether Ping++'s answers have a date."""
        self.handed_out: list[str] = []
        self.posts = 0
        """How many left, with any outcome."""
        self.commits: list[Change] = []
        self.alter: dict[str, object] = {}
        self.get_ways: tuple[str, ...] = GET_WAYS
        self.post_ways: tuple[str, ...] = POST_WAYS
        self.odd: dict[str, str] = {}
        """How questions about what begins so are answered in any case: "" all, "re_" refunds."""
        self.reached: set[str] = set()
        self.on_post: Callable[[], Awaitable[None]] | None = None
        self.on_charged: Callable[[], Awaitable[None]] | None = None
        """What happens once Ping++ has made a charge and before its answer arrives; once."""
        self.payer: Callable[[str], Awaitable[None]] | None = None
        """What the payer of a declined bar code does around each of Midas's calls of Ping++."""
        self.listens = False
        """Whether Ping++ has a URL to send its webhooks to."""
        self.webhooks = Webhooks(self)
        self.orders = OrderService()
        self.orders_down = False
        self.relay = Relay(self)
        self.lookalike.on_event = self._announce
        self.start()

    @property
    def seconds(self) -> float:
        """Unix seconds of the database's clock."""
        return self.disk.clock.timestamp()

    @property
    def true_seconds(self) -> float:
        """Unix seconds of a clock that never steps, by which Ping++ and the processes live."""
        return self.seconds - self.ahead_s

    def pass_time(self, seconds: float) -> None:
        """Let time pass for everybody."""
        self.disk.clock += timedelta(seconds=seconds)

    def step_clock(self, seconds: float) -> None:
        """Somebody sets the database's clock; no time passes."""
        self.disk.clock += timedelta(seconds=seconds)
        self.ahead_s += seconds

    def next_due(self) -> datetime | None:
        """When Midas will next look at something, or announce something."""
        disk = self.disk.disk
        orders = disk.orders.values()
        charges = [c for o in orders for c in o.charges if _is_looked_for(c)]
        refunds = [r for o in orders for r in o.refunds if r.state is RefundState.SUBMITTING]
        times = [c.due_at for c in charges] + [r.due_at for r in refunds]
        times += [each.due_at for each in disk.events.values()]
        times += [
            each.due_at
            for order_no, each in disk.deliveries.items()
            if disk.next_of(order_no) is not None and not each.parked_code
        ]
        return min((each for each in times if each is not None), default=None)

    def start(self) -> None:
        """A new process on the same disk."""
        self.process = Process()
        wire = FaultyWire(self, self.process)
        psp = client_over(wire, "app_1", TOTAL_TIMEOUT, lambda: self.true_seconds)
        store = FaultyStore(self, self.process)
        self.payments = Payments(store, psp, VirtualClock(self))
        self.in_doubt: list[Charge | Refund] = []
        doubtful = self.in_doubt.append
        self.payments.ports = replace(self.payments.ports, in_doubt=doubtful)
        self.inbox = Inbox(self.payments.ports)
        self.announcer = Announcer(store, VirtualClock(self))

    def another_process(self) -> Payments:
        """One more on the same disk, which knows nothing else."""
        process = Process()
        psp = client_over(FaultyWire(self, process), "app_1", TOTAL_TIMEOUT, lambda: self.seconds)
        return Payments(FaultyStore(self, process), psp, VirtualClock(self))

    async def ask(self, call: Callable[[Payments], Awaitable[Result]]) -> Result | Failed:
        """One call by the caller. A crash starts a new process; the caller gets `Failed`."""
        posts = self.posts
        try:
            return await call(self.payments)
        except MidasError as error:
            failed = error
        except Crash as crash:
            self.start()
            return Failed(crash)
        is_unavailable = failure_of(failed).code is StatusCode.UNAVAILABLE
        assert self.posts == posts or not is_unavailable, f"I5: {failed!r}, and something was sent"
        return Failed(failed)

    async def settle(self) -> None:
        """The faults stop, time passes, and Midas finds out by itself, in bounded steps (I13)."""
        self.chooser.healed = True
        if self.process.dead:
            self.start()
        while self.in_doubt:
            await record_not_sent(self.payments.ports, self.in_doubt.pop(0))
        for _ in range(MOST_TICKS):
            if self.listens:
                await self.webhooks.send_owed()
            due = self.next_due()
            if due is None:
                return
            self.disk.clock = max(self.disk.clock, due) + timedelta(seconds=1)
            await self.ask(lambda payments: payments.resolve_due())
            await self.apply_due()
            await self.relay.round()
        raise AssertionError("I13: not settled in bounded time")

    async def apply_due(self) -> None:
        """Midas looks at the events that wait."""
        await self.ask(lambda _: self.inbox.apply_due())

    def pay_everything(self) -> None:
        """The payer pays every charge that was handed out and can still be paid."""
        for charge_id in self.handed_out:
            shown = self.lookalike.charge(charge_id)
            open_still = not shown["paid"] and not shown["reversed"]
            if open_still and not self.lookalike.is_expired(charge_id):
                self.lookalike.pay(charge_id)

    async def order(self) -> Order:
        """What is on disk."""
        return await self.disk.load(self.terms.order_no)

    def committed(self, change: Change) -> None:
        """Look at what was just written, and remember it."""
        self.commits.append(change)
        check_truth_of(change, self.lookalike)
        for entry in change.journal:
            if entry.by == "WEBHOOK" and entry.state_before == "SUBMITTING":
                self.reached.add("webhook before our own commit")
        if any(each.late for each in change.notifications):
            self.reached.add("late money")

    def about_to_commit(self) -> None:
        """The last moment that the database's standby knows of, if this is the one."""
        if len(self.commits) + 1 == self._loses:
            self._standby = self.disk.disk.copy()

    def fail_over(self) -> None:
        """If the primary database is due to be lost, go on with what its standby knows (D3)."""
        if self._standby is not None and len(self.commits) == self._loses:
            self.disk.disk, self._standby = self._standby, None
            del self.commits[-1]
            self._loses, self.failed_over = 0, True

    def _announce(self, event: dict[str, Any]) -> None:
        if self.listens:
            self.webhooks.owed[event["id"]] = compact(event)


def _is_looked_for(charge: Charge) -> bool:
    superseded = charge.state is ChargeState.PENDING and charge.superseded
    return superseded or charge.state is ChargeState.SUBMITTING


class VirtualClock:
    """Waiting moves this world's time."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def sleep(self, seconds: float) -> None:
        """No time passes outside."""
        self._world.pass_time(seconds)

    def monotonic(self) -> float:
        """Seconds of this world."""
        return self._world.true_seconds


class FaultyStore(FaultyQueues):
    """The disk, reached through calls that can fail in every way."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._disk = world.disk
        self._committed = CommittedOrders(world.disk.disk.history)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    async def commit(self, change: Change) -> bool:
        """Written or not, answered or not."""
        way = self._way(_what(change), COMMIT_WAYS)
        return await written(self._process, way, lambda: self._commit(change))

    async def _commit(self, change: Change) -> bool:
        self._world.about_to_commit()
        won = await self._disk.commit(change)
        if won:
            self._world.committed(change)
            self._committed.remember(change.after, change.expected_change)
        return won

    async def perhaps_lost(self) -> list[Order]:
        """What this process has committed, and no other."""
        self._process.still_alive()
        self._world.fail_over()
        return self._committed.perhaps_lost(self._disk.disk.history)

    async def load(self, order_no: str) -> Order:
        """Readable or not."""
        self._process.still_alive()
        self._world.fail_over()
        if self._world.chooser.choose("load", READ_WAYS) == "refused":
            raise StorageUnavailable
        return await self._disk.load(order_no)

    async def find(self, kind: KeyKind, key: str) -> Order | None:
        """Readable or not."""
        self._process.still_alive()
        self._world.fail_over()
        if self._world.chooser.choose("find", READ_WAYS) == "refused":
            raise StorageUnavailable
        return await self._disk.find(kind, key)

    async def claim_due_rows(
        self, kinds: Collection[RowKind], limit: int, hold: timedelta
    ) -> list[ClaimedRow]:
        """Claimed or not, answered or not."""
        way = self._way("claim_due_rows", COMMIT_WAYS)
        return await written(
            self._process, way, lambda: self._disk.claim_due_rows(kinds, limit, hold)
        )

    async def release_rows(self, rows: Sequence[ClaimedRow]) -> None:
        """Released or not, answered or not."""
        way = self._way("release_rows", COMMIT_WAYS)
        await written(self._process, way, lambda: self._disk.release_rows(rows))

    async def due_times(self, kinds: Collection[RowKind]) -> DueTimes:
        """Readable or not."""
        if self._way("due_times", READ_WAYS) == "refused":
            raise StorageUnavailable
        return await self._disk.due_times(kinds)


def _what(change: Change) -> str:
    if change.new_events:
        return "commit event"
    return "commit applied" if change.changed_events else "commit"


class FaultyWire:
    """The way to Ping++, on which requests and answers are lost."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def send(self, request: Prepared, limit: timedelta) -> Sent:
        """Carried out or not, answered or not."""
        self._process.still_alive()
        if limit <= timedelta(0):
            return NotSent(NO_TIME_LEFT)
        self._world.fail_over()
        world = self._world
        ways = world.post_ways if request.method == "POST" else world.get_ways
        what = request.url.split("?")[0].rsplit("/", 1)[-1]
        way = world.chooser.choose(f"{request.method} {what[:7]}", ways)
        if request.method == "GET":
            way = next((odd for name, odd in world.odd.items() if what.startswith(name)), way)
        if way == "crash_before":
            self._process.crash()
        if request.method == "POST" and way != "not_sent":
            self._world.posts += 1
        if way in _NOT_CARRIED_OUT:
            return self._not_carried_out(way, limit)
        if request.method == "POST" and self._world.on_post is not None:
            await self._world.on_post()
        if world.payer is not None:
            await world.payer(f"before {request.method}")
        answer = self._altered(deliver(self._world.lookalike, request))
        if not world.dated:
            answer = replace(answer, date="")
        if world.payer is not None:
            await world.payer(f"after {request.method}")
        if request.url.endswith("/charges") and self._world.on_charged is not None:
            happen, self._world.on_charged = self._world.on_charged, None
            await happen()
        if way == "crash_after":
            self._process.crash()
        if way == "lost_response":
            self._world.pass_time(limit.total_seconds())
            return Lost("timeout")
        if way == "status_502_after":
            return Answer(502, b"<html>bad gateway</html>", "")
        if way == "lagging":
            return _changed(answer, lambda content: _lag(content, self._world.true_seconds))
        if way == "other_account":
            return _changed(answer, _others)
        return answer

    def _altered(self, answer: Answer) -> Answer:
        """What a defect or a forger would make of the answer on its way."""
        if not self._world.alter or answer.status != HTTPStatus.OK:
            return answer
        content = {**json.loads(answer.body), **self._world.alter}
        return Answer(answer.status, json.dumps(content).encode(), answer.signature)

    def _not_carried_out(self, way: str, limit: timedelta) -> Sent:
        if way == "not_sent":
            return NotSent("refused")
        if way == "lost_request":
            self._world.pass_time(limit.total_seconds())
            return Lost("timeout")
        return _NOT_CARRIED_OUT[way]


def _changed(answer: Answer, change: Callable[[dict[str, Any]], None]) -> Answer:
    if answer.status != HTTPStatus.OK:
        return answer
    content = json.loads(answer.body)
    change(content)
    return Answer(answer.status, json.dumps(content).encode(), answer.signature)


def _lag(content: dict[str, Any], now: float) -> None:
    """What is new does not show yet: not in a list, nor in the picture of a charge or refund."""
    newest = now - LATEST.total_seconds()
    if content["object"] == "list":
        content["data"] = [each for each in content["data"] if each["created"] < newest]
    elif content["object"] == "refund":
        if (content["time_succeed"] or 0) >= newest:
            content.update(status="pending", succeed=False, time_succeed=None)
    elif (content["time_paid"] or 0) >= newest:
        content.update(paid=False, time_paid=None, transaction_no=None, amount_refunded=0)
        content.update(refunded=False, refunds={**content["refunds"], "data": []})


def _others(content: dict[str, Any]) -> None:
    """Another account has no such charge, and in its lists there are charges of its own."""
    content["app"] = "app_other"
    if content["object"] == "list":
        theirs = {"app": "app_other", "order_no": "T0000000000000000009"}
        content["data"] = [{**each, **theirs} for each in content["data"]]


_NOT_CARRIED_OUT: dict[str, Sent] = {
    "not_found": Answer(
        404, b'{"error":{"type":"invalid_request_error","message":"gone","param":"id"}}', ""
    ),
    "rejected": Answer(401, b'{"error":{"type":"invalid_request_error","message":"key"}}', ""),
    "not_sent": NotSent("refused"),
    "lost_request": Lost("timeout"),
    "throttled": Answer(
        403, b'{"error":{"type":"invalid_request_error","message":"too many calls"}}', ""
    ),
    "turned_down": Answer(
        402,
        b'{"error":{"type":"channel_error","code":"channel_request_error","message":"no"}}',
        "",
    ),
}
