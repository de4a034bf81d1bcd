"""What the flows need from outside: a store, Ping++ and a clock.

`midas/storage` and `midas/psp` implement these; `tests/fakes` implements them in memory. The real
and the fake ones pass the same contract tests.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from midas.charge import Charge, ChargeFacts, ChargeState, ChargeTerms
from midas.errors import FieldViolation
from midas.event import EventRecord, PspEvent, UnreadableEvent
from midas.immutable import record
from midas.lease import Backlog, Lease, Settlement
from midas.payment import Change, JournalEntry, Notification, Order
from midas.refund import Refund, RefundFacts, RefundState

Answer = TypeVar("Answer", covariant=True)


@record(frozen=True, slots=True)
class Done(Generic[Answer]):
    """Ping++ answered. The answer need not be the one that was hoped for: read it."""

    answer: Answer


class Refusal(StrEnum):
    """Why something was certainly not done."""

    NOT_SENT = "NOT_SENT"  # no byte of the request reached Ping++: it may be sent again
    REFUSED = "REFUSED"  # Ping++ or the channel refused it
    NOT_FOUND = "NOT_FOUND"  # Ping++ knows no such object
    THROTTLED = "THROTTLED"  # Ping++'s limit of calls
    MIDAS_REJECTED = "MIDAS_REJECTED"  # our API key or signature


@record(frozen=True, slots=True)
class NotDone:
    """It is proven that this very call did nothing. That says nothing about an earlier call.

    `code`, `param` and `message` are Ping++'s; the message is for people. For NOT_SENT the message
    is a constant such as `connect_failed`.
    """

    refusal: Refusal
    code: str = ""
    param: str = ""
    message: str = ""


@record(frozen=True, slots=True)
class Unknown:
    """The call may have been done or not: timeout, reset, 5xx, an answer that cannot be read.

    `reason` is a short constant such as `timeout`, `connection_lost`, `status_502`,
    `unreadable_answer`. It holds nothing of the request or the answer.
    """

    reason: str
    declined: NotDone | None = None
    """Set if the channel refused a bar code, by a code that means so. The bar code is not paid now,
    but its payer may still be typing the PIN."""


Verdict = Done[Answer] | NotDone | Unknown


@record(frozen=True, slots=True)
class ChargePage:
    """One page of charges, newest first. `more` says that older ones follow.

    A row that cannot be read does not spoil the others: `unread` has its out_trade_no. `last_id` is
    the id of the last row, even if that row cannot be read.
    """

    charges: tuple[ChargeFacts, ...]
    more: bool
    unread: tuple[str, ...] = ()
    last_id: str = ""


@record(frozen=True, slots=True)
class RefundPage:
    """One page of the refunds of a charge, newest first. `more` says that older ones follow."""

    refunds: tuple[RefundFacts, ...]
    more: bool


class Psp(Protocol):
    """Ping++. Every method but `admit` answers with a verdict and raises nothing but cancellation.

    No method repeats a POST by itself. A GET is sent once more if its connection turns out to be
    closed. `timeout` bounds the whole call. None means the configured bound, and a longer timeout
    is cut to that bound.
    """

    @property
    def app_id(self) -> str:
        """The Ping++ application that charges belong to."""

    @property
    def livemode(self) -> bool:
        """Whether real money moves. The API key decides it."""

    @property
    def total_timeout(self) -> timedelta:
        """The longest that one call can take."""

    def now(self) -> datetime | None:
        """Ping++'s clock by its answers of the last minutes; None while too few have a date.

        It is a second source of time beside the database's. It may only delay what ends a payment.
        """

    def latest_now(self) -> datetime | None:
        """Ping++'s clock by its last answer alone. It may be wrong, so it may only delay an end."""

    def admit(self) -> AbstractAsyncContextManager[None]:
        """Reserve a place for one flow's calls, before anything is written.

        Raises PspUnavailable while the circuit breaker is open, Overloaded while there is no free
        place. A call that is made without a place is never refused for that reason.
        """

    def check_charge(self, terms: ChargeTerms) -> Sequence[FieldViolation]:
        """Ping++'s own rules for this channel (pingpp.md section 7), field by field. No I/O."""

    def check_refund(self, channel: str, refund: Refund) -> Sequence[FieldViolation]:
        """Ping++'s own rules for a refund (pingpp.md section 3), field by field. No I/O."""

    def read_event(self, body: bytes) -> PspEvent | UnreadableEvent:
        """The event in a webhook's body (pingpp.md section 4). No signature is checked. No I/O.

        The event has no subject if Midas does not handle its type, or if its object cannot be read.
        """

    def is_same_event(self, one: bytes, other: bytes) -> bool:
        """Whether two bodies with one event id are one event, though their bytes differ. No I/O.

        The number of webhooks that are still to be sent may differ between two sends.
        """

    def can_reverse(self, channel: str) -> bool:
        """Whether an unpaid charge of this channel can be closed (pingpp.md section 9)."""

    def gives_back(self, channel: str) -> bool:
        """Whether the reversal of a paid charge gives the payment back (pingpp.md section 9)."""

    def pays_at_create(self, channel: str) -> bool:
        """Whether the create call itself takes the money (balance, bar codes). Never repeat it."""

    def repost_window(self, channel: str) -> timedelta:
        """How long identical terms give back the same charge (pingpp.md section 8). 0: never."""

    async def create_charge(
        self, charge: Charge, timeout: timedelta | None = None
    ) -> Verdict[ChargeFacts]:
        """POST the charge: `out_trade_no` as order_no, `asked_expires_at` as time_expire."""

    async def retrieve_charge(
        self, charge_id: str, timeout: timedelta | None = None
    ) -> Verdict[ChargeFacts]:
        """GET one charge with its newest refunds."""

    async def list_charges(
        self,
        created_from: datetime,
        created_to: datetime,
        channel: str | None = None,
        after: str | None = None,
        timeout: timedelta | None = None,
    ) -> Verdict[ChargePage]:
        """GET one page of at most 100 charges made in a window of Ping++'s clock, ends included.

        `after` is the id of the last charge of the page before.
        """

    async def reverse_charge(
        self, charge_id: str, timeout: timedelta | None = None
    ) -> Verdict[ChargeFacts]:
        """Close an unpaid charge. Done carries the charge; read its `reversed`."""

    async def create_refund(
        self, refund: Refund, timeout: timedelta | None = None
    ) -> Verdict[RefundFacts]:
        """POST the refund with our key in `metadata.refund_no`. Ping++ does not de-duplicate it."""

    async def retrieve_refund(
        self, charge_id: str, refund_id: str, timeout: timedelta | None = None
    ) -> Verdict[RefundFacts]:
        """GET one refund; Ping++ asks the channel."""

    async def list_refunds(
        self, charge_id: str, after: str | None = None, timeout: timedelta | None = None
    ) -> Verdict[RefundPage]:
        """GET one page of at most 100 refunds of a charge."""


class KeyKind(StrEnum):
    """The ways to name a payment."""

    ORDER_NO = "order_no"
    OUT_TRADE_NO = "out_trade_no"
    CHARGE_ID = "charge_id"
    REFUND_NO = "refund_no"
    REFUND_ID = "refund_id"


@record(frozen=True, slots=True)
class Listing:
    """Which rows a list call wants, newest first by (created_at, key).

    `after` is the (created_at, key) of the last row of the page before.
    """

    limit: int
    created_from: datetime | None = None
    created_before: datetime | None = None
    after: tuple[datetime, str] | None = None


class RowKind(StrEnum):
    """What PollPending looks at."""

    CHARGE = "CHARGE"
    REFUND = "REFUND"


@record(frozen=True, slots=True)
class ClaimedRow:
    """A charge or refund whose look was due, and that is this claimant's until `held_until`."""

    kind: RowKind
    order_no: str
    key: str
    """The out_trade_no of a charge, the refund_no of a refund."""
    due_at: datetime
    """When its look was due, before the claim."""
    held_until: datetime


@record(frozen=True, slots=True)
class DueTimes:
    """When the looks that are planned fall due. None: there are none of that kind."""

    oldest_due_at: datetime | None
    """The one that is due for the longest time."""
    next_due_at: datetime | None
    """The first one that is not due yet."""


class KeyTaken(Exception):
    """A key that must be unique belongs to another row: read that row and answer from it."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


class Store(Protocol):
    """Where orders are kept. Every method may raise StorageUnavailable within a bounded time."""

    def now(self) -> datetime:
        """The database's clock. Due times and leases are measured by no other one."""

    def new_change_id(self) -> str:
        """A new id of at most 32 characters. No two changes have the same, in any process."""

    def unread(self, order_no: str) -> Order:
        """An order without charges and with version 0, to be written without reading first.

        The commit shows whether there is one already.
        """

    async def since_possible_loss(self) -> timedelta:
        """How long ago the database may have lost its last commits; asks the database.

        A failover may lose them, and a restore does. The longest time there is, if there was none.
        """

    async def perhaps_lost(self) -> list[Order]:
        """The orders that this process committed lately and that may be lost; asks the database.

        Each order is as it was committed last. After a failover or a restore, all of them are given
        once; else those whose later commits have shown that something of them is gone.
        """

    async def load(self, order_no: str) -> Order:
        """The order as last committed; one without charges and with version 0 if there is none."""

    async def find(self, kind: KeyKind, key: str) -> Order | None:
        """The order that owns this key."""

    async def commit(self, change: Change) -> bool:
        """Write a change, all of it or nothing, durably, and only if nobody was faster.

        Calls of this process that wait for notifications learn of those that the change holds.

        True: it is on disk. False: the order no longer stands as it was read (or is there already),
        or another charge of it is open. Nothing was written then: load and decide again. Raises
        KeyTaken when a refund_no, refund_id, charge_id or out_trade_no belongs to another order's
        row, or the event_id of a new event is there already; nothing was written. Raises
        StorageUnavailable when it could not be written in time; its `may_have_written` says whether
        the commit may still have happened. A change is never written twice, even if something fails
        in between.
        """

    async def claim_due_orders(self, limit: int, hold: timedelta) -> list[str]:
        """Take orders with a charge or refund whose `due_at` has passed, earliest first.

        Only SUBMITTING rows, and PENDING charges that are superseded, are looked for. The due_at of
        those rows becomes now + `hold` in the same statement, so that of several processes one gets
        them (`FOR UPDATE SKIP LOCKED` on PostgreSQL). The order's version does not change.
        """

    async def claim_due_rows(
        self, kinds: Collection[RowKind], limit: int, hold: timedelta
    ) -> list[ClaimedRow]:
        """Take charges and refunds whose `due_at` has passed, in any state, earliest first.

        `limit` counts rows of all `kinds` together. Their due_at becomes now + `hold` in the same
        statement, so that of several processes one gets each. Nothing else of them changes, nor
        does the order's version.
        """

    async def release_rows(self, rows: Sequence[ClaimedRow]) -> None:
        """Give rows back that were not looked at: they are due again as they were before.

        A row whose due_at was moved since its claim stays as it is. So does a row that somebody
        changes at this very moment: a release waits for nobody.
        """

    async def due_times(self, kinds: Collection[RowKind]) -> DueTimes:
        """When looks are due, by the database's clock."""

    async def record_event(self, event: EventRecord) -> bool:
        """Write down an event by itself, durably; False if its event_id is there already."""

    async def event(self, event_id: str) -> EventRecord | None:
        """The event of this id."""

    async def claim_events(self, limit: int, hold: timedelta) -> list[EventRecord]:
        """Take events whose `due_at` has passed, and count an attempt of each.

        Their due_at becomes now + `hold` in the same statement, so that one process gets them.
        """

    async def lease_notifications(self, limit: int, hold: timedelta) -> list[Lease]:
        """Take orders with notifications that are due; those that were due first come first.

        Each lease has the order's first notification that is not delivered. Nobody else gets the
        order for `hold`, or until the lease is settled. Each order is as it stood at its lease, or
        later.
        """

    async def settle_notifications(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Write down what became of leases; False for each that was not held any more.

        DELIVERED: the next notification of the order is due now. RETRY: this one is due after a
        pause that grows with its attempts. REFUSED: the order is parked. A settlement whose answer
        was lost may be repeated. The second answer is False then, though the first one counted.
        """

    def notification_written(self) -> "asyncio.Future[None]":
        """A future, done once this process has written a notification or made the next one due.

        Cancel it when it is no longer needed.
        """

    async def backlog(self) -> Backlog:
        """How many notifications wait. The more of them wait, the more this costs."""

    async def list_charges(self, state: ChargeState | None, page: Listing) -> list[Order]:
        """One order for each matching charge, holding that charge alone with all its refunds.

        What cannot be read is left out, with an error line. The page is filled with later rows.
        """

    async def list_refunds(self, state: RefundState | None, page: Listing) -> list[Refund]:
        """The matching refunds. What cannot be read is left out as in `list_charges`."""

    async def journal(self, order_no: str) -> list[JournalEntry]:
        """The order's log, oldest first."""

    async def notifications(self, order_no: str) -> list[Notification]:
        """The order's messages in sequence."""

    async def check(self) -> None:
        """Ask the database whether it answers and what its schema is; readiness uses this.

        Raises SchemaRefused where a newer version of Midas has made it one that this version may
        not work on.
        """


class Clock(Protocol):
    """Waiting and durations. Tests have a clock of their own, so that they need not wait."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def monotonic(self) -> float:
        """Seconds of a clock that never steps, for durations only."""
