"""The funnel: whatever is learnt about a charge or refund is decided and written here.

Nothing here calls Ping++; what it said is brought in.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from midas import limits, schedule
from midas.charge import (
    NOT_TOLD,
    Charge,
    ChargeFacts,
    ChargeNotice,
    ChargeObservation,
    ChargeSaid,
    ChargeState,
    ObservedBy,
    SecondClocks,
    said_by,
)
from midas.errors import (
    MidasError,
    PspRejectsMidas,
    PspUnavailable,
    StorageUnavailable,
    Throttled,
)
from midas.flows.skew import Skew
from midas.flows.turns import Turns
from midas.immutable import changed
from midas.payment import Change, Draft, Order
from midas.ports import Clock, KeyKind, KeyTaken, NotDone, Psp, Refusal, Store, Unknown, Verdict
from midas.refund import Refund, RefundFacts, RefundObservation, RefundSaid, RefundState
from midas.runtime.logs import say

_Row = TypeVar("_Row", Charge, Refund)

logger = logging.getLogger("midas.flows")

EVENT_ID = "event_id"
"""What `KeyTaken` says of an event that is on disk already."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What every flow works with."""

    store: Store
    psp: Psp
    clock: Clock
    new_out_trade_no: Callable[[datetime], str]
    """For a charge that is made at this time, which the number tells for ever."""
    settle_window: timedelta = limits.SETTLE_WINDOW
    expiry_grace: timedelta = limits.EXPIRY_GRACE
    skew: Skew = field(default_factory=Skew)
    declined_settle: timedelta = limits.DECLINED_SETTLE
    started: float | None = None
    """When this process started, by `clock.monotonic()`. None: that is not looked at."""
    commits: Turns = field(default_factory=lambda: Turns(broken_by=StorageUnavailable))
    """Commits of one order go one after the other: of n that are made at once on the same reading
    one would win, and n - 1 would be written in vain. Ping++ is never called within such a turn, so
    a webhook waits for commits, never for a flow that waits for Ping++. The turns only save work:
    the order's version decides, as it does between processes."""

    in_doubt: Callable[[Charge | Refund], None] = lambda _: None
    """Told of a row that was not sent, because the commit that it was sent after is in doubt."""

    def awake(self) -> timedelta | None:
        """How long this process has run, by a clock that never steps."""
        if self.started is None:
            return None
        return timedelta(seconds=self.clock.monotonic() - self.started)

    def settles_after(self, charge: Charge) -> timedelta:
        """How long after the first complete look that did not show it a charge is absent."""
        if not charge.is_declined:
            return self.settle_window
        return min(self.declined_settle, self.settle_window)

    def beside(self) -> SecondClocks:
        """What time it is besides what the database says."""
        return SecondClocks(self.psp.latest_now(), self.awake())

    def passed(self, since: datetime, now: datetime) -> timedelta:
        """How much time has certainly passed: what a clock stepped while nobody ran is not."""
        awake = self.awake()
        return now - since if awake is None else min(now - since, awake)


async def change(ports: Ports, order: Order, decide: Callable[[Draft], object]) -> Order:
    """Let `decide` work on the order and commit the result; if somebody was faster, decide anew.

    What `decide` raises ends it with nothing written. Raises KeyTaken for an event that is on disk
    already, and for the key of an intent that another order has. Raises StorageUnavailable; the
    change may then be on disk if its `may_have_written` says so.
    """
    async with ports.commits.of(order.order_no) as others_came_first:
        if others_came_first:
            order = await load_again(ports, order)
        return await _change(ports, order, decide)


async def _change(ports: Ports, order: Order, decide: Callable[[Draft], object]) -> Order:
    foreign: frozenset[str] = frozenset()
    known = order
    for lost in range(limits.CONFLICT_RETRIES):
        draft = Draft(order, foreign=foreign)
        decide(draft)
        wanted = draft.change(ports.store.new_change_id())
        if wanted is None:
            return order
        try:
            if await ports.store.commit(wanted):
                _raise_alarms(wanted)
                _tell_payments(wanted)
                return wanted.after
        except KeyTaken as taken:
            if taken.column == EVENT_ID or wanted.is_intent:
                raise
            foreign |= await _foreign(ports, wanted, taken)
        await _step_aside(ports, lost)
        order = await load_again(ports, known)
    raise StorageUnavailable


async def _step_aside(ports: Ports, lost: int) -> None:
    """Pause for a random moment after a second commit in a row that another process overtook.

    Two processes with many commits of one order would keep step, and one of them always lose.
    """
    if lost:
        longest_ms = min(lost, limits.CONFLICT_PAUSE_MAX_MS)
        await ports.clock.sleep(random.uniform(0, longest_ms) / 1000)  # noqa: S311


async def load_again(ports: Ports, known: Order) -> Order:
    """The order as it is on disk now, with all that `known` had when it was read or written.

    What is gone was lost in a failover, and is written again before anything is decided: a charge
    that nobody remembers may be paid all the same. A row whose key another order has got since
    stays away, with an alarm. Raises StorageUnavailable.
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
            told = {"order_no": known.order_no, "kind": f"{taken.column}_not_restored"}
            logger.error("operator_needed", extra=told)
            foreign |= await _foreign(ports, wanted, taken)
    raise StorageUnavailable


def _raise_alarms(written: Change) -> None:
    """A person has to look: that must not stand in the journal alone."""
    for entry in written.journal:
        if entry.event.endswith(ALARMS):
            ids = {"order_no": entry.order_no, "kind": entry.event, "state": entry.state_after}
            logger.error("operator_needed", extra=ids)


def _tell_payments(written: Change) -> None:
    """A line for each charge that is paid from now on, however that was learnt."""
    for notice in written.notifications:
        if notice.kind == ChargeNotice.SUCCESS:
            charge = written.after.charge(notice.out_trade_no)
            told = {
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
            say("charge_paid", told)


ALARMS = (
    "_quarantined",
    "_contradicted",
    "_needs_operator",
    "_doubled",
    "_restored",
)
"""How the journal names what calls for a person."""


async def _foreign(ports: Ports, wanted: Change, taken: KeyTaken) -> frozenset[str]:
    """Which keys and ids of this column, as Ping++ told them, belong to rows of other orders."""
    kind = KeyKind(taken.column)
    rows = (*wanted.new_charges, *wanted.changed_charges, *wanted.new_refunds)
    keys = {getattr(row, kind.value, None) for row in (*rows, *wanted.changed_refunds)}
    found = set[str]()
    for key in filter(None, keys):
        owner = await ports.store.find(kind, key)
        if owner is not None and owner.order_no != wanted.order_no:
            found.add(key)
    return frozenset(found)


async def charge_seen(
    ports: Ports, order: Order, out_trade_no: str, seen: ChargeObservation
) -> Order:
    """Record what was seen of a charge, and when to look at it next."""
    return await change(ports, order, lambda draft: see_charge(draft, out_trade_no, seen))


def see_charge(draft: Draft, out_trade_no: str, seen: ChargeObservation) -> Charge:
    """Send it down the funnel and plan the next look."""
    before = draft.charge(out_trade_no)
    after = draft.observe_charge(out_trade_no, seen)
    found_again = bool(before.operator_reason) and not after.operator_reason
    if seen.by is ObservedBy.QUERY and after.state is before.state and not found_again:
        return after
    if seen.facts is not None and seen.facts.charge_id != after.charge_id:
        return after  # that was another one of its number
    if _unknown_too_long(after.state is ChargeState.SUBMITTING, after.created_at, seen.at):
        after = _call_a_person(after)
        draft.put_charge(after, "charge_needs_operator", seen.at, seen.by)
    due_at = _next_charge_look(after, seen)
    if _is_planned(after, due_at):
        after = changed(after, due_at=due_at, looks=after.looks + 1)
        draft.reschedule_charge(after)
    return after


def see_refund(draft: Draft, refund_no: str, seen: RefundObservation) -> Refund:
    """Send it down the funnel and plan the next look."""
    before = draft.refund(refund_no)
    after = draft.observe_refund(refund_no, seen)
    if seen.by == ObservedBy.QUERY and after.state is before.state:
        return after
    unknown = after.state is RefundState.SUBMITTING and not after.unsent
    if _unknown_too_long(unknown, after.updated_at, seen.at):  # since it was sent last
        after = _call_a_person(after)
        draft.put_refund(after, "refund_needs_operator", seen.at, seen.by)
    due_at = _next_refund_look(after, seen)
    if _is_planned(after, due_at):
        after = changed(after, due_at=due_at, looks=after.looks + 1)
        draft.reschedule_refund(after)
    return after


def _is_planned(row: Charge | Refund, due_at: datetime | None) -> bool:
    """Whether this look is one of those that make the pauses grow, or there are none any more.

    A look may be planned for the very moment at which its claim ends.
    """
    if row.operator_reason:
        return due_at != row.due_at
    return due_at is not None or row.due_at is not None


def _unknown_too_long(unknown: bool, since: datetime, now: datetime) -> bool:
    return unknown and now >= since + limits.UNKNOWN_PATIENCE


def _call_a_person(row: _Row) -> _Row:
    if row.operator_reason:
        return row
    return changed(row, operator_reason=NOT_TOLD, due_at=None)


def _next_charge_look(charge: Charge, seen: ChargeObservation) -> datetime | None:
    if charge.operator_reason:
        return charge.due_at
    if charge.state is ChargeState.SUBMITTING or charge.is_being_reversed:
        soon = schedule.next_resolve(seen.at, charge.looks)
        if charge.is_being_reversed and seen.facts is not None and charge.due_at is not None:
            return max(soon, charge.due_at)  # whoever reverses it has the row until then
        return soon
    if charge.state is ChargeState.PENDING:
        return schedule.next_poll(seen.at, charge.looks)
    return None


def _next_refund_look(refund: Refund, seen: RefundObservation) -> datetime | None:
    if refund.operator_reason:
        return refund.due_at
    if refund.state is RefundState.SUBMITTING:
        return schedule.next_resolve(seen.at, refund.looks)
    if refund.state is RefundState.PENDING:
        return schedule.next_poll(seen.at, refund.looks)
    return None


def charge_told(
    ports: Ports, charge: Charge, facts: ChargeFacts, by: ObservedBy
) -> ChargeObservation:
    """An answer of Ping++ about this charge, as an observation made now."""
    at = ports.store.now()
    said = said_by(facts, at, charge.created_at, ports.expiry_grace, ports.beside)
    settled = _settled_before(ports, at) if charge.is_being_reversed else None
    return ChargeObservation(said, by, at, facts, settled_before=settled)


def _settled_before(ports: Ports, at: datetime) -> datetime | None:
    """The settle window before this question was asked, which may have taken its time."""
    window, psp_now = ports.settle_window + ports.psp.total_timeout, ports.psp.latest_now()
    if psp_now is not None:
        return min(at, psp_now) - window  # whichever clock is ahead, that only delays it
    return at - window if ports.passed(at - window, at) >= window else None


def charge_silent(ports: Ports, unknown: Unknown, by: ObservedBy) -> ChargeObservation:
    """No usable answer about a charge."""
    return ChargeObservation(ChargeSaid.NO_ANSWER, by, ports.store.now(), code=unknown.reason)


def refund_told(ports: Ports, facts: RefundFacts, by: ObservedBy) -> RefundObservation:
    """An answer of Ping++ about a refund, as an observation made now."""
    return RefundObservation(facts.said, by, ports.store.now(), facts)


def refund_silent(ports: Ports, reason: str, by: ObservedBy) -> RefundObservation:
    """No usable answer about a refund."""
    return RefundObservation(RefundSaid.NO_ANSWER, by, ports.store.now(), code=reason)


def failed_read(verdict: Verdict[Any]) -> MidasError:
    """What to tell a caller when Ping++ could not be asked. A read moves no money."""
    if isinstance(verdict, NotDone):
        if verdict.refusal is Refusal.THROTTLED:
            return Throttled()
        if verdict.refusal is Refusal.MIDAS_REJECTED:
            return PspRejectsMidas()
    return PspUnavailable()
