"""Reads orders.

Calls share statements: reads that come while one is under way go together in the next one. An order
is read with one statement, so that its charges and refunds are of one moment.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from midas.charge import Charge
from midas.errors import Overloaded, StorageUnavailable
from midas.payment import Order, charges_by_age, refunds_by_age
from midas.ports import KeyKind
from midas.refund import Refund
from midas.storage.database import Database
from midas.storage.faults import StorageFault
from midas.storage.rows import (
    NEW_CHARGES,
    NEW_REFUNDS,
    Decoder,
    Row,
    charge_of,
    refund_of,
    storable,
)

_log = logging.getLogger(__name__)

READ_KEYS = 64
"""The most keys that share one read."""
READS_WAITING = 4096
FIRST_PAUSE = timedelta(milliseconds=20)

_Result = TypeVar("_Result")


async def with_retries(read: Callable[[], Awaitable[_Result]], patience: float) -> _Result:
    """Read, again and again while the database cannot be asked. Raises StorageUnavailable."""
    deadline = time.monotonic() + patience
    pause = FIRST_PAUSE.total_seconds()
    while (left := deadline - time.monotonic()) > 0:
        with suppress(StorageFault, TimeoutError):
            async with asyncio.timeout(left):
                return await read()
        await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause *= 2
    raise StorageUnavailable


class Orders:
    """Reads whole orders by one kind of key."""

    def __init__(self, database: Database, kind: KeyKind, patience: float) -> None:
        self._database = database
        self._assembler = Assembler(database)
        self._sql = _BY_KEY[kind].format(keys=database.in_keys())
        self._key_at = _KEY_AT[kind]
        self._patience = patience
        self._waiting: list[tuple[str, asyncio.Future[Order | None]]] = []
        self._reader: asyncio.Task[None] | None = None

    async def get(self, key: str) -> Order | None:
        """The order that has this key, as committed at or after the moment of the call."""
        if storable((key,)) != (key,):
            return None  # no database takes it; PostgreSQL would refuse all keys of the same read
        if len(self._waiting) >= READS_WAITING:
            raise Overloaded
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Order | None] = loop.create_future()
        self._waiting.append((key, answer))
        if self._reader is None:
            self._reader = loop.create_task(self._read_all(), name="midas-reads")
        return await answer

    async def _read_all(self) -> None:
        taken: list[tuple[str, asyncio.Future[Order | None]]] = []
        try:
            while True:
                await asyncio.sleep(0)
                taken, self._waiting = self._waiting[:READ_KEYS], self._waiting[READ_KEYS:]
                if not taken:
                    return
                await self._answer(taken)
        finally:
            self._reader = None
            for _, answer in (*taken, *self._waiting):
                if not answer.done():
                    answer.set_exception(StorageUnavailable())
            self._waiting.clear()

    async def _answer(self, taken: list[tuple[str, "asyncio.Future[Order | None]"]]) -> None:
        wanted = self._database.keys(list({key for key, _ in taken}))
        try:
            rows = await with_retries(
                lambda: self._database.fetch(self._sql, (wanted,)), self._patience
            )
        except StorageUnavailable as error:
            for _, answer in taken:
                if not answer.done():
                    answer.set_exception(type(error)())
            return
        found = self._assembled(rows)
        for key, answer in taken:
            if answer.done():
                continue
            if key in found and found[key] is None:
                answer.set_exception(StorageUnavailable())
            else:
                answer.set_result(found.get(key))

    def _assembled(self, rows: Sequence[Row]) -> dict[str | None, Order | None]:
        """The orders by their keys; None for one that cannot be read.

        A newer Midas, or a person, has written that one. The others are read.
        """
        found: dict[str | None, Order | None] = {}
        for each in grouped(rows, 0):
            order = None
            try:
                order = self._assembler.order(each)
            except (ValueError, KeyError, TypeError) as error:
                fields = {"order_no": each[0][0], "error": type(error).__name__}
                _log.error("order_unreadable", extra=fields)
            found |= dict.fromkeys([row[self._key_at] for row in each], order)
        return found


def grouped(rows: Sequence[Row], place: int) -> list[list[Row]]:
    """The rows that have the same value in this place, in the order in which they come."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[place], []).append(row)
    return list(groups.values())


_C = ", ".join(f"c.{name}" for name in NEW_CHARGES.columns)
_R = ", ".join(f"r.{name}" for name in NEW_REFUNDS.columns)

ORDER_ROWS = f"o.order_no, o.version, o.last_sequence, o.last_change, {_C}, {_R}"
_ORDERS = (
    f"SELECT {ORDER_ROWS} FROM orders o LEFT JOIN charges c ON c.order_no = o.order_no"  # noqa: S608
    " LEFT JOIN refunds r ON r.out_trade_no = c.out_trade_no WHERE o.order_no"
)
_OWNER = _ORDERS + " IN (SELECT order_no FROM {table} WHERE {column}{{keys}})"  # noqa: S608

_BY_KEY = {
    KeyKind.ORDER_NO: _ORDERS + "{keys}",
    KeyKind.OUT_TRADE_NO: _OWNER.format(table="charges", column="out_trade_no"),
    KeyKind.CHARGE_ID: _OWNER.format(table="charges", column="charge_id"),
    KeyKind.REFUND_NO: _OWNER.format(table="refunds", column="refund_no"),
    KeyKind.REFUND_ID: _OWNER.format(table="refunds", column="refund_id"),
}

_CHARGE_AT = 4
_REFUND_AT = _CHARGE_AT + len(NEW_CHARGES.columns)


def in_order_rows(table: str, column: str) -> int:
    """Where in `ORDER_ROWS` a column of `charges` or `refunds` is."""
    if table == "charges":
        return _CHARGE_AT + NEW_CHARGES.columns.index(column)
    return _REFUND_AT + NEW_REFUNDS.columns.index(column)


_KEY_AT = {
    KeyKind.ORDER_NO: 0,
    KeyKind.OUT_TRADE_NO: in_order_rows("charges", "out_trade_no"),
    KeyKind.CHARGE_ID: in_order_rows("charges", "charge_id"),
    KeyKind.REFUND_NO: in_order_rows("refunds", "refund_no"),
    KeyKind.REFUND_ID: in_order_rows("refunds", "refund_id"),
}


class Assembler:
    """Builds orders from rows: each holds an order, one of its charges and one of its refunds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._charge_values = Decoder(NEW_CHARGES, is_sqlite=database.is_sqlite).values
        self._refund_values = Decoder(NEW_REFUNDS, is_sqlite=database.is_sqlite).values

    def order(self, rows: Sequence[Row]) -> Order:
        """The order of these rows. Raises ValueError, KeyError or TypeError for strange values."""
        charges: dict[str, Charge] = {}
        refunds: list[Refund] = []
        for row in rows:
            out_trade_no = row[_CHARGE_AT]
            if out_trade_no is not None and out_trade_no not in charges:
                values = self._charge_values(row[_CHARGE_AT:_REFUND_AT])
                charges[out_trade_no] = charge_of(values)
            if row[_REFUND_AT] is not None:
                refunds.append(self.refund(row[_REFUND_AT:]))
        order_no, version, last_sequence, last_change = rows[0][:_CHARGE_AT]
        return Order(
            order_no,
            version,
            last_sequence,
            charges_by_age(charges.values()),
            refunds_by_age(refunds),
            last_change,
            self._database.sequence_floor,
        )

    def refund(self, row: Sequence[Any]) -> Refund:
        """The refund of a row of the table."""
        return refund_of(self._refund_values(row))
