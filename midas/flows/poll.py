"""poll: ask Ping++ about everything whose look is due, because webhooks are not certain.

    claim a batch ─▶ for each order: load it, look at its due rows one after the other
         ▲                              ├─ answered ──▶ observed (observe.py), the next look planned
         │                              └─ no answer ─▶ nothing is written; it comes up again later
         └─ until nothing is due, `limit` rows were looked at, or the time is over:
            what was claimed and not looked at is due again as before

Many runs may work at once, in one process or in many: a claim moves the due_at of its rows by the
database's clock. What a look finds is committed as everything else is: the order's version decides.
A run whose first looks find nothing at all asks with a wrong key or app; it stops (run.py). So does
a run whose first looks bring no answer: Ping++ is away.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from midas import limits, schedule
from midas.charge import Charge, ChargeState, ObservedBy
from midas.draft import Draft
from midas.errors import PspUnavailable, StorageUnavailable
from midas.flows.commit import Decision, Ports, commit
from midas.flows.deadline import Deadline
from midas.flows.keyed_locks import KeyedLocks
from midas.flows.listing import SharedLooks
from midas.flows.look import decision_on, is_blind, refund_decision_on
from midas.flows.resolve_charge import finish_superseded, resolve_charge
from midas.flows.resolve_refund import resolve_refund
from midas.flows.run import Run
from midas.flows.unknown import in_flight
from midas.immutable import replace as replace_row
from midas.payment import Order
from midas.ports import ClaimedRow, Done, NotDone, Psp, Refusal, RowKind, Verdict
from midas.refund import Refund, RefundFacts, RefundState

logger = logging.getLogger("midas.flows")

BOTH = frozenset(RowKind)
"""Charges and refunds."""


@dataclass(slots=True)
class PollResult:
    """What one run did. The numbers are of rows, but for `psp_calls`."""

    examined: int = 0
    changed: int = 0
    """Rows whose state is another one now."""
    still_pending: int = 0
    unknown: int = 0
    """Rows whose outcome is still unknown (SUBMITTING)."""
    failed: int = 0
    """Looks that brought no answer, or that ended in an error of ours."""
    found_by_poll: int = 0
    """Changes that a webhook should have brought before."""
    psp_calls: int = 0
    more_due: bool = False
    """Whether rows were due when the run ended."""
    oldest_due_at: datetime | None = None
    next_due_at: datetime | None = None


@dataclass(slots=True)
class Poll:
    """One run over the rows that are due."""

    ports: Ports
    locks: KeyedLocks
    """The orders' locks of this process: no two of its flows work on one order at once."""
    deadline: Deadline
    result: PollResult = field(default_factory=PollResult)
    run: Run = field(default_factory=Run)
    _places: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(limits.POLL_AT_ONCE)
    )
    stopping: Callable[[], bool] = lambda: False
    """Whether the process is about to end: no further look begins then."""
    _left: list[ClaimedRow] = field(default_factory=list)
    """The rows that were claimed and not looked at. They are given back at the end of the run, and
    not before: it would claim them again."""
    _put_off: list[ClaimedRow] = field(default_factory=list)
    """The rows that were not found while nothing had been found yet (run.py)."""
    _answered: int = 0
    _errors: int = 0
    """How many looks ended in an error of ours."""
    _may_have_sent: bool = False

    async def poll(self, kinds: Collection[RowKind], limit: int) -> PollResult:
        """Look at up to `limit` rows that are due.

        Raises StorageUnavailable. Raises PspUnavailable where Ping++ answered for no row and
        nothing can have been sent. A row that was not answered for comes up again when its claim
        ends.
        """
        result, looks = self.result, SharedLooks(self._places)
        try:
            while result.examined < limit and self._has_time() and not self.run.is_blind:
                wanted = min(limits.POLL_BATCH, limit - result.examined)
                claimed = await self._claimed(kinds, wanted)
                await self._look_at_all(claimed, looks)
                if not claimed or self._is_away:
                    break
            if self._put_off and not self.run.is_blind and self._has_time():
                again, self._put_off, self.run = self._put_off, [], Run(many=False)
                await self._look_at_all(again, looks)
        finally:
            with suppress(StorageUnavailable):  # else they come up again when their claim ends
                await self.ports.store.release_rows(self._left + self._put_off)
        all_failed = 0 < result.failed == result.examined
        if all_failed and not (self._errors or self._may_have_sent):
            raise PspUnavailable
        await self._note_what_is_due(kinds)
        result.more_due = result.more_due and not self.run.is_blind
        return result

    @property
    def _is_away(self) -> bool:
        """Whether so many looks brought no answer, and none brought one, that Ping++ is away."""
        return not self._answered and self.result.failed >= limits.RUN_FIRST_LOOKS

    async def _claimed(self, kinds: Collection[RowKind], wanted: int) -> list[ClaimedRow]:
        """The next batch. Without the database none, once something was looked at.

        An error would say that no money moved, and hide what the run has found.
        """
        try:
            return await self.ports.store.claim_due_rows(kinds, wanted, limits.POLL_CLAIM)
        except StorageUnavailable:
            if not self.result.examined:
                raise
            return []

    async def _note_what_is_due(self, kinds: Collection[RowKind]) -> None:
        try:
            due = await self.ports.store.due_times(kinds)
        except StorageUnavailable:
            if not self.result.examined:
                raise
            self.result.more_due = True  # it is not known: let somebody look again soon
            return
        self.result.more_due = due.oldest_due_at is not None
        self.result.oldest_due_at, self.result.next_due_at = due.oldest_due_at, due.next_due_at

    def _has_time(self) -> bool:
        left = self.deadline.left()
        return not self.stopping() and (left is None or left > limits.POLL_MARGIN)

    def _may_post(self) -> bool:
        """Whether a call that may move money can end before the run has to."""
        left = self.deadline.left()
        return left is None or left > self.ports.psp.total_timeout

    async def _look_at_all(self, claimed: Sequence[ClaimedRow], looks: SharedLooks) -> None:
        orders: dict[str, list[ClaimedRow]] = defaultdict(list)
        for row in claimed:
            orders[row.order_no].append(row)
        await asyncio.gather(*(self._order(no, rows, looks) for no, rows in orders.items()))

    async def _order(self, order_no: str, rows: list[ClaimedRow], looks: SharedLooks) -> None:
        """Look at the due rows of one order. Its trouble must not end the run."""
        async with self._places, self.locks.of(order_no):
            order: Order | None = None
            for row in rows:
                if not self._has_time() or self.run.is_blind:
                    self._left.append(row)
                    continue
                try:
                    order = order or await self.ports.store.load(order_no)
                    order = await self._row(order, row, looks)
                except Exception as error:  # any defect: the other rows go on
                    self.result.examined += 1
                    self.result.failed += 1
                    self._errors += 1
                    fields = {"order_no": order_no, "reason": type(error).__name__}
                    logger.warning("poll_look_failed", extra=fields)
                    order = None

    async def _row(self, order: Order, row: ClaimedRow, looks: SharedLooks) -> Order:
        before = _row_of(order, row)
        if before.due_at != row.held_until:
            return order  # somebody else has it by now, or it has ended
        if in_flight(self.ports, before) or (_may_move_money(before) and not self._may_post()):
            self._left.append(row)
            return order
        counted = _CountedPsp(self.ports.psp)
        ports = replace(self.ports, psp=cast("Psp", counted))
        put_off = len(self.run.put_off)
        try:
            if isinstance(before, Refund):
                order = await self._look_at_refund(ports, order, before)
            else:
                order = await self._look_at_charge(ports, order, before, looks)
            if counted.answers and len(self.run.put_off) == put_off:
                order = await commit(ports, order, _planned_at_least(ports, row))
        finally:
            self.result.psp_calls += counted.calls
            self._may_have_sent |= counted.may_have_sent
        if len(self.run.put_off) > put_off:
            self._put_off.append(row)
        self._count(counted, before, _row_of(order, row))
        return order

    async def _look_at_charge(
        self, ports: Ports, order: Order, charge: Charge, looks: SharedLooks
    ) -> Order:
        by, number = ObservedBy.POLL, charge.out_trade_no
        if charge.state is ChargeState.SUBMITTING and not charge.operator_reason:
            return await resolve_charge(ports, order, number, by, self.deadline, looks.find_charge)
        if _is_watched(charge) and not charge.operator_reason:
            return await finish_superseded(ports, order, charge, by, self.run)
        if charge.charge_id is None:
            return await commit(ports, order, lambda _: None)  # a person's: it is not due any more
        verdict = await ports.psp.retrieve_charge(charge.charge_id, self.deadline.left())
        answered, blind = isinstance(verdict, Done), is_blind(charge, verdict)
        if not self.run.may_write_after(order.order_no, answered=answered, blind=blind):
            return order
        decision = decision_on(ports, charge, verdict, by)
        return order if decision is None else await commit(ports, order, decision)

    async def _look_at_refund(self, ports: Ports, order: Order, refund: Refund) -> Order:
        by = ObservedBy.POLL
        if refund.state is RefundState.SUBMITTING and not refund.operator_reason:
            return await resolve_refund(ports, order, refund.refund_no, by, self.deadline)
        if refund.refund_id is None:
            return await commit(ports, order, lambda _: None)  # a person's: it is not due any more
        left = self.deadline.left()
        verdict = await ports.psp.retrieve_refund(refund.charge_id, refund.refund_id, left)
        answered, blind = isinstance(verdict, Done), _is_blind_for_refund(refund, verdict)
        if not self.run.may_write_after(order.order_no, answered=answered, blind=blind):
            return order
        decision = refund_decision_on(ports, refund, verdict, by)
        return order if decision is None else await commit(ports, order, decision)

    def _count(
        self, counted: "_CountedPsp", before: Charge | Refund, after: Charge | Refund
    ) -> None:
        result, changed = self.result, after.state is not before.state
        result.examined += 1
        result.changed += changed
        result.found_by_poll += changed and after.state in _WEBHOOKS_BRING
        result.still_pending += after.state in (ChargeState.PENDING, RefundState.PENDING)
        result.unknown += after.state in (ChargeState.SUBMITTING, RefundState.SUBMITTING)
        result.failed += bool(counted.calls and not counted.answers)
        self._answered += bool(counted.answers)


def _row_of(order: Order, row: ClaimedRow) -> Charge | Refund:
    return order.refund(row.key) if row.kind is RowKind.REFUND else order.charge(row.key)


def _is_blind_for_refund(refund: Refund, verdict: Verdict[RefundFacts]) -> bool:
    """Whether the answer is one that a wrong key or app leads to."""
    if isinstance(verdict, Done):
        return verdict.answer.app_id not in ("", refund.app_id)
    blind = (Refusal.NOT_FOUND, Refusal.MIDAS_REJECTED)
    return isinstance(verdict, NotDone) and verdict.refusal in blind


def _planned_at_least(ports: Ports, row: ClaimedRow) -> Decision:
    """The decision to plan a look for a row whose look was answered and planned none.

    A row that waits for a person is looked at once a day: an answer may end that it waits. A
    charge that is being reversed is left to the end of its claim.
    """

    def decide(draft: Draft) -> None:
        is_refund = row.kind is RowKind.REFUND
        now = draft.refund(row.key) if is_refund else draft.charge(row.key)
        is_reversed = isinstance(now, Charge) and now.is_being_reversed
        if now.due_at != row.held_until or is_reversed:
            return
        at = ports.store.now()
        if now.operator_reason:
            due_at = at + limits.POLL_DAILY
        elif now.state in (ChargeState.SUBMITTING, RefundState.SUBMITTING):
            due_at = schedule.next_resolve(at, now.looks)
        else:
            due_at = schedule.next_poll(at, now.looks)
        draft.put(replace_row(now, due_at=due_at))

    return decide


_WEBHOOKS_BRING = (ChargeState.SUCCEEDED, RefundState.SUCCEEDED, RefundState.FAILED)
"""Ping++ sends an event for these, and for no other state (pingpp.md section 4)."""


def _is_watched(charge: Charge) -> bool:
    return charge.state is ChargeState.PENDING and charge.superseded


def _may_move_money(row: Charge | Refund) -> bool:
    """Whether a look at it may post or reverse something."""
    unknown = row.state in (ChargeState.SUBMITTING, RefundState.SUBMITTING)
    return unknown or (isinstance(row, Charge) and _is_watched(row))


class _CountedPsp:
    """Ping++ for the looks at one row: its calls are counted, and their verdicts are noted."""

    _READS = ("retrieve_charge", "list_charges", "retrieve_refund", "list_refunds")
    _WRITES = ("create_charge", "reverse_charge", "create_refund")

    def __init__(self, psp: Psp) -> None:
        self._psp = psp
        self.calls = 0
        self.answers = 0
        self.may_have_sent = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._psp, name)
        if name not in (*self._READS, *self._WRITES):
            return method

        async def counted(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            is_write, before = name in self._WRITES, self.may_have_sent
            self.may_have_sent |= is_write  # also if the call ends in an exception
            verdict = await method(*arguments, **options)
            refusal = verdict.refusal if isinstance(verdict, NotDone) else None
            if refusal is Refusal.NOT_SENT:
                self.may_have_sent = before
            is_answer = refusal is Refusal.NOT_FOUND or (is_write and refusal is Refusal.REFUSED)
            self.answers += isinstance(verdict, Done) or is_answer
            return verdict

        return counted
