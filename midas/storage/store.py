"""`midas.ports.Store` on SQLite or PostgreSQL."""

import asyncio
import itertools
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Self, TypeVar
from uuid import uuid4

from sqlalchemy import URL

from midas import limits
from midas.charge import ChargeState
from midas.errors import SettingsError, StorageUnavailable
from midas.event import EventRecord
from midas.lease import Backlog, DeliveryOutcome, Lease, Settlement
from midas.payment import Change, JournalEntry, Notification, Order
from midas.ports import ClaimedRow, DueTimes, KeyKind, Listing, RowKind
from midas.refund import Refund, RefundState
from midas.storage.commits import Commits
from midas.storage.database import Database, Settling
from midas.storage.engine import is_sqlite, parse, postgres_engine, sqlite_engine
from midas.storage.faults import StorageFault
from midas.storage.migrate import check_sqlite, migrate_sqlite
from midas.storage.pages import page_of
from midas.storage.postgres import PostgresDatabase
from midas.storage.readable import readable, readable_page
from midas.storage.reads import (
    ORDER_ROWS,
    Assembler,
    Orders,
    grouped,
    in_order_rows,
    with_retries,
)
from midas.storage.recent import CommittedOrders, RecentOrders
from midas.storage.replication import ReplicationWatch
from midas.storage.rows import (
    JOURNAL,
    NEW_EVENTS,
    NEW_REFUNDS,
    NOTIFICATIONS,
    Decoder,
    Row,
    event_of,
    journal_entry_of,
    notification_of,
)
from midas.storage.schema import DatabaseSchema, schema_by
from midas.storage.sqlite import SqliteDatabase
from midas.storage.tables import PARKED, UNDELIVERED, next_sequence
from midas.storage.unreachable import unreachable

_Result = TypeVar("_Result")
_Raw = TypeVar("_Raw")

_log = logging.getLogger(__name__)

CHECK_TIMEOUT = timedelta(seconds=2)
ONCE_TIMEOUT = timedelta(seconds=15)
"""The longest time of work that is not repeated. It is longer than PostgreSQL's statement timeout
and than SQLite's wait for its lock."""
BACKLOG_COUNTED = 100_000
"""The most orders that `backlog` reads: so many take about a third of a second."""


class SqlStore:
    """The store of one process. Open it with `open_store`, and close it."""

    def __init__(self, database: Database, patience: timedelta = limits.COMMIT_PATIENCE) -> None:
        is_sqlite = database.is_sqlite
        self._database = database
        self._patience = patience.total_seconds()
        self._commits = Commits(database, patience)
        self._recent = RecentOrders()
        self._committed = CommittedOrders(database.sequence_floor)
        self._orders = {kind: Orders(database, kind, self._patience) for kind in KeyKind}
        self._assembler = Assembler(database)
        self._journal = Decoder(JOURNAL, is_sqlite=is_sqlite)
        self._notifications = Decoder(NOTIFICATIONS, is_sqlite=is_sqlite)
        self._events = Decoder(NEW_EVENTS, is_sqlite=is_sqlite)
        self._wakes: set[asyncio.Future[None]] = set()
        self._name = uuid4().hex[:20]
        self._count = itertools.count(1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def background(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """The tasks that run beside the calls: each works until cancelled."""
        if self._database.is_sqlite:
            return ()
        return (ReplicationWatch(self._database.fetch).run,)

    async def close(self) -> None:
        """Write what is waiting, then give back all connections."""
        await self._commits.close()
        await self._database.close()

    def now(self) -> datetime:
        """See `Store`."""
        return self._database.now()

    def new_change_id(self) -> str:
        """See `Store`. This store's name and a count are cheaper than a new random number."""
        return f"{self._name}{next(self._count):012x}"

    def unread(self, order_no: str) -> Order:
        """See `Store`."""
        return Order(order_no, sequence_floor=self._database.sequence_floor)

    async def since_possible_loss(self) -> timedelta:
        """See `Store`."""
        return await with_retries(self._database.since_possible_loss, self._patience)

    async def perhaps_lost(self) -> list[Order]:
        """See `Store`. Commits can be gone only if the floor of the sequences was raised."""
        await with_retries(self._database.learn_floor, self._patience)
        return self._committed.perhaps_lost(self._database.sequence_floor)

    async def load(self, order_no: str) -> Order:
        """See `Store`."""
        return await self._orders[KeyKind.ORDER_NO].get(order_no) or self.unread(order_no)

    async def find(self, kind: KeyKind, key: str) -> Order | None:
        """See `Store`."""
        return await self._orders[kind].get(key)

    async def commit(self, change: Change) -> bool:
        """See `Store`."""
        written = await self._commits.commit(change)
        if written:
            self._committed.remember(change.after, change.expected_change)
        if written and change.notifications:
            self._recent.remember(change.after)
            self._wake()
        return written

    async def claim_due_orders(self, limit: int, hold: timedelta) -> list[str]:
        """See `Store`.

        A claim whose answer is lost is not repeated: its orders come up again after the hold.
        """
        return await self._without_retry(self._database.claim(limit, hold))

    async def record_event(self, event: EventRecord) -> bool:
        """See `Store`."""
        row = self._database.codec.event(event)
        return await with_retries(lambda: self._database.add_event(row), self._patience)

    async def event(self, event_id: str) -> EventRecord | None:
        """See `Store`."""
        sql = f"SELECT {_EVENT} FROM events WHERE event_id = {self._database.parameter(1)}"  # noqa: S608
        rows = await self._fetch(sql, (event_id,))
        found = readable(rows, self._event, _event_id)
        if rows and not found:
            raise StorageUnavailable
        return found[0] if found else None

    async def claim_events(self, limit: int, hold: timedelta) -> list[EventRecord]:
        """See `Store`. A claim whose answer is lost is not repeated: see `claim_due_orders`."""
        rows = await self._without_retry(self._database.claim_events(limit, hold))
        return readable(rows, self._event, _event_id)

    async def lease_notifications(self, limit: int, hold: timedelta) -> list[Lease]:
        """See `Store`. A lease whose answer is lost comes up again after the hold."""
        token = uuid4().hex
        rows = _with_notification(
            await self._without_retry(self._database.lease(limit, hold, token))
        )
        orders = [self._recent.take(row[_LEASED_ORDER], row[1]) for row in rows]
        if None in orders:
            orders = await self._read_missing(rows, orders)

        def lease(row: Row, order: Order) -> Lease:
            notification = notification_of(self._notifications.values(row[_LEASED_NOTIFICATION:]))
            return Lease(token, row[0], notification, order)

        found = [(row, each) for row, each in zip(rows, orders, strict=True) if each is not None]
        return readable(
            found, lambda each: lease(*each), lambda each: {"order_no": each[0][_LEASED_ORDER]}
        )

    async def _read_missing(
        self, rows: Sequence[Row], orders: list[Order | None]
    ) -> list[Order | None]:
        """The orders; those that are not known are read.

        The lease of an order that cannot be read runs out, and the order comes up again then.
        Raises StorageUnavailable or Overloaded if there is no order at all.
        """
        missing = [n for n, order in enumerate(orders) if order is None]
        found = await asyncio.gather(
            *(self.load(rows[n][_LEASED_ORDER]) for n in missing), return_exceptions=True
        )
        failed: BaseException | None = None
        for n, order in zip(missing, found, strict=True):
            if isinstance(order, Order):
                orders[n] = order
            else:
                failed = order
                fields = {"order_no": rows[n][_LEASED_ORDER], "reason": type(order).__name__}
                _log.error("notification_not_told", extra=fields)
        if failed is not None and not any(orders):
            raise failed
        return orders

    async def settle_notifications(self, settlements: Sequence[Settlement]) -> list[bool]:
        """See `Store`."""
        applied = [False] * len(settlements)
        for places in _rounds(settlements):
            wanted = [_settling(settlements[n]) for n in places]
            settled = await self._without_retry(self._database.settle(wanted))
            for n in places:
                applied[n] = settlements[n].order_no in settled
        delivered = DeliveryOutcome.DELIVERED
        if any(
            n and each.outcome is delivered for n, each in zip(applied, settlements, strict=True)
        ):
            self._wake()
        return applied

    def notification_written(self) -> "asyncio.Future[None]":
        """See `Store`."""
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wakes.add(wake)
        wake.add_done_callback(self._wakes.discard)
        return wake

    async def backlog(self) -> Backlog:
        """See `Store`."""
        (oldest, parked) = (await self._fetch(_BACKLOG))[0]
        if isinstance(oldest, str):
            oldest = datetime.fromisoformat(oldest)
        return Backlog(oldest, parked)

    async def claim_due_rows(
        self, kinds: Collection[RowKind], limit: int, hold: timedelta
    ) -> list[ClaimedRow]:
        """See `Store`. A claim whose answer is lost is not repeated: see `claim_due_orders`."""
        tables = [table for kind, table in _DUE_TABLES.items() if kind in kinds]
        if not tables:
            return []
        rows = await self._without_retry(self._database.claim_rows(tables, limit, hold))
        claimed = [
            ClaimedRow(_DUE_KINDS[table], order_no, key, *map(_moment, moments))
            for table, order_no, key, *moments in rows
        ]
        return sorted(claimed, key=lambda each: each.due_at)

    async def release_rows(self, rows: Sequence[ClaimedRow]) -> None:
        """See `Store`. A release that fails is not repeated: the rows come up after their hold."""
        for kind, table in _DUE_TABLES.items():
            released = [
                (each.key, each.due_at, each.held_until) for each in rows if each.kind is kind
            ]
            if released:
                await self._without_retry(self._database.release_rows(table, released))

    async def due_times(self, kinds: Collection[RowKind]) -> DueTimes:
        """See `Store`."""
        is_sqlite = self._database.is_sqlite
        parameters = (self._database.codec.moment(self.now()),) * 2 if is_sqlite else ()
        times: list[Row] = []
        for kind in kinds:
            sql = _DUE_TIMES.format(table=_DUE_TABLES[kind], now="?" if is_sqlite else "now()")
            times += await self._fetch(sql, parameters)
        oldest = [_moment(row[0]) for row in times if row[0]]
        coming = [_moment(row[1]) for row in times if row[1]]
        return DueTimes(min(oldest, default=None), min(coming, default=None))

    async def _without_retry(self, work: Awaitable[_Result]) -> _Result:
        """Do the work once, in bounded time: a dead connection may raise no error.

        Raises StorageUnavailable; the work may have been done.
        """
        try:
            async with asyncio.timeout(ONCE_TIMEOUT.total_seconds()):
                return await work
        except (StorageFault, TimeoutError) as fault:
            raise StorageUnavailable from fault

    def _wake(self) -> None:
        for wake in tuple(self._wakes):
            if not wake.done():
                wake.set_result(None)

    def _event(self, row: Row) -> EventRecord:
        return event_of(self._events.values(row))

    async def list_charges(self, state: ChargeState | None, page: Listing) -> list[Order]:
        """See `Store`."""

        async def fetch(page: Listing) -> list[list[Row]]:
            wanted, parameters = page_of(self._database, "charges", "out_trade_no", state, page)
            sql = (
                f"SELECT {ORDER_ROWS} FROM ({wanted}) c JOIN orders o ON o.order_no = c.order_no"  # noqa: S608
                " LEFT JOIN refunds r ON r.out_trade_no = c.out_trade_no"
                " ORDER BY c.created_at DESC, c.out_trade_no DESC"
            )
            return grouped(await self._fetch(sql, parameters), _LISTED[1])

        def place(rows: Sequence[Row]) -> tuple[datetime | str, str]:
            return rows[0][_LISTED[0]], rows[0][_LISTED[1]]

        return await readable_page(page, fetch, self._assembler.order, "out_trade_no", place)

    async def list_refunds(self, state: RefundState | None, page: Listing) -> list[Refund]:
        """See `Store`."""
        columns = NEW_REFUNDS.columns

        async def fetch(page: Listing) -> Sequence[Row]:
            wanted, parameters = page_of(self._database, "refunds", "refund_no", state, page)
            sql = f"SELECT {', '.join(columns)} FROM ({wanted}) r"  # noqa: S608
            return await self._fetch(sql, parameters)

        def place(row: Row) -> tuple[datetime | str, str]:
            return row[columns.index("created_at")], row[columns.index("refund_no")]

        return await readable_page(page, fetch, self._assembler.refund, "refund_no", place)

    async def journal(self, order_no: str) -> list[JournalEntry]:
        """See `Store`."""
        rows = await self._of_order(JOURNAL.columns, "journal", "version, position", order_no)
        return [journal_entry_of(self._journal.values(row)) for row in rows]

    async def notifications(self, order_no: str) -> list[Notification]:
        """See `Store`."""
        rows = await self._of_order(NOTIFICATIONS.columns, "notifications", "sequence", order_no)
        return [notification_of(self._notifications.values(row)) for row in rows]

    async def check(self) -> None:
        """See `Store`. Each of its statements, one or two, fails within two seconds."""
        schema = await schema_by(partial(self._fetch, patience=CHECK_TIMEOUT.total_seconds()))
        if not schema.fits:
            raise schema.refusal()

    async def _fetch(
        self, sql: str, parameters: tuple[Any, ...] = (), patience: float | None = None
    ) -> Sequence[Row]:
        bound = self._patience if patience is None else patience
        return await with_retries(lambda: self._database.fetch(sql, parameters), bound)

    async def _of_order(
        self, columns: Sequence[str], table: str, age: str, order_no: str
    ) -> Sequence[Row]:
        of_order = f"order_no = {self._database.parameter(1)}"
        return await self._fetch(
            f"SELECT {', '.join(columns)} FROM {table} WHERE {of_order} ORDER BY {age}",  # noqa: S608
            (order_no,),
        )


_DUE_TABLES = {RowKind.CHARGE: "charges", RowKind.REFUND: "refunds"}
_DUE_KINDS = {table: kind for kind, table in _DUE_TABLES.items()}
_DUE_TIMES = (
    "SELECT (SELECT min(due_at) FROM {table} WHERE due_at <= {now}),"
    " (SELECT min(due_at) FROM {table} WHERE due_at > {now})"
)


def _moment(stored: datetime | str) -> datetime:
    return datetime.fromisoformat(stored) if isinstance(stored, str) else stored


def _with_notification(leased: Sequence[Row]) -> list[Row]:
    """The leased orders that have a notification to deliver.

    The others have an undelivered sequence and no notification: rows were changed by hand, or a
    file is damaged. These orders come up again with each lease, and an operator has to look.
    """
    found: list[Row] = []
    for row in leased:
        if row[_LEASED_NOTIFICATION] is None:
            _log.error("nothing_to_tell_of_a_due_order", extra={"order_no": row[_LEASED_ORDER]})
        else:
            found.append(row)
    return found


_LISTED = in_order_rows("charges", "created_at"), in_order_rows("charges", "out_trade_no")


def _event_id(row: Row) -> dict[str, object]:
    return {"event_id": row[NEW_EVENTS.columns.index("event_id")]}


_LEASED_ORDER, _LEASED_NOTIFICATION = 2, 3
_EVENT = ", ".join(NEW_EVENTS.columns)
_BACKLOG = (
    "SELECT (SELECT min(n.occurred_at) FROM (SELECT order_no, delivered_sequence FROM orders"  # noqa: S608
    f" WHERE {UNDELIVERED} ORDER BY announce_at LIMIT {BACKLOG_COUNTED}) o JOIN notifications n"
    f" ON n.order_no = o.order_no AND n.sequence = {next_sequence('o')}),"
    f" (SELECT count(*) FROM orders WHERE {PARKED})"
)


def _rounds(settlements: Sequence[Settlement]) -> list[list[int]]:
    """The settlements' places in rounds: several of one order are written one after the other."""
    rounds: list[list[int]] = []
    rounds_of: Counter[str] = Counter()
    for place, each in enumerate(settlements):
        if not each.token:
            continue  # an order that nobody holds has an empty token, too
        number = rounds_of[each.order_no]
        rounds_of[each.order_no] += 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(place)
    return rounds


def _settling(each: Settlement) -> Settling:
    return each.order_no, each.token, each.sequence, str(each.outcome), each.code, _jitter()


def _jitter() -> float:
    """The jitter cuts a pause by up to half, so that orders do not all come up again at once."""
    return random.uniform(0.5, 1.0)  # noqa: S311


async def open_store(url: str, patience: timedelta = limits.COMMIT_PATIENCE) -> SqlStore:
    """The store that DATABASE_URL names, ready for use.

    SQLite is brought to this Midas's schema. Raises SettingsError when the URL, the file, the
    server or its schema is not as it must be; its sentence names what to do.
    """
    parsed = parse(url)
    if is_sqlite(parsed):
        migrate_sqlite(parsed)
    database = _database(parsed)
    try:
        if isinstance(database, PostgresDatabase):
            await _check_postgres(database, parsed)
        await _learn_floor(database, parsed)
    except BaseException:
        await database.close()
        raise
    return SqlStore(database, patience)


async def check_store(url: str) -> None:
    """Raise the SettingsError that `open_store` would, and change nothing."""
    parsed = parse(url)
    if is_sqlite(parsed):
        check_sqlite(parsed)
        return
    database = PostgresDatabase(postgres_engine(parsed))
    try:
        await _check_postgres(database, parsed)
    finally:
        await database.close()


async def raise_sequence_floor(url: str) -> int:
    """Number notifications above all that was ever used: the database was restored from a copy.

    `midas migrate --restored` does it. Returns the new floor. Raises SettingsError.
    """
    parsed = parse(url)
    database = _database(parsed)
    try:
        return await database.raise_floor()
    except StorageFault as fault:
        raise SettingsError(unreachable(fault.__cause__ or fault, parsed)) from fault
    finally:
        await database.close()


def _database(url: URL) -> SqliteDatabase | PostgresDatabase:
    if is_sqlite(url):
        return SqliteDatabase(sqlite_engine(url))
    return PostgresDatabase(postgres_engine(url))


async def _learn_floor(database: Database, url: URL) -> None:
    try:
        await database.learn_floor()
    except StorageFault as fault:
        raise SettingsError(unreachable(fault.__cause__ or fault, url)) from fault


async def _check_postgres(database: PostgresDatabase, url: URL) -> None:
    try:
        await database.ping()
        exists = await database.fetch("SELECT to_regclass('alembic_version') IS NOT NULL")
        schema = await schema_by(database.fetch) if exists[0][0] else DatabaseSchema()
    except StorageFault as fault:
        raise SettingsError(unreachable(fault.__cause__ or fault, url)) from fault
    except (TypeError, ValueError) as error:
        raise SettingsError(unreachable(error, url)) from error
    if not schema.fits:
        raise schema.refusal()
