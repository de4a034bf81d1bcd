"""A PostgreSQL database with very many orders in it, made by one statement for each table."""

from sqlalchemy import Boolean, Column, DateTime, Integer, LargeBinary, Table
from sqlalchemy.types import JSON

from midas.storage.tables import charges, events, journal, notifications, orders, refunds
from tests.postgres import PostgresServer

ROWS = 200_000
OLDEST = "timestamptz '2030-01-01'"
"""Two rows are half a minute apart."""


def number(prefix: str, n: str = "n") -> str:
    """SQL of the key of row n, as `key` has it in Python."""
    return f"'{prefix}' || lpad({n}::text, 8, '0')"


def key(prefix: str, n: int) -> str:
    """The key of row n of a table: o, n, ch_, r, re_ or evt_."""
    return f"{prefix}{n:08}"


_CREATED = f"{OLDEST} + n * interval '30 s'"
_OVERDUE = "timestamptz '2020-01-01' + n * interval '1 s'"
_DUE_AT = f"""CASE WHEN n % 20000 IN (7, 11) THEN {_OVERDUE}
    WHEN n % 50 = 5 THEN timestamptz '2130-01-01' + n * interval '1 s' END"""
"""Few looks are due, and many are planned for later."""
_CHARGE_STATE = f"""CASE WHEN n % 40000 = 7 THEN 'PENDING' WHEN n % 20000 = 11 THEN 'SUBMITTING'
    WHEN n < {ROWS // 100} THEN 'REVERSED' WHEN n % 10 = 3 THEN 'CLOSED'
    WHEN n % 100 = 4 THEN 'FAILED' ELSE 'SUCCEEDED' END"""
"""Some are rare, some are old, most are paid."""
_REFUND_STATE = f"""CASE WHEN n % 40000 = 7 THEN 'PENDING' WHEN n % 20000 = 11 THEN 'SUBMITTING'
    WHEN n < {ROWS // 100} THEN 'FAILED' ELSE 'SUCCEEDED' END"""

_VALUES = {
    "orders": {
        "order_no": number("o"),
        "version": "1",
        "last_sequence": "1",
        "last_change": number("c"),
        "delivered_sequence": "CASE WHEN n % 4000 = 1 THEN 0 ELSE 1 END",
        "parked_code": "CASE WHEN n % 20000 = 1 THEN 'UNNAMED' ELSE '' END",
        "announce_at": _OVERDUE,
    },
    "charges": {
        "out_trade_no": number("n"),
        "order_no": number("o"),
        "amount": "100",
        "charge_id": number("ch_"),
        "state": _CHARGE_STATE,
        "created_at": _CREATED,
        "due_at": _DUE_AT,
    },
    "refunds": {
        "refund_no": number("r"),
        "order_no": number("o"),
        "out_trade_no": number("n"),
        "amount": "10",
        "refund_id": number("re_"),
        "state": _REFUND_STATE,
        "created_at": _CREATED,
        "due_at": _DUE_AT,
    },
    "journal": {"order_no": number("o"), "version": "1", "position": "1", "change_id": number("c")},
    "notifications": {"order_no": number("o"), "sequence": "1", "out_trade_no": number("n")},
    "events": {
        "event_id": number("evt_"),
        "order_no": number("o"),
        "standing": "CASE WHEN n % 8000 = 3 THEN 'WAITING' ELSE 'APPLIED' END",
        "due_at": f"CASE WHEN n % 8000 = 3 THEN {_OVERDUE} END",
    },
}


def fill(server: PostgresServer, database: str) -> None:
    """Put the rows in: nothing is logged, keys are taken on trust, no statistics are made."""
    tables = (orders, charges, refunds, journal, notifications, events)
    for table in (refunds, charges, orders, journal, notifications, events):
        server.sql(f"ALTER TABLE {table.name} SET UNLOGGED", database)
    for table in tables:
        insert = _insert(table, _VALUES[table.name])
        server.sql(f"SET session_replication_role = replica; {insert}", database)


def _insert(table: Table, values: dict[str, str]) -> str:
    """A column that is not named gets its default, or else something of its type."""
    names = [each.name for each in table.columns if each.name in values or _is_needed(each)]
    selected = ", ".join(values.get(name) or _anything(table.columns[name]) for name in names)
    return (
        f"INSERT INTO {table.name} ({', '.join(names)})"  # noqa: S608
        f" SELECT {selected} FROM generate_series(1, {ROWS}) n"
    )


def _is_needed(column: "Column[object]") -> bool:
    return not column.nullable and column.server_default is None


_ANYTHING = (
    *((Boolean, "false"), (Integer, "0"), (JSON, "'{}'"), (LargeBinary, "''")),
    (DateTime, _CREATED),
)


def _anything(column: "Column[object]") -> str:
    return next((sql for kind, sql in _ANYTHING if isinstance(column.type, kind)), "'x'")
