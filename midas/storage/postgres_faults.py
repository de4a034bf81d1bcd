"""What PostgreSQL's errors mean for a write: every class of SQLSTATEs by a table.

The classes are those of PostgreSQL's manual, appendix A. A statement of Midas is a transaction of
its own. PostgreSQL answers ERROR only after it has rolled the transaction back, so most classes are
certainly not written; who else may speak in its name (a pooler, a proxy) says so with the classes
that are in doubt. What is not in the table is in doubt: that costs one look more, whereas a doubt
that is taken for "not written" costs money.
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
"""Whatever SQLAlchemy and asyncpg raise when the database or the way to it is the reason."""


class Meaning(Enum):
    """What one SQLSTATE says of the statement that it answers."""

    WAIT = auto()
    """Not written; the server or the session is the reason, so the same may succeed soon."""
    ROWS = auto()
    """Not written; a constraint or a value stands in the way."""
    OWN = auto()
    """Not written; the statement itself is the reason."""
    OWN_DOUBT = auto()
    """The statement itself is the reason; it may have been written all the same."""
    DOUBT = auto()
    """Written or not."""


WAIT, ROWS, OWN = Meaning.WAIT, Meaning.ROWS, Meaning.OWN
OWN_DOUBT, DOUBT = Meaning.OWN_DOUBT, Meaning.DOUBT

CLASSES = {
    # No errors at all: whoever raises them, nothing is known.
    **dict.fromkeys(("01", "02", "03"), DOUBT),
    # The connection broke on the way.
    "08": DOUBT,
    # A trigger, a rule, a function or a foreign key of somebody else's refuses.
    **dict.fromkeys(("09", "27", "2F", "38", "39", "44", "P0"), OWN),
    # The SQL is not what this server understands, or names what is not there or not allowed.
    **dict.fromkeys(("0A", "0F", "0L", "0P", "0Z", "10", "20", "21", "2B", "3F", "42"), OWN),
    # The session is not as it must be; the next attempt asks for another one.
    **dict.fromkeys(("0B", "24", "25", "26", "34", "3B"), WAIT),
    # The end of a transaction went wrong, which may be after it.
    "2D": DOUBT,
    "22": ROWS,
    "23": ROWS,
    # Role, password or database are being changed: it was refused before anything was done.
    **dict.fromkeys(("28", "3D"), WAIT),
    # "Transaction rollback" has members that say the contrary: each stands in STATES.
    "40": DOUBT,
    # Disk, memory or connections are used up.
    "53": WAIT,
    # This row or statement is too large for the server.
    "54": OWN,
    # This table or row cannot take the statement, such as a published one without an identity.
    "55": OWN,
    # An administrator, or a crash, ended something at a moment that nobody knows.
    "57": DOUBT,
    # A file of the server cannot be read or written, which may be the one of these rows.
    "58": OWN_DOUBT,
    # The rows that were read are too old by now.
    "72": WAIT,
    # The server's own files are wrong, which says nothing of a statement.
    "F0": DOUBT,
    # Another server has a part in it, with a transaction of its own.
    "HV": OWN_DOUBT,
    # A defect of PostgreSQL, or damaged rows or indexes: most likely these rows alone.
    "XX": OWN_DOUBT,
}
"""By the first two characters of the SQLSTATE."""

STATES = {
    # Ends the session.
    **dict.fromkeys(("25P03", "25P04"), DOUBT),
    # Rolled back for the sake of another transaction.
    **dict.fromkeys(("40000", "40001", "40P01"), WAIT),
    # A constraint refused the commit.
    "40002": OWN,
    # "Statement completion unknown".
    "40003": DOUBT,
    # PgBouncer gave the session of somebody else, who had the same name for a statement.
    "42P05": WAIT,
    # Somebody else uses or locks it at this moment.
    **dict.fromkeys(("55006", "55P03"), WAIT),
    # Cancelled, or longer than statement_timeout. A commit that has begun is not cancelled: it only
    # stops waiting for a standby, and is told as done.
    "57014": WAIT,
    # Starting up or shutting down: the session was never begun.
    "57P03": WAIT,
}
"""Those that mean something else than their class."""

_ENDED = frozenset({"FATAL", "PANIC"})
"""The session or the server ended: a full disk, for one, may do that in the middle of a commit."""


def meaning_of(error: BaseException) -> Meaning:
    """What the driver's error says of the statement that met it."""
    state = getattr(error, "sqlstate", None)
    if not state:
        return DOUBT  # the connection was lost, or nobody answered in time
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return WAIT  # a migration changed the table; SQLAlchemy prepares the statement anew
    if {getattr(error, "severity", None), getattr(error, "severity_en", None)} & _ENDED:
        return DOUBT
    return STATES.get(state) or CLASSES.get(state[:2], DOUBT)


def fault_of(error: BaseException) -> StorageFault:
    """What an error during a statement means for a write."""
    cause = cause_of(error)
    text = f"{type(cause).__name__}: {cause}"
    meaning = meaning_of(cause)
    if meaning is WAIT:
        return NotWritten(text)
    if meaning is ROWS:
        return RowsRefused(text, getattr(cause, "constraint_name", None) or "")
    if meaning is DOUBT:
        return InDoubt(text)
    return StatementRefused(text, in_doubt=meaning is OWN_DOUBT)


def cause_of(error: BaseException) -> BaseException:
    """The driver's error under SQLAlchemy's wrappings."""
    while isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    adapted = isinstance(error, AsyncAdapt_asyncpg_dbapi.Error)
    return error.__cause__ or error if adapted else error
