"""What PostgreSQL's errors mean for a write: every class of SQLSTATEs by a table.

The classes are those of PostgreSQL's manual, appendix A. A statement of Midas is a transaction of
its own. PostgreSQL answers ERROR only after it has rolled the transaction back, so most classes
mean that nothing was written. Others that answer in its name (a pooler, a proxy) use the classes
that are in doubt. A class that is not in the table is in doubt: that costs one more search for the
change, whereas a doubt that is taken for "not written" costs money.
"""

from enum import Enum, auto

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from midas.storage.faults import InDoubt, NotWritten, RowsRefused, StatementRefused, StorageFault

DRIVER_ERRORS = (
    SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""All that SQLAlchemy and asyncpg raise when the database or the way to it is the reason."""


class Meaning(Enum):
    """What one SQLSTATE means for the statement that it answers."""

    NOT_WRITTEN = auto()
    """Nothing was written; the server or the session is the reason. The same may succeed soon."""
    ROWS_REFUSED = auto()
    """Nothing was written; a constraint or a value stands in the way."""
    STATEMENT_REFUSED = auto()
    """Nothing was written; the statement itself is the reason."""
    STATEMENT_IN_DOUBT = auto()
    """The statement itself is the reason; it may have been written all the same."""
    IN_DOUBT = auto()
    """It may have been written or not."""


NOT_WRITTEN, ROWS_REFUSED, STATEMENT_REFUSED = (
    Meaning.NOT_WRITTEN,
    Meaning.ROWS_REFUSED,
    Meaning.STATEMENT_REFUSED,
)
STATEMENT_IN_DOUBT, IN_DOUBT = Meaning.STATEMENT_IN_DOUBT, Meaning.IN_DOUBT

CLASSES = {
    # These are no errors: nothing is known of the reason.
    **dict.fromkeys(("01", "02", "03"), IN_DOUBT),
    # The connection broke on the way.
    "08": IN_DOUBT,
    # A trigger, a rule, a function or a foreign key refuses that is not Midas's.
    **dict.fromkeys(("09", "27", "2F", "38", "39", "44", "P0"), STATEMENT_REFUSED),
    # The SQL is not what this server understands, or names what is not there or not allowed.
    **dict.fromkeys(
        ("0A", "0F", "0L", "0P", "0Z", "10", "20", "21", "2B", "3F", "42"), STATEMENT_REFUSED
    ),
    # The session is not as it must be; the next attempt asks for another one.
    **dict.fromkeys(("0B", "24", "25", "26", "34", "3B"), NOT_WRITTEN),
    # Something went wrong at the end of a transaction, perhaps after it.
    "2D": IN_DOUBT,
    "22": ROWS_REFUSED,
    "23": ROWS_REFUSED,
    # Role, password or database are being changed: it was refused before anything was done.
    **dict.fromkeys(("28", "3D"), NOT_WRITTEN),
    # "Transaction rollback" has members that mean the contrary: each stands in STATES.
    "40": IN_DOUBT,
    # Disk, memory or connections are used up.
    "53": NOT_WRITTEN,
    # This row or statement is too large for the server.
    "54": STATEMENT_REFUSED,
    # This table or row cannot take the statement, such as a published one without an identity.
    "55": STATEMENT_REFUSED,
    # An administrator, or a crash, ended something at a moment that nobody knows.
    "57": IN_DOUBT,
    # A file of the server cannot be read or written. It may be the file of these rows.
    "58": STATEMENT_IN_DOUBT,
    # The rows that were read are too old by now.
    "72": NOT_WRITTEN,
    # The server's own files are wrong, which proves nothing about a statement.
    "F0": IN_DOUBT,
    # Another server takes part, with a transaction of its own.
    "HV": STATEMENT_IN_DOUBT,
    # A defect of PostgreSQL, or damaged rows or indexes: most likely these rows alone.
    "XX": STATEMENT_IN_DOUBT,
}
"""The meaning of each class: of the first two characters of the SQLSTATE."""

STATES = {
    # These end the session.
    **dict.fromkeys(("25P03", "25P04"), IN_DOUBT),
    # The server rolled the transaction back in favour of another one.
    **dict.fromkeys(("40000", "40001", "40P01"), NOT_WRITTEN),
    # A constraint refused the commit.
    "40002": STATEMENT_REFUSED,
    # "Statement completion unknown".
    "40003": IN_DOUBT,
    # PgBouncer gave another client's session, which has a statement of the same name.
    "42P05": NOT_WRITTEN,
    # Somebody else uses or locks it at this moment.
    **dict.fromkeys(("55006", "55P03"), NOT_WRITTEN),
    # It was cancelled, or took longer than statement_timeout. A commit that has begun is not
    # cancelled: it only stops waiting for a standby, and is answered as done.
    "57014": NOT_WRITTEN,
    # The server is starting up or shutting down: the session never began.
    "57P03": NOT_WRITTEN,
}
"""The states that mean something else than their class."""

_ENDED = frozenset({"FATAL", "PANIC"})
"""The severities of an error that ends the session or the server: a full disk, for one, may do that
in the middle of a commit."""


def meaning_of(error: BaseException) -> Meaning:
    """What the driver's error means for the statement that raised it."""
    state = getattr(error, "sqlstate", None)
    if not state:
        return IN_DOUBT  # the connection was lost, or nobody answered in time
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return NOT_WRITTEN  # a migration changed the table; SQLAlchemy prepares the statement anew
    if {getattr(error, "severity", None), getattr(error, "severity_en", None)} & _ENDED:
        return IN_DOUBT
    return STATES.get(state) or CLASSES.get(state[:2], IN_DOUBT)


def fault_of(error: BaseException) -> StorageFault:
    """What an error during a statement means for a write."""
    cause = cause_of(error)
    text = f"{type(cause).__name__}: {cause}"
    meaning = meaning_of(cause)
    if meaning is NOT_WRITTEN:
        return NotWritten(text)
    if meaning is ROWS_REFUSED:
        return RowsRefused(text, getattr(cause, "constraint_name", None) or "")
    if meaning is IN_DOUBT:
        return InDoubt(text)
    return StatementRefused(text, in_doubt=meaning is STATEMENT_IN_DOUBT)


def cause_of(error: BaseException) -> BaseException:
    """The driver's error inside those of SQLAlchemy."""
    while isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    adapted = isinstance(error, AsyncAdapt_asyncpg_dbapi.Error)
    return error.__cause__ or error if adapted else error
