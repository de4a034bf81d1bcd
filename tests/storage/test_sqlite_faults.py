"""Every result code of SQLite has a meaning, before COMMIT and at COMMIT."""

import sqlite3
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from midas.storage.faults import InDoubt, NotWritten, RowsRefused, StatementRefused
from midas.storage.sqlite_faults import fault_of

W, R, O, D = NotWritten, RowsRefused, StatementRefused, InDoubt  # noqa: E741

CODES: dict[str, tuple[type, type]] = {
    "SQLITE_OK": (D, D),
    "SQLITE_ERROR": (O, O),
    "SQLITE_INTERNAL": (O, D),
    "SQLITE_PERM": (W, D),
    "SQLITE_ABORT": (W, D),
    "SQLITE_BUSY": (W, W),
    "SQLITE_LOCKED": (W, W),
    "SQLITE_NOMEM": (W, D),
    "SQLITE_READONLY": (W, D),
    "SQLITE_INTERRUPT": (W, D),
    "SQLITE_IOERR": (W, D),
    "SQLITE_CORRUPT": (O, D),
    "SQLITE_NOTFOUND": (O, D),
    "SQLITE_FULL": (W, D),
    "SQLITE_CANTOPEN": (W, D),
    "SQLITE_PROTOCOL": (W, D),
    "SQLITE_EMPTY": (W, D),
    "SQLITE_SCHEMA": (W, D),
    "SQLITE_TOOBIG": (R, D),
    "SQLITE_CONSTRAINT": (R, R),
    "SQLITE_MISMATCH": (R, D),
    "SQLITE_MISUSE": (O, D),
    "SQLITE_NOLFS": (W, D),
    "SQLITE_AUTH": (O, D),
    "SQLITE_FORMAT": (W, D),
    "SQLITE_RANGE": (O, D),
    "SQLITE_NOTADB": (W, D),
    "SQLITE_NOTICE": (D, D),
    "SQLITE_WARNING": (D, D),
    "SQLITE_ROW": (D, D),
    "SQLITE_DONE": (D, D),
}
"""Before COMMIT, and at COMMIT."""

_RESULTS = {*range(29), 100, 101}
"""The primary result codes of SQLite."""


def made(
    code: int | None, text: str = "message", kind: type[Any] = sqlite3.OperationalError
) -> Any:
    """An error as sqlite3 raises it."""
    error = kind(text)
    if code is not None:
        error.sqlite_errorcode = code
    return error


def test_every_result_code_was_decided() -> None:
    """The list above has a line for each primary result code that there is."""
    assert {getattr(sqlite3, name) for name in CODES} == _RESULTS


@pytest.mark.parametrize("name", CODES)
def test_every_code_means_what_was_decided(name: str) -> None:
    """Also in its extended forms, and under SQLAlchemy's wrapping."""
    primary, (before, at_commit) = getattr(sqlite3, name), CODES[name]
    for code in (primary, primary | 1 << 8, primary | 33 << 8):
        assert type(fault_of(made(code))) is before
        assert type(fault_of(OperationalError("UPDATE", {}, made(code)))) is before
        assert type(fault_of(made(code), committing=True)) is at_commit


def test_every_extended_code_has_a_line() -> None:
    """Every code that this Python knows by name."""
    extended = {
        name
        for name in vars(sqlite3)
        if name.startswith("SQLITE_")
        and not name.startswith("SQLITE_LIMIT_")
        and isinstance(getattr(sqlite3, name), int)
        and getattr(sqlite3, name) > 255
    }
    assert len(extended) > 60
    assert {getattr(sqlite3, name) & 0xFF for name in extended} <= _RESULTS


@pytest.mark.parametrize("kind", [sqlite3.OperationalError, sqlite3.DatabaseError, sqlite3.Error])
def test_what_nobody_thought_of_is_in_doubt(kind: type[Exception]) -> None:
    """A code without a line, and no code at all."""
    for code in (77, 77 | 5 << 8, None):
        assert type(fault_of(made(code, kind=kind))) is InDoubt
        assert type(fault_of(made(code, kind=kind), committing=True)) is InDoubt


@pytest.mark.parametrize(
    "kind", [sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError]
)
def test_a_value_that_cannot_be_handed_over_is_the_rows_fault(kind: type[Exception]) -> None:
    """Python's module raises it without a code; with a code, the code decides."""
    assert type(fault_of(made(None, kind=kind))) is RowsRefused
    assert type(fault_of(made(sqlite3.SQLITE_RANGE, kind=kind))) is StatementRefused


@pytest.mark.parametrize(
    ("text", "constraint"),
    [
        ("UNIQUE constraint failed: charges.out_trade_no", "charges_pkey"),
        ("UNIQUE constraint failed: charges.order_no", "charges_one_open"),
        ("UNIQUE constraint failed: charges.charge_id", "charges_charge_id"),
        ("UNIQUE constraint failed: refunds.refund_no", "refunds_pkey"),
        ("UNIQUE constraint failed: refunds.refund_id", "refunds_refund_id"),
        ("UNIQUE constraint failed: events.event_id", "events_pkey"),
        ("NOT NULL constraint failed: charges.order_no", "charges.order_no"),
        ("UNIQUE constraint failed: journal.order_no, journal.version", None),
        ("CHECK constraint failed: charges_amount_positive", "charges_amount_positive"),
        ("FOREIGN KEY constraint failed", ""),
    ],
)
def test_a_constraint_is_named(text: str, constraint: str | None) -> None:
    """By the name that PostgreSQL gives it, where the outcome depends on it."""
    for committing in (False, True):
        fault = fault_of(made(sqlite3.SQLITE_CONSTRAINT, text), committing=committing)
        assert isinstance(fault, RowsRefused)
        expected = "journal.order_no, journal.version" if constraint is None else constraint
        assert fault.constraint == expected
