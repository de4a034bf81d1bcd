"""What SQLite's errors mean for a write: every result code by a table.

A write is a transaction that Midas begins and commits itself. If it fails before its COMMIT,
certainly nothing was written. COMMIT is another matter: once its pages are in the log they are
valid, even if the device fails at the very next step.
"""

import sqlite3

from sqlalchemy.exc import DBAPIError

from midas.storage.faults import InDoubt, NotWritten, RowsRefused, StatementRefused, StorageFault

NOT_WRITTEN = frozenset(
    {
        # Another process holds the file, or something ended the statement.
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL),
        *(sqlite3.SQLITE_ABORT, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_SCHEMA),
        # The file, its folder or its disk cannot be used as it is.
        *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN),
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM),
        *(sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_EMPTY, sqlite3.SQLITE_FORMAT),
    }
)
"""The codes with the file or the machine as the reason: the same may succeed soon."""

ROWS_REFUSED = frozenset(
    {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH}
)
"""The codes with a constraint or a value as the reason."""

STATEMENT_REFUSED = frozenset(
    {
        # "SQL logic error": among others, a table or column that is not there.
        *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_RANGE),
        *(sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_NOTFOUND),
        # Most likely only the pages of these rows are damaged.
        *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_INTERNAL),
    }
)
"""The codes with the statement itself as the reason."""

SAME_AT_COMMIT = frozenset(
    {
        # SQLite refuses before it writes the first page.
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CONSTRAINT),
        # There was no transaction any more.
        sqlite3.SQLITE_ERROR,
    }
)
"""The codes that mean the same at COMMIT as before it."""


def fault_of(error: DBAPIError | sqlite3.Error, *, committing: bool = False) -> StorageFault:
    """What SQLite's error means for a write; `committing`: COMMIT raised it."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = _code(cause)
    text = str(cause)
    if committing and code not in SAME_AT_COMMIT:
        return InDoubt(text)
    if code in ROWS_REFUSED or (not code and isinstance(cause, _BAD_VALUES)):
        return RowsRefused(text, _constraint(text))
    if code in NOT_WRITTEN:
        return NotWritten(text)
    return StatementRefused(text) if code in STATEMENT_REFUSED else InDoubt(text)


_BAD_VALUES = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)
"""The errors that Python's module raises by itself for values that SQLite cannot take."""


def _code(error: BaseException | None) -> int:
    """The primary result code; the extended ones have it in their low byte. 0: SQLite gave none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


_CONSTRAINTS = {
    "charges.out_trade_no": "charges_pkey",
    "charges.order_no": "charges_one_open",
    "charges.charge_id": "charges_charge_id",
    "refunds.refund_no": "refunds_pkey",
    "refunds.refund_id": "refunds_refund_id",
    "events.event_id": "events_pkey",
}


def _constraint(text: str) -> str:
    """The constraint. SQLite names columns: `UNIQUE constraint failed: charges.charge_id`."""
    kind, _, named = text.partition(" constraint failed: ")
    return _CONSTRAINTS.get(named, named) if kind == "UNIQUE" else named
