"""Turns the domain's records into rows and back. A row is a tuple in the order of its columns.

The values are Python's own. The databases differ in moments, truth values and JSON only, so a
`Codec` is one expression per column.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import JSON, Boolean, Column, DateTime, Table

from midas.charge import Charge, ChargeState, ObservedBy
from midas.event import EventRecord, EventStanding
from midas.payment import Change, JournalEntry, Notification
from midas.refund import FundingSource, Refund, RefundState
from midas.storage import tables

Row = tuple[Any, ...]
Values = list[Any]

FIXED_CHARGE = frozenset(
    {
        *("order_no", "out_trade_no", "app_id", "livemode", "channel", "amount", "currency"),
        *("subject", "body", "client_ip", "extra", "metadata", "terms_digest", "created_at"),
    }
)
"""The columns of what was asked for. They never change, so an update does not write them."""
FIXED_REFUND = frozenset(
    {
        *("refund_no", "order_no", "out_trade_no", "charge_id", "amount", "currency", "app_id"),
        *("description", "metadata", "content_digest", "created_at", "external"),
    }
)

FIXED_EVENT = frozenset({"event_id", "order_no", "type", "received_at", "body_digest", "body"})


@dataclass(frozen=True, slots=True)
class TableWrite:
    """A write of a commit to one table: rows to insert, or to update by their key."""

    name: str
    table: Table
    columns: tuple[str, ...]
    """The columns of a row. In an update, the first one is the key by which a row is found, and the
    second one is the order_no."""
    is_update: bool = False

    @property
    def order_no(self) -> int:
        """The place of the order_no in a row."""
        return self.columns.index("order_no")


def _names(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns)


def _mutable(table: Table, fixed: frozenset[str]) -> tuple[str, ...]:
    key = next(iter(table.primary_key)).name
    return (key, "order_no", *(name for name in _names(table) if name not in fixed))


CHANGED_CHARGES = TableWrite(
    "changed_charges", tables.charges, _mutable(tables.charges, FIXED_CHARGE), is_update=True
)
CHANGED_REFUNDS = TableWrite(
    "changed_refunds", tables.refunds, _mutable(tables.refunds, FIXED_REFUND), is_update=True
)
NEW_CHARGES = TableWrite("new_charges", tables.charges, _names(tables.charges))
NEW_REFUNDS = TableWrite("new_refunds", tables.refunds, _names(tables.refunds))
JOURNAL = TableWrite("new_journal", tables.journal, _names(tables.journal))
NOTIFICATIONS = TableWrite(
    "new_notifications",
    tables.notifications,
    tuple(name for name in _names(tables.notifications) if name != "delivered_at"),
)
NEW_EVENTS = TableWrite("new_events", tables.events, _names(tables.events))
CHANGED_EVENTS = TableWrite(
    "changed_events", tables.events, _mutable(tables.events, FIXED_EVENT), is_update=True
)

TABLE_WRITES = (
    *(NEW_EVENTS, CHANGED_EVENTS, CHANGED_CHARGES, CHANGED_REFUNDS),
    *(NEW_CHARGES, NEW_REFUNDS, JOURNAL, NOTIFICATIONS),
)
"""All writes in their order: an old charge stops being open before a new one is inserted, and an
event that is recorded already refuses the batch before anything else."""


def _positions(write: TableWrite, kind: type) -> tuple[int, ...]:
    columns = write.table.columns
    return tuple(n for n, name in enumerate(write.columns) if isinstance(columns[name].type, kind))


@lru_cache(maxsize=1024)
def utc_text(moment: datetime) -> str:
    """A moment as SQLite keeps it: UTC, always 32 characters, so that text sorts by time.

    The results are cached, since a change has the same moment in several columns.
    """
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(" ", "microseconds")


_to_json = json.JSONEncoder(separators=(",", ":"), default=dict).encode


def _compact(value: Mapping[str, Any]) -> str:
    """A document as both databases take it: NUL is escaped, and so is what is not UTF-8."""
    if not value:
        return "{}"
    try:
        return orjson.dumps(value, default=dict).decode()
    except TypeError:  # halves of surrogate pairs, and numbers beyond 64 bits
        return _to_json(dict(value))


class Codec:
    """How records become values of one database."""

    def __init__(self, *, is_sqlite: bool) -> None:
        """`is_sqlite`: the database has neither moments nor truth values of its own."""
        self._is_sqlite = is_sqlite
        self._encoders = {
            write.name: _encoder(write, is_sqlite=is_sqlite) for write in TABLE_WRITES
        }

    def moment(self, value: datetime) -> datetime | str:
        """A moment as a value of this database."""
        return utc_text(value) if self._is_sqlite else value

    def add(self, rows: dict[str, list[Row]], change: Change) -> None:
        """Add the rows of a change to those of its batch, by the name of the write."""
        self._put(rows, "changed_charges", change.changed_charges)
        self._put(rows, "changed_refunds", change.changed_refunds)
        self._put(rows, "new_charges", change.new_charges)
        self._put(rows, "new_refunds", change.new_refunds)
        if change.journal:
            version = change.expected_version + 1
            encode = self._encoders["new_journal"]
            rows.setdefault("new_journal", []).extend(
                encode(each, version, n, change.change_id)
                for n, each in enumerate(change.journal, 1)
            )
        self._put(rows, "new_notifications", change.notifications)
        self._put(rows, "new_events", change.new_events)
        self._put(rows, "changed_events", change.changed_events)

    def event(self, record: EventRecord) -> Row:
        """The row of an event that concerns no order."""
        return self._encoders["new_events"](record)

    def _put(self, rows: dict[str, list[Row]], write: str, records: Sequence[Any]) -> None:
        if records:
            rows.setdefault(write, []).extend(map(self._encoders[write], records))


def _encoder(write: TableWrite, *, is_sqlite: bool) -> Callable[..., Row]:
    """Makes a record's row by one expression, which is written here column by column.

    The encoder runs for every row of every charge: a loop over the columns takes twice as long.
    """
    values = ", ".join(
        _expression(write.table.columns[name], is_sqlite=is_sqlite) for name in write.columns
    )
    source = f"lambda record, version=0, position=0, change_id='': ({values},)"
    encoder: Callable[..., Row] = eval(source, {"compact": _compact, "utc_text": utc_text})  # noqa: S307 -- made of column names alone
    return encoder


_OF_JOURNAL = {"version": "version", "position": "position", "change_id": "change_id"}
_CHOICES = frozenset({"state", "observed_by", "funding_source", "standing"})


def _expression(column: Column[Any], *, is_sqlite: bool) -> str:
    """Python for the value of one column. A moment is never false, so `and` keeps None alone."""
    name = column.name
    if column.table is tables.journal and name in _OF_JOURNAL:
        return _OF_JOURNAL[name]
    field = "record.by" if name == "by_whom" else f"record.{name}"
    if isinstance(column.type, JSON):
        return f"compact({field})"
    if is_sqlite and isinstance(column.type, DateTime):
        return f"{field} and utc_text({field})"
    if is_sqlite and isinstance(column.type, Boolean):
        return f"1 if {field} else 0"
    if is_sqlite and name in _CHOICES:
        # sqlite3 searches long for an adapter if a value is not exactly a str.
        return f"{field} and str({field})"
    return field


def storable(values: Row) -> Row:
    """The values without the characters that no database takes: NUL and lone surrogates."""
    return tuple(_clean(value) if isinstance(value, str) else value for value in values)


def _clean(value: str) -> str:
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


_CHARGE_STATES = {each.value: each for each in ChargeState}
_REFUND_STATES = {each.value: each for each in RefundState}
_OBSERVERS = {each.value: each for each in ObservedBy}
_SOURCES = {each.value: each for each in FundingSource}


class Decoder:
    """Turns rows of one table into values for records. The rows are as the driver gives them."""

    def __init__(self, write: TableWrite, *, is_sqlite: bool) -> None:
        # asyncpg decodes JSON by itself.
        self._documents = _positions(write, JSON) if is_sqlite else ()
        self._moments = _positions(write, DateTime) if is_sqlite else ()
        self._flags = _positions(write, Boolean) if is_sqlite else ()

    def values(self, row: Sequence[Any]) -> Values:
        """The row with moments, truth values and mappings in it."""
        values = list(row)
        for n in self._documents:
            values[n] = {} if values[n] == "{}" else json.loads(values[n])
        for n in self._moments:
            if values[n] is not None:
                values[n] = datetime.fromisoformat(values[n])
        for n in self._flags:
            values[n] = values[n] == 1
        return values


_STATE_OF_CHARGE = NEW_CHARGES.columns.index("state")
_OBSERVER_OF_CHARGE = NEW_CHARGES.columns.index("observed_by")
_STATE_OF_REFUND = NEW_REFUNDS.columns.index("state")
_OBSERVER_OF_REFUND = NEW_REFUNDS.columns.index("observed_by")
_SOURCE_OF_REFUND = NEW_REFUNDS.columns.index("funding_source")


def charge_of(values: Values) -> Charge:
    """The charge of a decoded row."""
    values[_STATE_OF_CHARGE] = _CHARGE_STATES[values[_STATE_OF_CHARGE]]
    observer = values[_OBSERVER_OF_CHARGE]
    values[_OBSERVER_OF_CHARGE] = None if observer is None else _OBSERVERS[observer]
    return Charge(*values)


def refund_of(values: Values) -> Refund:
    """The refund of a decoded row."""
    values[_STATE_OF_REFUND] = _REFUND_STATES[values[_STATE_OF_REFUND]]
    observer = values[_OBSERVER_OF_REFUND]
    values[_OBSERVER_OF_REFUND] = None if observer is None else _OBSERVERS[observer]
    source = values[_SOURCE_OF_REFUND]
    values[_SOURCE_OF_REFUND] = None if source is None else _SOURCES[source]
    return Refund(*values)


def journal_entry_of(values: Values) -> JournalEntry:
    """The journal entry of a decoded row."""
    return JournalEntry(values[0], *values[4:])


def notification_of(values: Values) -> Notification:
    """The notification of a decoded row."""
    return Notification(*values)


_STANDING_OF_EVENT = NEW_EVENTS.columns.index("standing")


def event_of(values: Values) -> EventRecord:
    """The event of a decoded row."""
    values[_STANDING_OF_EVENT] = EventStanding(values[_STANDING_OF_EVENT])
    return EventRecord(*values)
