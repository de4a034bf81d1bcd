"""The ports of a process that is to fail: every call waits for its turn, then goes as planned."""

import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from midas.errors import StorageUnavailable
from midas.payment import Change, Order
from midas.ports import ClaimedRow, DueTimes, KeyKind, RowKind
from midas.psp.sdk import Prepared
from midas.psp.transport import NO_TIME_LEFT, Answer, Lost, NotSent, Sent
from midas.storage.database import Batch, Database
from midas.storage.faults import InDoubt, NotWritten
from midas.storage.store import SqlStore
from tests.fakes.psp import deliver
from tests.faults.crash import written
from tests.faults.machine_queues import MachineQueues

if TYPE_CHECKING:
    from tests.faults.machine_replica import Named
    from tests.faults.machine_world import World

DOUBTS = ("tried_again", "doubt_written", "doubt_unwritten", "doubt_late")
COMMIT_WAYS = (
    "refused",
    "lost_written",
    "lost_unwritten",
    "crash_before",
    "crash_after",
    *DOUBTS,
)
READ_WAYS = ("refused", "crash_before")
LIES = ("amount", "currency", "app", "livemode", "order_no")
"""Fields in which an answer differs from what was asked for (P11)."""
POST_WAYS = (
    "not_sent",
    "lost_request",
    "lost_response",
    "late_request",
    "status_502_after",
    "throttled",
    "turned_down",
    "crash_before",
    "crash_after",
    "hang_up",
    "webhook_meanwhile",
    *LIES,
)
"""`webhook_meanwhile`: the call moves money, and its webhook overtakes its answer."""
GET_WAYS = ("lost_response", "lagging", "throttled", "crash_before", *LIES)
QUEUE_WAYS = (*READ_WAYS, "lost_written", "lost_unwritten", "crash_after")
ORDER_WAYS = ("lost_request", "lost_answer", "refused", "slow", "crash_before", "crash_after")
WAYS: Mapping[str, tuple[str, ...]] = {
    "commit": COMMIT_WAYS,
    "read": READ_WAYS,
    "claim": READ_WAYS,
    "claim_rows": QUEUE_WAYS,
    "release": QUEUE_WAYS,
    "POST": POST_WAYS,
    "GET": GET_WAYS,
    "event": QUEUE_WAYS,
    "lease": QUEUE_WAYS,
    "settle": QUEUE_WAYS,
    "order": ORDER_WAYS,
}

LATEST = timedelta(minutes=14)
"""How long a request may travel, and a list may lag: less than Midas's settle window."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The call of this kind goes wrong in this way, after `skip` others of the kind."""

    kind: str
    way: str
    skip: int = 0


class Plan:
    """The faults of one step, each used once."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._left = [(fault, fault.skip) for fault in faults]

    def way(self, kind: str) -> str:
        """How this call goes."""
        chosen = "ok"
        left = []
        for fault, skip in self._left:
            if fault.kind != kind:
                left.append((fault, skip))
            elif skip > 0 or chosen != "ok":
                left.append((fault, max(0, skip - 1)))
            else:
                chosen = fault.way
        self._left = left
        return chosen


class DoubtfulDatabase:
    """A database whose next write may fail in a way that the store itself has to find out about."""

    def __init__(self, real: Database) -> None:
        self._real = real
        self._late: list[Batch] = []
        self.doubt = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def write(self, batch: Batch) -> set[str]:
        """Written or not, answered or not; `doubt_late` is written just before the next attempt."""
        while self._late:
            await self._real.write(self._late.pop())
        doubt, self.doubt = self.doubt, ""
        if doubt == "tried_again":
            raise NotWritten("locked")
        if doubt == "doubt_late":
            self._late.append(batch)
        elif doubt != "doubt_unwritten":
            won = await self._real.write(batch)
        if doubt:
            raise InDoubt("connection lost")
        return won


class MachineStore(MachineQueues):
    """The real store of one process."""

    def __init__(self, world: "World", process: "Named", database: Database) -> None:
        self._world = world
        self._process = process
        self._database = DoubtfulDatabase(database)
        self._store = SqlStore(self._database)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def now(self) -> datetime:
        """The test's clock."""
        return self._world.clock.now

    async def since_possible_loss(self) -> timedelta:
        """Asked in its turn."""
        async with self._call("history"):
            return await self._store.since_possible_loss()

    async def perhaps_lost(self) -> list[Order]:
        """Nothing: no server fails over here, so asking would only take turns."""
        self._process.still_alive()
        return []

    async def load(self, order_no: str) -> Order:
        """Readable or not."""
        async with self._call("read"):
            return await self._store.load(order_no)

    async def find(self, kind: KeyKind, key: str) -> Order | None:
        """Readable or not."""
        async with self._call("read"):
            return await self._store.find(kind, key)

    async def claim_due_orders(self, limit: int, hold: timedelta) -> list[str]:
        """Claimed or not; sorted, since the order of those that are due at once is anybody's."""
        async with self._call("claim"):
            await self._world.set_time()
            return sorted(await self._store.claim_due_orders(limit, hold))

    async def claim_due_rows(
        self, kinds: Collection[RowKind], limit: int, hold: timedelta
    ) -> list[ClaimedRow]:
        """Claimed or not, answered or not; sorted as `claim_due_orders` is."""
        async with self._call("claim_rows") as way:
            await self._world.set_time()
            found = await written(
                self._process, way, lambda: self._store.claim_due_rows(kinds, limit, hold)
            )
            return sorted(found, key=lambda each: (each.due_at, each.kind, each.key))

    async def release_rows(self, rows: Sequence[ClaimedRow]) -> None:
        """Released or not, answered or not."""
        async with self._call("release") as way:
            await written(self._process, way, lambda: self._store.release_rows(rows))

    async def due_times(self, kinds: Collection[RowKind]) -> DueTimes:
        """Readable or not."""
        async with self._call("read"):
            await self._world.set_time()
            return await self._store.due_times(kinds)

    async def commit(self, change: Change) -> bool:
        """Written or not, answered or not."""
        async with self._call("commit") as way:
            if way == "lost_unwritten":
                raise StorageUnavailable(may_have_written=True)
            if way in DOUBTS:
                self._database.doubt = way
            is_written = await self._store.commit(change)
            if is_written:
                self._world.committed(change)
            else:
                self._world.reached[f"{self._process.name} lost by version"] += 1
            if way == "lost_written":
                raise StorageUnavailable(may_have_written=True)
            return is_written

    @asynccontextmanager
    async def _call(self, kind: str) -> AsyncIterator[str]:
        async with self._world.turn(kind, self._process) as way:
            if way == "refused":
                raise StorageUnavailable
            yield way


class MachineWire:
    """The way to Ping++, on which requests and answers are lost, late, or somebody else's."""

    def __init__(self, world: "World", process: "Named") -> None:
        self._world = world
        self._process = process

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def send(self, request: Prepared, limit: timedelta) -> Sent:
        """Carried out or not, answered or not."""
        if limit <= timedelta(0):
            return NotSent(NO_TIME_LEFT)
        world = self._world
        async with world.turn(request.method, self._process) as way:
            if way in _NOT_CARRIED_OUT:
                return _NOT_CARRIED_OUT[way]
            world.sent(request)
            if way in ("lost_request", "late_request"):
                if way == "late_request" and _may_come_late(request):
                    world.late.append((world.clock.now, request))
                world.clock.pass_time(limit.total_seconds())
                return Lost("timeout")
            answer = deliver(world.lookalike, request)
            if way == "hang_up":
                world.hang_up()
            if way == "webhook_meanwhile":
                world.send_webhooks_meanwhile()
            if way == "lost_response":
                world.clock.pass_time(limit.total_seconds())
                return Lost("timeout")
            if way == "status_502_after":
                return Answer(502, b"<html>bad gateway</html>", "")
            if way == "lagging":
                return _without_the_newest(answer, world.clock.now)
            return _lie(answer, way) if way in LIES else answer


def _may_come_late(request: Prepared) -> bool:
    """Whether a delay can only do what Midas has to cope with.

    On the other channels a charge that is posted again may be doubled by the first one: Ping++
    merges them for a minute only (pingpp.md section 8), and nobody is ever given the second.
    """
    body = json.loads(request.body or b"{}")
    return str(body.get("channel", "wx")).startswith(("wx", "balance"))


def _error_answer(status: int, error: str) -> Answer:
    return Answer(status, f'{{"error":{{{error}}}}}'.encode(), "")


_NOT_CARRIED_OUT: dict[str, Sent] = {
    "not_sent": NotSent("refused"),
    "throttled": _error_answer(403, '"type":"invalid_request_error","message":"too many calls"'),
    "turned_down": _error_answer(
        402, '"type":"channel_error","code":"channel_request_error","message":"no"'
    ),
}


def _changed(answer: Answer, change: Callable[[dict[str, Any]], None]) -> Answer:
    if answer.status != HTTPStatus.OK:
        return answer
    content = json.loads(answer.body)
    change(content)
    return Answer(answer.status, json.dumps(content).encode(), answer.signature)


def _without_the_newest(answer: Answer, now: datetime) -> Answer:
    """A list that does not show yet what is new (P7)."""
    newest = (now - LATEST).timestamp()

    def lag(content: dict[str, Any]) -> None:
        if content["object"] == "list":
            content["data"] = [each for each in content["data"] if each["created"] < newest]

    return _changed(answer, lag)


_OTHERS = {
    "amount": 7,
    "currency": "usd",
    "app": "app_other",
    "livemode": True,
    "order_no": "T0000000000000000009",
}


def _lie(answer: Answer, name: str) -> Answer:
    """An answer about somebody else's payment, which is paid, or refund, which is done."""

    def lie(content: dict[str, Any]) -> None:
        if content["object"] == "charge":
            paid_at = content["time_paid"] or content["created"]
            content.update({name: _OTHERS[name], "paid": True, "time_paid": paid_at})
        elif content["object"] == "refund":
            content.update(amount=7, status="succeeded", succeed=True)

    return _changed(answer, lie)
