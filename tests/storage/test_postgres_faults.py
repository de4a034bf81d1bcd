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

MEANINGS = {
    "wait": Meaning.WAIT,
    "rows": Meaning.ROWS,
    "own": Meaning.OWN,
    "own?": Meaning.OWN_DOUBT,
    "?": Meaning.DOUBT,
}


def _decided(lines: str) -> dict[str, Meaning]:
    return {
        state: MEANINGS[what] for what, *of in map(str.split, lines.splitlines()) for state in of
    }


APPENDIX_A = _decided(
    """\
    ?    01 02 03 08 2D 40 57 F0
    wait 0B 24 25 26 28 34 3B 3D 53 72
    rows 22 23
    own  09 0A 0F 0L 0P 0Z 10 20 21 27 2B 2F 38 39 3F 42 44 54 55 P0
    own? 58 HV XX"""
)
APART = _decided(
    """\
    ?    25P03 25P04 40003
    wait 40000 40001 40P01 42P05 55006 55P03 57014 57P03
    own  40002"""
)

FAULTS = {
    Meaning.WAIT: (NotWritten, False),
    Meaning.ROWS: (RowsRefused, False),
    Meaning.OWN: (StatementRefused, False),
    Meaning.OWN_DOUBT: (StatementRefused, True),
    Meaning.DOUBT: (InDoubt, True),
}


def _states() -> Iterator[str]:
    """All that asyncpg has a class for: the whole of appendix A."""
    for each in vars(asyncpg.exceptions).values():
        state = getattr(each, "sqlstate", None)
        if inspect.isclass(each) and state:
            yield state


def error(state: str | None, severity: str = "ERROR", **fields: str) -> asyncpg.PostgresError:
    """What asyncpg makes of such an answer of the server."""
    told = {"S": severity, "V": severity, "M": "told", **fields}
    return asyncpg.PostgresError.new(told if state is None else {**told, "C": state})


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
        assert ": told" in str(fault)


@pytest.mark.parametrize("state", ["40003", "40ZZZ", "08006", "08P01", "57P01", "57P02", "57P04"])
def test_a_doubt_is_told_as_one(state: str) -> None:
    """Also what a later PostgreSQL may add to a class whose members differ."""
    assert _is(fault_of(error(state)), Meaning.DOUBT)


@pytest.mark.parametrize("state", ["ZZ000", "7Z123", "99999", "4", ""])
def test_what_nobody_thought_of_is_in_doubt(state: str) -> None:
    """No line, no certainty."""
    assert _is(fault_of(error(state)), Meaning.DOUBT)


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
    """The server said nothing: the connection was lost, or the time was up."""
    assert _is(fault_of(lost), Meaning.DOUBT)


@pytest.mark.parametrize("severity", ["FATAL", "PANIC"])
@pytest.mark.parametrize("state", ["53100", "58030", "42501", "25006", "XX000"])
def test_what_ends_the_session_is_in_doubt(severity: str, state: str) -> None:
    """A full disk that meets the commit itself brings the server down, and says 53100, too."""
    assert _is(fault_of(error(state, severity)), Meaning.DOUBT)
    assert _is(fault_of(error(state, "PÁNICO", V=severity)), Meaning.DOUBT)
    assert _is(
        fault_of(asyncpg.PostgresError.new({"S": severity, "C": state, "M": "told"})), Meaning.DOUBT
    )


def test_a_statement_that_was_prepared_before_a_migration_is_prepared_anew() -> None:
    """It has the SQLSTATE of what is not supported, and another cause."""
    stale = error("0A000", R="RevalidateCachedQuery")
    assert isinstance(stale, asyncpg.InvalidCachedStatementError)
    assert _is(fault_of(stale), Meaning.WAIT)


def test_a_constraint_is_named() -> None:
    """The name decides what the caller is told."""
    fault = fault_of(error("23505", n="charges_pkey"))
    assert isinstance(fault, RowsRefused)
    assert fault.constraint == "charges_pkey"
    nameless = fault_of(error("22021"))
    assert isinstance(nameless, RowsRefused)
    assert nameless.constraint == ""


def test_a_value_that_the_driver_does_not_take_is_the_rows_fault() -> None:
    """It never left this process."""
    assert _is(fault_of(asyncpg.DataError("invalid input for query argument $1")), Meaning.ROWS)


@pytest.mark.parametrize(
    "plain",
    [
        *map(error, ["40003", "40001", "42P01", "23505", "57P01", "ZZ000"]),
        asyncpg.InterfaceError("told"),
    ],
    ids=repr,
)
def test_the_drivers_error_is_found_under_sqlalchemys(plain: Exception) -> None:
    """Wrapped twice, as it comes in production, it means the same and is called the same."""
    adapted = AsyncAdapt_asyncpg_dbapi.Error("told")  # type: ignore[no-untyped-call]
    adapted.__cause__ = plain
    wrapped = DBAPIError("UPDATE", {}, adapted)
    assert type(fault_of(wrapped)) is type(fault_of(plain))
    assert str(fault_of(wrapped)) == str(fault_of(plain)) == f"{type(plain).__name__}: told"
    assert str(fault_of(adapted)) == str(fault_of(plain))


def test_what_led_to_the_servers_answer_does_not_hide_it() -> None:
    """The driver's own error has the SQLSTATE, whatever it was raised from."""
    told = error("40001")
    told.__cause__ = ConnectionResetError("the attempt before")
    assert _is(fault_of(told), Meaning.WAIT)


def test_a_wrapping_with_nothing_in_it_is_told_as_it_is() -> None:
    """And is in doubt."""
    bare = AsyncAdapt_asyncpg_dbapi.Error("bare")  # type: ignore[no-untyped-call]
    empty = DBAPIError("UPDATE", {}, None)  # type: ignore[arg-type]
    for each in (bare, empty):
        assert _is(fault_of(each), Meaning.DOUBT)
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
    """Without a session nothing was sent; with one, the error says what may have happened."""
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
