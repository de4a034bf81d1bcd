"""Every SQLSTATE has a meaning that somebody chose, and none that nobody chose is "not written".

The right column is spelled out here again, state by state, so that a slip in the table shows.
"""

import inspect
from collections.abc import Iterator

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, OperationalError

from midas.storage.faults import (
    InDoubt,
    NotWritten,
    RowsRefused,
    StatementRefused,
    StorageFault,
)
from midas.storage.postgres import PostgresDatabase
from midas.storage.postgres_faults import CLASSES, STATES, Meaning, fault_of

MEANINGS = {each.name.lower(): each for each in Meaning}


def _decided(lines: str) -> dict[str, Meaning]:
    return {
        state: MEANINGS[name]
        for name, *states in map(str.split, lines.splitlines())
        for state in states
    }


APPENDIX_A = _decided(
    """\
    in_doubt           01 02 03 08 2D 40 57 F0
    not_written        0B 24 25 26 28 34 3B 3D 53 72
    rows_refused       22 23
    statement_refused  09 0A 0F 0L 0P 0Z 10 20 21 27 2B 2F 38 39 3F 42 44 54 55 P0
    statement_in_doubt 58 HV XX"""
)
APART = _decided(
    """\
    in_doubt           25P03 25P04 40003
    not_written        40000 40001 40P01 42P05 55006 55P03 57014 57P03
    statement_refused  40002"""
)

FAULTS = {
    Meaning.NOT_WRITTEN: (NotWritten, False),
    Meaning.ROWS_REFUSED: (RowsRefused, False),
    Meaning.STATEMENT_REFUSED: (StatementRefused, False),
    Meaning.STATEMENT_IN_DOUBT: (StatementRefused, True),
    Meaning.IN_DOUBT: (InDoubt, True),
}


def _states() -> Iterator[str]:
    """All that asyncpg has a class for: the whole of appendix A."""
    for each in vars(asyncpg.exceptions).values():
        state = getattr(each, "sqlstate", None)
        if inspect.isclass(each) and state:
            yield state


MESSAGE = "message of the server"


def error(state: str | None, severity: str = "ERROR", **fields: str) -> asyncpg.PostgresError:
    """What asyncpg makes of such an answer of the server."""
    answer = {"S": severity, "V": severity, "M": MESSAGE, **fields}
    return asyncpg.PostgresError.new(answer if state is None else {**answer, "C": state})


def _is(fault: StorageFault, meaning: Meaning) -> bool:
    doubt = isinstance(fault, InDoubt) or getattr(fault, "in_doubt", False)
    return (type(fault), doubt) == FAULTS[meaning]


def test_every_class_was_decided() -> None:
    """The table is the one that stands above, and has a line for each class that there is."""
    assert CLASSES == APPENDIX_A
    assert STATES == APART
    assert {state[:2] for state in _states()} == set(APPENDIX_A)


def test_every_state_means_what_was_decided() -> None:
    """By its own line, or else by that of its class."""
    states = set(_states())
    assert len(states) > 240
    for state in states:
        fault = fault_of(error(state))
        assert _is(fault, APART.get(state, APPENDIX_A[state[:2]])), state
        assert f": {MESSAGE}" in str(fault)


@pytest.mark.parametrize("state", ["40003", "40ZZZ", "08006", "08P01", "57P01", "57P02", "57P04"])
def test_a_state_in_doubt_is_in_doubt(state: str) -> None:
    """Also what a later PostgreSQL may add to a class whose members differ."""
    assert _is(fault_of(error(state)), Meaning.IN_DOUBT)


@pytest.mark.parametrize("state", ["ZZ000", "7Z123", "99999", "4", ""])
def test_what_nobody_thought_of_is_in_doubt(state: str) -> None:
    """A state without a line in the table proves nothing."""
    assert _is(fault_of(error(state)), Meaning.IN_DOUBT)


@pytest.mark.parametrize(
    "lost",
    [
        ConnectionResetError("gone"),
        OSError("gone"),
        TimeoutError("too late"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("got result for unknown protocol state"),
        error(None),
        OperationalError("UPDATE", {}, ConnectionError("gone")),
        DBAPIError("UPDATE", {}, None),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_without_a_sqlstate_it_is_in_doubt(lost: Exception) -> None:
    """The server did not answer: the connection was lost, or the time was over."""
    assert _is(fault_of(lost), Meaning.IN_DOUBT)


@pytest.mark.parametrize("severity", ["FATAL", "PANIC"])
@pytest.mark.parametrize("state", ["53100", "58030", "42501", "25006", "XX000"])
def test_what_ends_the_session_is_in_doubt(severity: str, state: str) -> None:
    """A full disk during the commit itself ends the server, and its state is 53100, too."""
    assert _is(fault_of(error(state, severity)), Meaning.IN_DOUBT)
    assert _is(fault_of(error(state, "PÁNICO", V=severity)), Meaning.IN_DOUBT)
    assert _is(
        fault_of(asyncpg.PostgresError.new({"S": severity, "C": state, "M": MESSAGE})),
        Meaning.IN_DOUBT,
    )


def test_a_statement_that_was_prepared_before_a_migration_is_prepared_anew() -> None:
    """It has the SQLSTATE of what is not supported, and another cause."""
    stale = error("0A000", R="RevalidateCachedQuery")
    assert isinstance(stale, asyncpg.InvalidCachedStatementError)
    assert _is(fault_of(stale), Meaning.NOT_WRITTEN)


def test_a_constraint_is_named() -> None:
    """The name decides the caller's error."""
    fault = fault_of(error("23505", n="charges_pkey"))
    assert isinstance(fault, RowsRefused)
    assert fault.constraint == "charges_pkey"
    nameless = fault_of(error("22021"))
    assert isinstance(nameless, RowsRefused)
    assert nameless.constraint == ""


def test_a_value_that_the_driver_does_not_take_is_the_rows_fault() -> None:
    """It never left this process."""
    assert _is(
        fault_of(asyncpg.DataError("invalid input for query argument $1")), Meaning.ROWS_REFUSED
    )


@pytest.mark.parametrize(
    "driver_error",
    [
        *map(error, ["40003", "40001", "42P01", "23505", "57P01", "ZZ000"]),
        asyncpg.InterfaceError(MESSAGE),
    ],
    ids=repr,
)
def test_the_drivers_error_is_found_under_sqlalchemys(driver_error: Exception) -> None:
    """Wrapped twice, as it comes in production, it means the same and is called the same."""
    adapted = AsyncAdapt_asyncpg_dbapi.Error(MESSAGE)  # type: ignore[no-untyped-call]
    adapted.__cause__ = driver_error
    wrapped = DBAPIError("UPDATE", {}, adapted)
    assert type(fault_of(wrapped)) is type(fault_of(driver_error))
    assert (
        str(fault_of(wrapped))
        == str(fault_of(driver_error))
        == f"{type(driver_error).__name__}: {MESSAGE}"
    )
    assert str(fault_of(adapted)) == str(fault_of(driver_error))


def test_what_led_to_the_servers_answer_does_not_hide_it() -> None:
    """The driver's own error has the SQLSTATE, also if it was raised from another one."""
    answer = error("40001")
    answer.__cause__ = ConnectionResetError("the attempt before")
    assert _is(fault_of(answer), Meaning.NOT_WRITTEN)


def test_a_wrapper_without_a_cause_stands_for_itself() -> None:
    """Its fault has its own name, and is in doubt."""
    driver_error = AsyncAdapt_asyncpg_dbapi.Error("bare")  # type: ignore[no-untyped-call]
    empty = DBAPIError("UPDATE", {}, None)  # type: ignore[arg-type]
    for each in (driver_error, empty):
        assert _is(fault_of(each), Meaning.IN_DOUBT)
        assert str(fault_of(each)).startswith(f"{type(each).__name__}: ")


class Broken:
    """An engine, and its connection: what fails raises this."""

    def __init__(self, error: Exception, *, connects: bool) -> None:
        self._error = error
        self._connects = connects
        self.invalid = False

    async def connect(self) -> "Broken":
        """See AsyncEngine."""
        if not self._connects:
            raise self._error
        return self

    async def exec_driver_sql(self, *_: object) -> None:
        """See AsyncConnection."""
        raise self._error

    async def invalidate(self) -> None:
        """See AsyncConnection."""
        self.invalid = True

    async def close(self) -> None:
        """See AsyncConnection."""


@pytest.mark.parametrize(
    "raised",
    [
        error("57P03"),
        asyncpg.InterfaceError("closed"),
        asyncpg.InternalClientError("protocol"),
        ConnectionResetError("gone"),
        TimeoutError("too late"),
        NoSuchModuleError("sqlalchemy's own"),
        DBAPIError("UPDATE", {}, error("57P03")),
    ],
    ids=repr,
)
async def test_nothing_but_faults_leaves_the_database(raised: Exception) -> None:
    """Without a session nothing was sent; with one, the error decides what may have happened."""
    unconnected = PostgresDatabase(Broken(raised, connects=False))  # type: ignore[arg-type]
    with pytest.raises(NotWritten):
        await unconnected.fetch("SELECT 1")
    engine = Broken(raised, connects=True)
    with pytest.raises(StorageFault) as fault:
        await PostgresDatabase(engine).fetch("SELECT 1")  # type: ignore[arg-type]
    assert type(fault.value) is type(fault_of(raised))
    assert engine.invalid, "the next attempt needs another session"


@pytest.mark.parametrize("state", ["42P01", "23505"])
async def test_a_session_that_refused_a_statement_is_kept(state: str) -> None:
    """It is well, and halving a batch asks it many times."""
    engine = Broken(error(state), connects=True)
    with pytest.raises(StorageFault):
        await PostgresDatabase(engine).fetch("SELECT 1")  # type: ignore[arg-type]
    assert not engine.invalid
