"""Reading orders.

Calls share statements: what is asked while one read is under way goes together in the next one. An
order is read with one statement, so that its charges and refunds are of one moment.
"""

import asyncio
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
)

READ_KEYS = 64
"""The most keys that share one read."""
READS_WAITING = 4096
FIRST_PAUSE = timedelta(milliseconds=20)

_Result = TypeVar("_Result")


async def patiently(read: Callable[[], Awaitable[_Result]], patience: float) -> _Result:
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
        self._assembler = Assembler(plain=database.plain)
        self._sql = _BY_KEY[kind].format(keys=database.in_keys())
        self._keys_of = _KEYS_OF[kind]
        self._patience = patience
        self._waiting: list[tuple[str, asyncio.Future[Order | None]]] = []
        self._reader: asyncio.Task[None] | None = None

    async def get(self, key: str) -> Order | None:
        """The order that has this key, as committed at or after the moment of the call."""
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
            rows = await patiently(
                lambda: self._database.fetch(self._sql, (wanted,)), self._patience
            )
        except StorageUnavailable as error:
            for _, answer in taken:
                if not answer.done():
                    answer.set_exception(type(error)())
            return
        found = {
            key: order for order in self._assembler.orders(rows) for key in self._keys_of(order)
        }
        for key, answer in taken:
            if not answer.done():
                answer.set_result(found.get(key))


_C = ", ".join(f"c.{name}" for name in NEW_CHARGES.columns)
_R = ", ".join(f"r.{name}" for name in NEW_REFUNDS.columns)

ORDER_ROWS = f"o.order_no, o.version, o.last_sequence, {_C}, {_R}"
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
_KEYS_OF: dict[KeyKind, Callable[[Order], Sequence[str | None]]] = {
    KeyKind.ORDER_NO: lambda order: (order.order_no,),
    KeyKind.OUT_TRADE_NO: lambda order: [each.out_trade_no for each in order.charges],
    KeyKind.CHARGE_ID: lambda order: [each.charge_id for each in order.charges],
    KeyKind.REFUND_NO: lambda order: [each.refund_no for each in order.refunds],
    KeyKind.REFUND_ID: lambda order: [each.refund_id for each in order.refunds],
}

_CHARGE_AT = 3
_REFUND_AT = _CHARGE_AT + len(NEW_CHARGES.columns)


class Assembler:
    """Orders out of rows that hold an order, one of its charges and one of that one's refunds."""

    def __init__(self, *, plain: bool) -> None:
        self._charge_values = Decoder(NEW_CHARGES, plain=plain).values
        self._refund_values = Decoder(NEW_REFUNDS, plain=plain).values

    def orders(self, rows: Sequence[Row]) -> list[Order]:
        """Each order of the rows, in the order in which they come."""
        heads: dict[Any, Row] = {}
        charges: dict[Any, dict[str, Charge]] = {}
        refunds: dict[Any, list[Refund]] = {}
        for row in rows:
            key = row[0]
            if key not in heads:
                heads[key], charges[key], refunds[key] = row, {}, []
            out_trade_no = row[_CHARGE_AT]
            if out_trade_no is not None and out_trade_no not in charges[key]:
                values = self._charge_values(row[_CHARGE_AT:_REFUND_AT])
                charges[key][out_trade_no] = charge_of(values)
            if row[_REFUND_AT] is not None:
                refunds[key].append(self.refund(row[_REFUND_AT:]))
        return [
            Order(
                row[0],
                row[1],
                row[2],
                charges_by_age(charges[key].values()),
                refunds_by_age(refunds[key]),
            )
            for key, row in heads.items()
        ]

    def listed(self, rows: Sequence[Row]) -> list[Order]:
        """One order for each charge of the rows, holding that charge alone with its refunds."""
        by_charge: dict[str, list[Row]] = {}
        for row in rows:
            by_charge.setdefault(row[_CHARGE_AT], []).append(row)
        return [self.orders(each)[0] for each in by_charge.values()]

    def refund(self, row: Sequence[Any]) -> Refund:
        """The refund of a row of the table."""
        return refund_of(self._refund_values(row))
