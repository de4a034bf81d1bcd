"""Midas as a process that dies at a named point: `python -m tests.faults.victim`.

`VICTIM_POINT` is `<step>.<when>`. The steps are the commits, by what they write, and the calls of
Ping++. With before, inside or after the process kills itself; with raises or cancels the step ends,
once, as no code of Midas expects. Steps that name an order count for `VICTIM_ORDER` alone.
Everything else is `midas serve` as it is, but for the bounds of `midas.limits` that `VICTIM_LIMITS`
replaces (JSON, in seconds): a test need not wait for half a minute to see the end of a lease.

    new_charge, charge, new_refund, refund    a commit with such rows
    event                                     the commit of an event with all that it changes
    waiting                                   writing down an event that is to be applied later
    claim, claim_events                       taking the orders, or such events, that are due
    claim_rows, release                       taking rows for PollPending, and giving them back
    lease, settle                             handing out a notification, and its end
    create_charge, retrieve_charge, list_charges, create_refund, list_refunds
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Engine, event

from midas import limits
from midas.app import run, serve
from midas.config.settings import Settings
from midas.event import EventRecord, EventStanding
from midas.lease import Lease, Settlement
from midas.payment import Change
from midas.ports import ClaimedRow, RowKind

Result = TypeVar("Result")

VICTIM = ("-m", "tests.faults.victim")
"""How Python starts one."""
POINT = "VICTIM_POINT"
ORDER = "VICTIM_ORDER"
LIMITS = "VICTIM_LIMITS"
NOWHERE = "nowhere.before"
"""The point of a process that is killed from outside."""
HOLD_LONGEST = timedelta(seconds=1)
"""What a victim claims is due again soon, so that nobody has to wait for the whole hold."""
TURNS_OF_A_SEND = 20
"""Of the event loop: enough for a statement to leave for the server."""

MISSED = 70
"""The exit status when the moment inside never came."""

CALLS = ("create_charge", "retrieve_charge", "list_charges", "create_refund", "list_refunds")
COMMITS = ("new_charge", "charge", "new_refund", "refund", "event")


class Fate:
    """The point at which this process dies."""

    def __init__(self, point: str, order_no: str) -> None:
        self.order_no = order_no
        self.step, _, self.when = point.partition(".")
        if self.when not in ("before", "inside", "after", "raises", "cancels"):
            raise ValueError(point)
        self._inside = False
        self._writing = self._leasing = False
        self._dies_inside_a_lease = point == "lease.inside"
        event.listen(Engine, "connect", self._on_connect)

    async def around(
        self, steps: set[str], order_no: str, call: Callable[[], Awaitable[Result]]
    ) -> Result:
        """Make the call, and die with it if it is the one."""
        if self.step not in steps or order_no != self.order_no:
            return await call()
        if self.when == "before":
            die()
        if self.when in ("raises", "cancels"):
            return await self._surprise(call)
        self._inside = self.when == "inside"
        task = asyncio.ensure_future(call())
        if self._inside:
            await self._die_inside(task)
        result = await task
        die()
        return result

    async def _surprise(self, call: Callable[[], Awaitable[Result]]) -> Result:
        self.step = ""
        await call()
        if self.when == "cancels":
            raise asyncio.CancelledError
        raise RuntimeError(f"card 6222021234567890 {os.environ['PINGPP_API_KEY']}")

    async def _die_inside(self, task: "asyncio.Future[Any]") -> None:
        """SQLite's last moment is `_on_statement`; others may or may not have got the statement."""
        if _ON_SQLITE:
            await task
            os._exit(MISSED)
        for _ in range(TURNS_OF_A_SEND):
            await asyncio.sleep(0)
        die()

    def _on_connect(self, connection: Any, _record: Any) -> None:
        if _ON_SQLITE:
            connection.set_trace_callback(self._on_statement)

    def _on_statement(self, statement: str) -> None:
        """On SQLite: everything is written, and COMMIT is next."""
        statement = statement.strip()
        if statement.startswith("BEGIN"):
            self._writing = self._leasing = False
        elif " orders " in statement and statement.startswith(("INSERT", "UPDATE")):
            self._writing = True
            leases = statement.startswith("UPDATE orders SET announce_at")
            self._leasing = leases and f'"{self.order_no}"' in statement
        elif statement == "COMMIT" and self._is_about_to_die():
            die()

    def _is_about_to_die(self) -> bool:
        if self._dies_inside_a_lease:
            return self._leasing
        return self._writing and self._inside


class MortalStore:
    """A store in whose commits the process may die."""

    def __init__(self, inner: Any, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def commit(self, change: Change) -> bool:
        """See `Store`."""
        written = (
            change.new_charges, change.changed_charges, change.new_refunds, change.changed_refunds,
            change.new_events,
        )  # fmt: skip
        steps = {step for step, rows in zip(COMMITS, written, strict=True) if rows}
        done: bool = await self._fate.around(
            steps, change.order_no, lambda: self._inner.commit(change)
        )
        return done

    async def claim_due_orders(self, limit: int, hold: timedelta) -> list[str]:
        """See `Store`. Dies only over a claim of something."""
        found: list[str] = await self._inner.claim_due_orders(limit, min(hold, HOLD_LONGEST))
        if found and self._fate.step == "claim":
            die()
        return found

    async def claim_due_rows(
        self, kinds: Collection[RowKind], limit: int, hold: timedelta
    ) -> list[ClaimedRow]:
        """See `Store`. Dies only over a claim of a row of the order."""
        claim = self._inner.claim_due_rows
        found: list[ClaimedRow] = await claim(kinds, limit, min(hold, HOLD_LONGEST))
        if self._fate.step == "claim_rows" and self._order_of(found):
            die()
        return found

    async def release_rows(self, rows: Sequence[ClaimedRow]) -> None:
        """See `Store`. Inside is PostgreSQL's alone."""
        await self._fate.around(
            {"release"}, self._order_of(rows), lambda: self._inner.release_rows(rows)
        )

    def _order_of(self, rows: Sequence[ClaimedRow]) -> str:
        """The order that counts, if one of the rows is of it."""
        order_no = self._fate.order_no
        return order_no if order_no in {each.order_no for each in rows} else ""

    async def record_event(self, event: EventRecord) -> bool:
        """See `Store`."""
        waits = event.standing is EventStanding.WAITING
        steps = {"waiting"} if waits else set()
        new: bool = await self._fate.around(
            steps, event.order_no or "", lambda: self._inner.record_event(event)
        )
        return new

    async def claim_events(self, limit: int, hold: timedelta) -> list[EventRecord]:
        """See `Store`. Dies only over a claim of something."""
        found: list[EventRecord] = await self._inner.claim_events(limit, min(hold, HOLD_LONGEST))
        if found and self._fate.step == "claim_events":
            die()
        return found

    async def lease_notifications(self, limit: int, hold: timedelta) -> list[Lease]:
        """See `Store`. Dies only over a lease of the order; inside is SQLite's alone."""
        found: list[Lease] = await self._inner.lease_notifications(limit, hold)
        named = {each.notification.order_no for each in found}
        if self._fate.step == "lease" and self._fate.order_no in named:
            die()
        return found

    async def settle_notifications(self, settlements: Sequence[Settlement]) -> list[bool]:
        """See `Store`."""
        named = {each.order_no for each in settlements}
        order_no = self._fate.order_no if self._fate.order_no in named else ""
        applied: list[bool] = await self._fate.around(
            {"settle"}, order_no, lambda: self._inner.settle_notifications(settlements)
        )
        return applied


class MortalPsp:
    """A Ping++ around whose calls the process may die."""

    def __init__(self, inner: Any, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._inner, name)
        if name not in CALLS:
            return real

        async def call(*arguments: Any) -> Any:
            order_no = getattr(arguments[0], "order_no", self._fate.order_no)
            return await self._fate.around({name}, order_no, lambda: real(*arguments))

        return call


def die() -> None:
    """As `kill -9` does it: nothing is finished, closed or logged."""
    os.kill(os.getpid(), signal.SIGKILL)


async def main(settings: Settings) -> None:
    """Serve, until the point is reached."""
    for name, seconds in json.loads(os.environ.get(LIMITS, "{}")).items():
        is_length = isinstance(getattr(limits, name), timedelta)
        setattr(limits, name, timedelta(seconds=seconds) if is_length else seconds)
    fate = Fate(os.environ[POINT], os.environ[ORDER])
    await serve(
        settings,
        wrap_store=lambda store: MortalStore(store, fate),
        wrap_psp=lambda psp: MortalPsp(psp, fate),
    )


_ON_SQLITE = os.environ.get("DATABASE_URL", "").startswith("sqlite")

if __name__ == "__main__":
    sys.exit(run(main))
