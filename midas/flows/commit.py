"""commit: what every flow works with, and how a decision about an order is written down.

`commit` lets the flow decide on a draft of the order and writes the result. If another process was
faster, the order is read again and decided anew. Nothing here calls Ping++.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from midas import limits
from midas.charge import Charge, ChargeNotice, SecondClocks
from midas.draft import Draft
from midas.errors import StorageUnavailable
from midas.flows.keyed_locks import KeyedLocks
from midas.flows.skew import Skew
from midas.payment import Change, Order
from midas.ports import Clock, KeyKind, KeyTaken, Psp, Store
from midas.refund import Refund
from midas.runtime.logs import log_event

logger = logging.getLogger("midas.flows")

Decision = Callable[[Draft], object]
"""What a flow does to an order. It may be called again, on another draft: it keeps no state."""

EVENT_ID = "event_id"
"""The column that `KeyTaken` names for an event that is on disk already."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What every flow works with."""

    store: Store
    psp: Psp
    clock: Clock
    new_out_trade_no: Callable[[datetime], str]
    """Makes the number of a charge that is made at this time. The time can be read from it."""
    settle_window: timedelta = limits.SETTLE_WINDOW
    expiry_grace: timedelta = limits.EXPIRY_GRACE
    skew: Skew = field(default_factory=Skew)
    declined_settle: timedelta = limits.DECLINED_SETTLE
    started: float | None = None
    """When this process started, by `clock.monotonic()`. None: nobody asks for that."""
    commits: KeyedLocks = field(default_factory=lambda: KeyedLocks(broken_by=StorageUnavailable))
    """Commits of one order take turns. If n are made at once on the same reading, one wins, and
    n - 1 are written in vain. Nobody calls Ping++ within such a turn, so a webhook waits for
    commits, never for a flow that waits for Ping++. The turns only save work: the order's version
    decides, as it does between processes."""

    in_doubt: Callable[[Charge | Refund], None] = lambda _: None
    """Called with a row that was not sent, because the commit that must come first is in doubt."""

    def uptime(self) -> timedelta | None:
        """How long this process has run, by a clock that never steps."""
        if self.started is None:
            return None
        return timedelta(seconds=self.clock.monotonic() - self.started)

    def settles_after(self, charge: Charge) -> timedelta:
        """How long after the first complete look that did not show it a charge is absent."""
        if not charge.is_declined:
            return self.settle_window
        return min(self.declined_settle, self.settle_window)

    def second_clocks(self) -> SecondClocks:
        """The clocks beside the database's."""
        return SecondClocks(self.psp.latest_now(), self.uptime())

    def elapsed(self, since: datetime, now: datetime) -> timedelta:
        """How much time has certainly passed: at most the uptime, as the clock may have stepped."""
        uptime = self.uptime()
        return now - since if uptime is None else min(now - since, uptime)


async def commit(ports: Ports, order: Order, decide: Decision) -> Order:
    """Let `decide` work on the order and commit the result; if somebody was faster, decide anew.

    If `decide` raises, nothing is written. Raises KeyTaken for an event that is on disk already,
    and for the key of an intent that another order has. Raises StorageUnavailable; the change may
    then be on disk if its `may_have_written` says so.
    """
    async with ports.commits.of(order.order_no) as others_came_first:
        if others_came_first:
            order = await load_again(ports, order)
        return await _commit(ports, order, decide)


async def _commit(ports: Ports, order: Order, decide: Decision) -> Order:
    foreign: frozenset[str] = frozenset()
    known = order
    for conflicts in range(limits.CONFLICT_RETRIES):
        draft = Draft(order, foreign=foreign, expiry_grace=ports.expiry_grace)
        decide(draft)
        wanted = draft.change(ports.store.new_change_id())
        if wanted is None:
            return order
        try:
            if await ports.store.commit(wanted):
                _raise_alarms(wanted)
                _log_payments(wanted)
                return wanted.after
        except KeyTaken as taken:
            if taken.column == EVENT_ID or wanted.is_intent:
                raise
            foreign |= await _foreign(ports, wanted, taken)
        await _pause_after_conflict(ports, conflicts)
        order = await load_again(ports, known)
    raise StorageUnavailable


async def _pause_after_conflict(ports: Ports, conflicts: int) -> None:
    """Pause for a random moment after the second commit in a row that another process overtook.

    Two processes with many commits of one order would keep step, and one would always lose.
    """
    if conflicts:
        longest_ms = min(conflicts, limits.CONFLICT_PAUSE_MAX_MS)
        await ports.clock.sleep(random.uniform(0, longest_ms) / 1000)  # noqa: S311


async def load_again(ports: Ports, known: Order) -> Order:
    """The order as it is on disk now, with all that `known` had when it was read or written.

    Rows that are gone were lost in a failover. They are written again before anything is decided: a
    charge that nobody remembers may still be paid. A row whose key another order has by now is left
    out, with an alarm. Raises StorageUnavailable.
    """
    foreign: frozenset[str] = frozenset()
    for _ in range(limits.CONFLICT_RETRIES):
        order = await ports.store.load(known.order_no)
        draft = Draft(order, foreign=foreign)
        draft.restore(known, ports.store.now())
        wanted = draft.change(ports.store.new_change_id())
        if wanted is None:
            return order
        try:
            if await ports.store.commit(wanted):
                _raise_alarms(wanted)
                return wanted.after
        except KeyTaken as taken:
            fields = {"order_no": known.order_no, "kind": f"{taken.column}_not_restored"}
            logger.error("operator_needed", extra=fields)
            foreign |= await _foreign(ports, wanted, taken)
    raise StorageUnavailable


def _raise_alarms(written: Change) -> None:
    """Log what calls for a person: it must not stand in the journal alone."""
    for entry in written.journal:
        if entry.event.endswith(ALARMS):
            ids = {"order_no": entry.order_no, "kind": entry.event, "state": entry.state_after}
            logger.error("operator_needed", extra=ids)


def _log_payments(written: Change) -> None:
    """Log a line for each charge that is paid from now on, however that was learnt."""
    for notice in written.notifications:
        if notice.kind == ChargeNotice.SUCCESS:
            charge = written.after.charge(notice.out_trade_no)
            fields = {
                "order_no": charge.order_no,
                "out_trade_no": charge.out_trade_no,
                "charge_id": charge.charge_id,
                "channel": charge.channel,
                "amount": charge.amount,
                "currency": charge.currency,
                "livemode": charge.livemode,
                "late": notice.late,
                "duplicate_payment": notice.duplicate_payment,
                "by": notice.observed_by,
            }
            log_event("charge_paid", fields)


ALARMS = (
    "_quarantined",
    "_contradicted",
    "_needs_operator",
    "_doubled",
    "_restored",
)
"""How the names of the journal's events end that call for a person."""


async def _foreign(ports: Ports, wanted: Change, taken: KeyTaken) -> frozenset[str]:
    """Which of the keys and ids of this column belong to rows of other orders."""
    kind = KeyKind(taken.column)
    rows = (*wanted.new_charges, *wanted.changed_charges, *wanted.new_refunds)
    keys = {getattr(row, kind.value, None) for row in (*rows, *wanted.changed_refunds)}
    found = set[str]()
    for key in filter(None, keys):
        owner = await ports.store.find(kind, key)
        if owner is not None and owner.order_no != wanted.order_no:
            found.add(key)
    return frozenset(found)
