"""The entrance to the flows: what the gRPC services call.

What may move money runs in a task of its own. A caller that goes away does not stop it
(reliability.md F1). Within a process, the flows of one order go one after the other. Between
processes, the order's version decides.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Collection, Coroutine
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, TypeVar

from midas import limits
from midas.charge import Charge, ChargeState, ChargeTerms, ObservedBy
from midas.errors import MidasError, Overloaded, PspUnavailable
from midas.flows import create_charge as charge_flow
from midas.flows import create_refund as refund_flow
from midas.flows import query as query_flow
from midas.flows.commit import Ports, load_again
from midas.flows.create_charge import ChargeResult
from midas.flows.create_refund import RefundResult
from midas.flows.deadline import Deadline, within
from midas.flows.keyed_locks import KeyedLocks
from midas.flows.listing import SharedLooks
from midas.flows.lost import put_back
from midas.flows.not_sent import record_not_sent
from midas.flows.poll import BOTH, Poll, PollResult
from midas.flows.resolve import resolve_order
from midas.flows.run import Run
from midas.flows.terms import RefundTerms
from midas.out_trade_no import CHANCE_BITS, out_trade_no
from midas.payment import Order
from midas.ports import Clock, KeyKind, Listing, Psp, RowKind, Store
from midas.refund import Refund, RefundState
from midas.runtime.logs import log_event

Result = TypeVar("Result")

logger = logging.getLogger("midas.flows")

RESOLVE_PAUSE_S = 1.0
"""How often each process looks for outcomes that are due to be found out."""
RESOLVE_PAUSE_MAX_S = 30.0
"""The longest pause between two such looks, while the database cannot be used."""


class Payments:
    """Charges, refunds and queries. One per process and event loop."""

    def __init__(
        self,
        store: Store,
        psp: Psp,
        clock: Clock,
        *,
        settle_window: timedelta = limits.SETTLE_WINDOW,
        expiry_grace: timedelta = limits.EXPIRY_GRACE,
        declined_settle: timedelta = limits.DECLINED_SETTLE,
        poll_overdue: timedelta = limits.POLL_OVERDUE,
    ) -> None:
        self.ports = Ports(
            store,
            psp,
            clock,
            new_out_trade_no,
            settle_window,
            expiry_grace,
            declined_settle=declined_settle,
            started=clock.monotonic(),
            in_doubt=self._record_not_sent,
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._locks = KeyedLocks()
        self._blind = False
        self._perhaps_lost: list[Order] = []
        self._poll_overdue = poll_overdue
        self._is_draining = False
        self._overdue_checked = clock.monotonic()

    async def charge(self, terms: ChargeTerms) -> ChargeResult:
        """Open the order's charge; `protos/midas/v1/payment_service.proto` states the promise.

        The caller's deadline does not shorten it: it goes on without the caller. Raises what
        `flows.create_charge.charge` raises, and InvalidRequest.
        """
        charge_flow.check(self.ports, terms)
        return await self._run_to_completion(self._charge(terms))

    async def refund(self, terms: RefundTerms) -> RefundResult:
        """Give money back; `protos/midas/v1/payment_service.proto` states the promise.

        The caller's deadline does not shorten it: it goes on without the caller. Raises what
        `flows.create_refund.refund` raises, InvalidRequest and NotFound.
        """
        refund_flow.check(terms)
        return await self._run_to_completion(self._refund(terms))

    async def query(
        self,
        kind: KeyKind,
        key: str,
        refresh: bool = False,
        timeout: timedelta | None = None,
    ) -> tuple[Order, tuple[Charge, ...]]:
        """The order and those of its charges that the key names.

        With `refresh`, Ping++ is asked first; that ends within `timeout`. Raises
        InvalidRequest, NotFound, StorageUnavailable, and with refresh PspUnavailable, Throttled,
        PspRejectsMidas, Overloaded.
        """
        deadline = within(self.ports.clock, timeout)
        order, charges = await query_flow.find(self.ports, kind, key)
        if refresh:
            order = await self._run_to_completion(self._refresh(order, charges, deadline))
        return order, query_flow.named(order, kind, key)

    async def poll(
        self, kinds: Collection[RowKind], limit: int, timeout: timedelta | None = None
    ) -> PollResult:
        """Look at what is due; `protos/midas/v1/payment_service.proto` states the promise.

        No kinds mean both, a limit of 0 the default. Raises StorageUnavailable, PspUnavailable,
        Overloaded: no money moved by this call.
        """
        deadline = within(self.ports.clock, limits.POLL_TIME if timeout is None else timeout)
        poll = Poll(self.ports, self._locks, deadline, stopping=lambda: self._is_draining)
        wanted = limit or limits.POLL_ROWS_DEFAULT
        return await self._run_to_completion(self._poll(poll, kinds or BOTH, wanted))

    async def list_charges(self, state: ChargeState | None, page: Listing) -> list[Order]:
        """One order for each matching charge, newest first. Raises StorageUnavailable."""
        return await self.ports.store.list_charges(state, page)

    async def list_refunds(self, state: RefundState | None, page: Listing) -> list[Refund]:
        """The matching refunds, newest first. Raises StorageUnavailable."""
        return await self.ports.store.list_refunds(state, page)

    async def run(self) -> None:
        """Find out unknown outcomes as they fall due, until cancelled."""
        pause_s = RESOLVE_PAUSE_S
        while True:
            try:
                found = await self.resolve_due()
                pause_s = RESOLVE_PAUSE_S
            except MidasError as error:
                found = 0
                logger.warning("resolve_failed", extra={"reason": type(error).__name__})
                pause_s = min(pause_s * 2, RESOLVE_PAUSE_MAX_S)
            if found < limits.RESOLVE_BATCH:
                await self.ports.clock.sleep(pause_s)

    async def resolve_due(self) -> int:
        """Look once at the outcomes that are due. Returns how many orders were looked at.

        It first puts back what the database may have lost.
        """
        self._perhaps_lost += await self.ports.store.perhaps_lost()
        if self._perhaps_lost:
            await self._run_to_completion(self._put_back(self._perhaps_lost))
            self._perhaps_lost = []
        await self._warn_if_overdue()
        self.ports.skew.note(self.ports.psp.now(), self.ports.store.now())
        claim = limits.RESOLVE_CLAIM
        due = await self.ports.store.claim_due_orders(limits.RESOLVE_BATCH, claim)
        run = Run()
        await self._resolve_all(due, run)
        self._alarm_if_blind(run)
        if not run.is_blind:
            await self._resolve_all(run.put_off, Run(many=False))
        return len(due)

    async def _warn_if_overdue(self) -> None:
        """Warn, now and then, that looks are due for long: nobody calls PollPending, say."""
        now = self.ports.clock.monotonic()
        period_s = self._poll_overdue.total_seconds()
        if now - self._overdue_checked < period_s:
            return
        self._overdue_checked = now
        oldest = (await self.ports.store.due_times(BOTH)).oldest_due_at
        if oldest is not None and oldest < self.ports.store.now() - self._poll_overdue:
            logger.warning("poll_overdue", extra={"oldest_due_at": oldest.isoformat()})

    async def _put_back(self, perhaps_lost: list[Order]) -> None:
        places = asyncio.Semaphore(limits.RESOLVE_AT_ONCE)

        async def one(known: Order) -> None:
            async with places, self._locks.of(known.order_no):
                await put_back(self.ports, known)

        await asyncio.gather(*map(one, perhaps_lost))

    async def _resolve_all(self, order_nos: list[str], run: Run) -> None:
        places = asyncio.Semaphore(limits.RESOLVE_AT_ONCE)
        looks = SharedLooks(places)
        each = (self._resolve(order_no, run, places, looks) for order_no in order_nos)
        await asyncio.gather(*(self._run_to_completion(work) for work in each))

    def _alarm_if_blind(self, run: Run) -> None:
        """Raise one alarm, not one for every run, if Ping++ knows nothing that Midas asks for."""
        if run.is_blind and not self._blind:
            logger.error("operator_needed", extra={"kind": "psp_knows_none_of_our_charges"})
        self._blind = run.is_blind

    async def drain(self, timeout: timedelta) -> bool:
        """Wait for what is under way. False if some of it did not end in time.

        The rest is SUBMITTING on disk then, and its outcome is found out after the next start.
        """
        self._is_draining = True
        if not self._tasks:
            return True
        _, unfinished = await asyncio.wait(self._tasks, timeout=timeout.total_seconds())
        return not unfinished

    async def _poll(self, poll: Poll, kinds: Collection[RowKind], limit: int) -> PollResult:
        try:
            result = await poll.poll(kinds, limit)
        finally:  # a key that Ping++ rejects makes every look fail, and a person has to know
            self._alarm_if_blind(poll.run)
        log_event("poll_done", _log_fields(result))
        return result

    async def _charge(self, terms: ChargeTerms) -> ChargeResult:
        async with self._locks.of(terms.order_no):
            try:
                async with self.ports.psp.admit():
                    return await charge_flow.charge(self.ports, terms)
            except (PspUnavailable, Overloaded) as error:
                return await charge_flow.answer_from_storage(self.ports, terms, error)

    async def _refund(self, terms: RefundTerms) -> RefundResult:
        order = await refund_flow.find_target(self.ports, terms)
        async with self._locks.of(order.order_no):
            try:
                async with self.ports.psp.admit():
                    order = await load_again(self.ports, order)
                    return await refund_flow.refund(self.ports, order, terms)
            except (PspUnavailable, Overloaded) as error:
                return await refund_flow.answer_from_storage(self.ports, terms, error)

    async def _refresh(
        self, order: Order, charges: tuple[Charge, ...], deadline: Deadline
    ) -> Order:
        async with self._locks.of(order.order_no), self.ports.psp.admit():
            order = await load_again(self.ports, order)
            return await query_flow.refresh(self.ports, order, charges, deadline)

    async def _resolve(
        self, order_no: str, run: Run, places: asyncio.Semaphore, looks: SharedLooks
    ) -> None:
        """Take one order's turn. If it fails, the others must still get theirs."""
        try:
            async with places, self._locks.of(order_no):
                if not run.is_blind:
                    order = await self.ports.store.load(order_no)
                    find = looks.find_charge
                    await resolve_order(self.ports, order, ObservedBy.RESOLVE, run, find)
        except Exception as error:
            reason = type(error).__name__
            logger.warning("resolve_failed", extra={"order_no": order_no, "reason": reason})

    async def _run_to_completion(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run it to its end even if the caller is cancelled meanwhile."""
        if len(self._tasks) >= limits.FLOWS_UNDER_WAY:
            work.close()
            raise Overloaded
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _record_not_sent(self, row: Charge | Refund) -> None:
        """Record it beside the caller, who is answered at once. Do not if too much is under way."""
        if len(self._tasks) >= limits.FLOWS_UNDER_WAY:
            return
        task = asyncio.create_task(record_not_sent(self.ports, row))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone: its outcome is on disk


def _log_fields(result: PollResult) -> dict[str, object]:
    """What a person wants to know of a run the next morning."""
    fields = asdict(result)
    times = {name: fields.pop(name) for name in ("oldest_due_at", "next_due_at")}
    return fields | {name: at.isoformat() for name, at in times.items() if at is not None}


class SystemClock:
    """The clock of this machine, as the flows need it."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def monotonic(self) -> float:
        """Seconds that never step."""
        return time.monotonic()


def new_out_trade_no(made: datetime) -> str:
    """A number that is never used twice; `midas/out_trade_no.py` says what it is made of.

    If one process makes several at one moment, each is greater than those before. So an order's
    charges are sorted as they were made.
    """
    return out_trade_no(made, _chance.bits(made))


class _Chance:
    """The random bits that distinguish two numbers of one millisecond."""

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - nobody gains by guessing one
        """The operating system seeds it, and is not asked each time: that would cost a change of
        threads."""
        os.register_at_fork(after_in_child=self._random.seed)
        self._made: datetime | None = None
        self._bits = 0

    def bits(self, made: datetime) -> int:
        if made == self._made:
            self._bits += 1 + self._random.getrandbits(CHANCE_BITS - 17)
        else:
            self._made, self._bits = made, self._random.getrandbits(CHANCE_BITS - 1)
        return self._bits


_chance = _Chance()
