"""T4: how a process ends, what keeps it from starting, and what it makes of hostile callers."""

import asyncio
import os
import signal
import socket
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio

from midas import limits
from midas.v1 import charge_pb2, errors_pb2, refund_pb2
from midas.v1 import payment_service_pb2 as pb
from tests.faults.books import books_agree
from tests.faults.caller import insist, refund_request
from tests.faults.processes import NOT_SERVING, REFUNDS, SERVING, Harness, eventually, until
from tests.faults.victim import ORDER, POINT, VICTIM
from tests.postgres import PostgresServer
from tests.rpc.scripted import error_of

PASSWORD = "hunter2-of-the-database"
PATIENT = {"PSP_TOTAL_TIMEOUT_S": "10", "SETTLE_WINDOW_S": "10", "DRAIN_TIMEOUT_S": "10"}


async def test_sigterm_lets_a_charge_end(harness: Harness, sqlite_url: str) -> None:
    """NOT_SERVING at once, the call under way gets its answer, exit status 0 (R7)."""
    midas = await harness.serve(sqlite_url, **PATIENT)
    harness.fault("delay", seconds=1.0, when="after")
    calling = asyncio.ensure_future(midas.charge("last"))
    watch = midas.watch()
    assert (await watch.read()).status == SERVING
    await until(lambda: harness.posts("last"), "the call to Ping++")
    midas.send(signal.SIGTERM)
    assert (await watch.read()).status == NOT_SERVING
    assert not calling.done()
    assert (await calling).charge.state == charge_pb2.CHARGE_STATE_PENDING
    assert await midas.ended() == 0
    assert midas.last_line()["drained"] is True
    await books_agree(sqlite_url, ["last"], harness.sandbox.lookalike)


async def test_sigterm_lets_a_refund_end_without_its_caller(
    harness: Harness, sqlite_url: str
) -> None:
    """A refund whose caller has gone is drained as well (R7, F1)."""
    midas = await harness.serve(sqlite_url, **PATIENT)
    await harness.paid(midas, "last")
    harness.fault("delay", path=REFUNDS, seconds=1.0, when="after")
    calling = midas.stub.Refund(refund_request("r-last", "last"))
    waiting = asyncio.ensure_future(calling.code())
    await until(lambda: harness.refund_posts("r-last"), "the call to Ping++")
    calling.cancel()
    assert await waiting is StatusCode.CANCELLED
    assert await midas.stop() == 0
    assert midas.last_line()["drained"] is True
    again = await harness.serve(sqlite_url, name="again")
    line = await again.logged("serving")
    assert (line["version"], line["env"]) == (metadata.version("midas"), "development")
    assert (line["database"], line["livemode"]) == ("sqlite", False)
    refund = (await again.query("last")).charges[0].refunds[0]
    assert refund.state == refund_pb2.REFUND_STATE_SUCCEEDED


@pytest.mark.parametrize("what", ["charge", "refund"])
async def test_the_drain_is_bounded(what: str, harness: Harness, sqlite_url: str) -> None:
    """Ping++ stalls for longer: exit status 0, SUBMITTING on disk, found out after the start."""
    midas = await harness.serve(sqlite_url, **PATIENT | {"DRAIN_TIMEOUT_S": "0.5"})
    if what == "refund":
        await harness.paid(midas, "stalled")
        harness.fault("delay", path=REFUNDS, seconds=30.0, when="after")
        calling = asyncio.ensure_future(error_of(midas.refund("stalled", "stalled")))
        await until(lambda: _handled(harness.refund_posts("stalled")), "the call to Ping++")
    else:
        harness.fault("delay", seconds=30.0, when="after")
        calling = asyncio.ensure_future(error_of(midas.charge("stalled")))
        await until(lambda: _handled(harness.posts("stalled")), "the call to Ping++")
    assert await midas.stop() == 0
    await asyncio.wait([calling])
    calling.exception()  # the error of a cut connection is gRPC's, not Midas's
    assert midas.last_line()["drained"] is False
    again = await harness.serve(sqlite_url, name="again")
    await eventually(lambda: again.query("stalled"), lambda shown: not _submitting(shown))
    await books_agree(sqlite_url, ["stalled"], harness.sandbox.lookalike)
    assert len(harness.sandbox.lookalike.newest_charges(10)) == 1


def _handled(posts: list[Any]) -> bool:
    return bool(posts) and all(each.handled for each in posts)


def _submitting(shown: pb.QueryResponse) -> bool:
    charges = [each.state for each in shown.charges]
    refunds = [refund.state for each in shown.charges for refund in each.refunds]
    unknown = charge_pb2.CHARGE_STATE_SUBMITTING in charges
    return unknown or refund_pb2.REFUND_STATE_SUBMITTING in refunds


@dataclass(frozen=True)
class Mistake:
    """Settings that keep Midas from starting, and what its sentence must name."""

    names: str
    settings: Callable[[Path], dict[str, str]]
    advice: str = ""


def _file(content: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        path = folder / "some.pem"
        path.write_text(content)
        return str(path)

    return write


def _schema(version: str) -> Callable[[Path], dict[str, str]]:
    def write(folder: Path) -> dict[str, str]:
        path = folder / "other.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.execute("INSERT INTO alembic_version VALUES (?)", (version,))
        connection.close()
        return {"DATABASE_URL": f"sqlite:///{path}"}

    return write


def _no_database(folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": f"sqlite:///{_file('This is no database. ' * 99)(folder)}"}


KEY_PATH = "PINGPP_PRIVATE_KEY_PATH"
MISTAKES = {
    "no API key": Mistake("PINGPP_API_KEY", lambda _: {"PINGPP_API_KEY": ""}, "sk_test_"),
    "wrong API key": Mistake("PINGPP_API_KEY", lambda _: {"PINGPP_API_KEY": PASSWORD}, "sk_live_"),
    "key is missing": Mistake(KEY_PATH, lambda folder: {KEY_PATH: str(folder / "none.pem")}),
    "key is no key": Mistake(KEY_PATH, lambda folder: {KEY_PATH: _file(PASSWORD)(folder)}, "PEM"),
    "public key is none": Mistake(
        "PINGPP_PUBLIC_KEY_PATHS",
        lambda folder: {
            "PINGPP_PUBLIC_KEY_PATHS": _file(
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
            )(folder)
        },
    ),
    "unknown engine": Mistake(
        "DATABASE_URL", lambda _: {"DATABASE_URL": f"mysql://root:{PASSWORD}@127.0.0.1/midas"}
    ),
    "unreadable URL": Mistake("DATABASE_URL", lambda _: {"DATABASE_URL": f"://{PASSWORD}@"}),
    "no PostgreSQL there": Mistake(
        "DATABASE_URL", lambda _: {"DATABASE_URL": f"postgresql://u:{PASSWORD}@127.0.0.1:1/midas"}
    ),
    "no SQLite file": Mistake("DATABASE_URL", _no_database),
    "newer schema": Mistake("older than its database", _schema("9999"), "deploy"),
    "bad port": Mistake("PORT", lambda _: {"PORT": "http"}),
}


@pytest.mark.parametrize("name", MISTAKES)
async def test_a_mistake_is_a_sentence(
    name: str, harness: Harness, sqlite_url: str, tmp_path: Path
) -> None:
    """What keeps Midas from starting is one sentence with the setting to correct; exit status 2."""
    mistake = MISTAKES[name]
    settings = mistake.settings(tmp_path)
    await _assert_refuses(harness, sqlite_url, settings, mistake.names, mistake.advice)


async def test_the_port_is_in_use(harness: Harness, sqlite_url: str) -> None:
    """The sentence names the address; nobody serves."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = {"PORT": str(taken.getsockname()[1])}
        await _assert_refuses(harness, sqlite_url, settings, "PORT", settings["PORT"])


async def test_the_file_is_locked(harness: Harness, sqlite_url: str, sqlite_path: Path) -> None:
    """Another program that holds the database's lock is named as the reason."""
    with sqlite3.connect(sqlite_path) as lock:
        lock.execute("BEGIN IMMEDIATE")
        await _assert_refuses(harness, sqlite_url, {}, "DATABASE_URL", "locked")
    lock.close()


async def test_the_file_is_read_only(harness: Harness, sqlite_url: str, sqlite_path: Path) -> None:
    """A file that may not be written is named."""
    os.chmod(sqlite_path, 0o400)  # noqa: PTH101 - what pathlib offers is not for coroutines
    bound = _BOUND_BY_MODES if os.geteuid() == 0 else ()
    await _assert_refuses(harness, sqlite_url, {}, "DATABASE_URL", "writ", *bound)


_BOUND_BY_MODES = (
    "-c",
    """
import os, sys
bare = "--bounding-set=-dac_override,-dac_read_search"
os.execvp("setpriv", ["setpriv", bare, sys.executable, "-m", "midas", "serve"])
""",
)
"""Root without the right to write everywhere."""


async def test_postgres_without_a_schema(harness: Harness, blank_postgres_url: str) -> None:
    """The sentence names the command that makes it."""
    await _assert_refuses(harness, blank_postgres_url, {}, "schema none", "midas migrate")


async def test_postgres_of_another_version(
    harness: Harness, postgres: PostgresServer, postgres_url: str
) -> None:
    """Older: migrate; newer: deploy the newer Midas; no such database: correct the name."""
    database = postgres_url.rpartition("/")[2]
    postgres.sql("UPDATE schema_compatibility SET oldest = '9999'", database)
    for version, names, advice in (("0000", "schema 0000", "migrate"), ("9999", "older", "deploy")):
        postgres.sql(f"UPDATE alembic_version SET version_num = '{version}'", database)  # noqa: S608
        await _assert_refuses(harness, postgres_url, {}, names, advice)
    await _assert_refuses(harness, postgres.url("nobody"), {}, "DATABASE_URL", "name")


async def _assert_refuses(
    harness: Harness,
    url: str,
    settings: dict[str, str],
    names: str,
    advice: str,
    *arguments: str,
) -> None:
    midas = await harness.launch(url, *arguments, **settings)
    assert await midas.ended() == 2
    printed = [line for line in midas.log if line.startswith("midas: ")]
    assert len(printed) == 1, midas.log
    assert names in printed[0]
    assert advice in printed[0]
    assert PASSWORD not in "\n".join(midas.log), "I15: a secret"
    assert not any("serving" in line for line in midas.log)


SURPRISES = {
    "charge.raises": StatusCode.INTERNAL,
    "create_charge.raises": StatusCode.INTERNAL,
    "create_charge.cancels": StatusCode.UNKNOWN,
}


@pytest.mark.parametrize("point", SURPRISES)
async def test_a_surprise_ends_without_its_text(
    point: str, harness: Harness, sqlite_url: str
) -> None:
    """What nobody foresaw ends the call without its text, at once, and loses nothing (R14, I15)."""
    fate = {POINT: point, ORDER: "surprise"}
    midas = await harness.serve(sqlite_url, *VICTIM, **fate)
    error = await error_of(midas.charge("surprise"))
    assert error.code is SURPRISES[point]
    assert error.detail.money_moved == errors_pb2.MONEY_MOVED_UNKNOWN
    for secret in ("6222021234567890", harness.sandbox.options.key(), "RuntimeError"):
        assert secret not in error.everything
    again = await insist(lambda: midas.charge("surprise"))
    assert isinstance(again, pb.ChargeResponse), again
    assert await midas.stop() == 0
    assert [line for line in midas.log if '"error"' in line]
    assert not any("6222021234567890" in line for line in midas.log)
    await books_agree(sqlite_url, ["surprise"], harness.sandbox.lookalike)


LONG = "x" * 10_000
BELL = "a\x07b"
CHARGES_REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("order_no", {"order_no": ""}),
    ("order_no", {"order_no": LONG}),
    ("order_no", {"order_no": "two words"}),
    ("order_no", {"order_no": "nul\x00"}),
    ("order_no", {"order_no": "订单"}),
    ("channel", {"channel": "", "extra": {}}),
    ("channel", {"channel": "no_such_channel", "extra": {}}),
    ("channel", {"channel": LONG, "extra": {}}),
    ("amount", {"amount": 0}),
    ("amount", {"amount": -1}),
    ("amount", {"amount": -(2**63)}),
    ("amount", {"amount": 2**63 - 1}),
    ("amount", {"amount": limits.AMOUNT_MAX + 1}),
    ("currency", {"currency": "CNY"}),
    ("currency", {"currency": LONG}),
    ("subject", {"subject": ""}),
    ("subject", {"subject": LONG}),
    ("subject", {"subject": BELL}),
    ("subject", {"subject": "a\u2028b"}),
    ("body", {"body": ""}),
    ("body", {"body": BELL}),
    ("client_ip", {"client_ip": "not an address"}),
    ("client_ip", {"client_ip": LONG}),
    ("metadata", {"metadata": {LONG: "v"}}),
    ("metadata", {"metadata": {str(n): "v" for n in range(100)}}),
    ("metadata", {"metadata": {"": "v"}}),
    ("metadata", {"metadata": {"k": BELL}}),
    ("extra", {"extra": {"product_id": BELL}}),
    ("extra", {"extra": {"product_id": "x" * 20_000}}),
    ("extra", {"extra": {}}),
    ("expires_in", {"expires_in": -1}),
    ("expires_in", {"expires_in": 10**11}),
]
REFUNDS_REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("refund_no", {"refund_no": ""}),
    ("refund_no", {"refund_no": LONG}),
    ("refund_no", {"refund_no": "re_mine"}),
    ("refund_no", {"refund_no": BELL}),
    ("target", {"order_no": None}),
    ("order_no", {"order_no": LONG}),
    ("amount", {"amount": -1}),
    ("amount", {"amount": 2**63 - 1}),
    ("description", {"description": ""}),
    ("description", {"description": LONG}),
    ("description", {"description": BELL}),
    ("funding_source", {"funding_source": 99}),
    ("metadata.refund_no", {"metadata": {"refund_no": "mine"}}),
]


async def test_hostile_fields(
    harness: Harness, sqlite_url: str, sqlite_path: Path, subtests: pytest.Subtests
) -> None:
    """INVALID_ARGUMENT with the field; nothing is written and nothing reaches Ping++ (R13, I12)."""
    midas = await harness.serve(sqlite_url)
    for field, changes in CHARGES_REFUSED:
        with subtests.test(call="Charge", **{field: str(changes)[:60]}):
            request = {"order_no": "hostile", **changes}
            await _assert_invalid(midas.charge(**_with_duration(request)), field)
    for field, changes in REFUNDS_REFUSED:
        with subtests.test(call="Refund", **{field: str(changes)[:60]}):
            content = {"refund_no": "hostile", "order_no": "hostile", **changes}
            await _assert_invalid(midas.refund(**content), field)
    for key in ("", LONG, BELL):
        with subtests.test(call="Query", key=key[:10]):
            await _assert_invalid(midas.query(key), "order_no")
    listing = pb.ListChargesRequest(state=77)  # type: ignore[arg-type]
    await _assert_invalid(midas.stub.ListCharges(listing), "state")
    assert harness.sandbox.requests.total == 0
    assert _rows(sqlite_path) == 0


async def test_huge_messages(harness: Harness, sqlite_url: str, sqlite_path: Path) -> None:
    """RESOURCE_EXHAUSTED, nothing is written, and the next call is served as ever (R13).

    A little above the bound with Midas's details; far above it grpc itself refuses, without any.
    """
    midas = await harness.serve(sqlite_url)
    error = await error_of(midas.charge("huge", body="x" * limits.REQUEST_BYTES))
    assert error.code is StatusCode.RESOURCE_EXHAUSTED
    assert error.info.reason == "REQUEST_TOO_LARGE"
    assert error.detail.money_moved == errors_pb2.MONEY_MOVED_NO
    for size in (limits.REQUEST_BYTES_READ, 5_000_000):
        with pytest.raises(aio.AioRpcError) as refused:
            await midas.charge("huge", body="x" * size)
        assert refused.value.code() is StatusCode.RESOURCE_EXHAUSTED
        assert "grpc-status-details-bin" not in dict(refused.value.trailing_metadata() or ())
    assert _rows(sqlite_path) == 0
    assert (await midas.charge("small")).charge_json


async def test_bytes_that_are_no_request(
    harness: Harness, sqlite_url: str, sqlite_path: Path
) -> None:
    """INVALID_ARGUMENT with details, and no text of an exception."""
    midas = await harness.serve(sqlite_url)
    for raw in (b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", os.urandom(50)):
        call: Any = midas.channel.unary_unary("/midas.v1.PaymentService/Charge")
        error = await error_of(call(raw))
        assert error.code is StatusCode.INVALID_ARGUMENT
        assert "Unexpected" not in error.message
    assert _rows(sqlite_path) == 0


async def _assert_invalid(call: Any, field: str) -> None:
    error = await error_of(call)
    assert error.code is StatusCode.INVALID_ARGUMENT, error.message
    assert error.detail.money_moved == errors_pb2.MONEY_MOVED_NO
    assert any(each.partition(".")[0] == field or each == field for each in error.fields), (
        error.fields
    )


def _with_duration(request: dict[str, Any]) -> dict[str, Any]:
    seconds = request.pop("expires_in", None)
    if seconds is not None:
        request["expires_in"] = {"seconds": seconds}
    return request


def _rows(path: Path) -> int:
    """Everything that is in any table of payments."""
    tables = ("orders", "charges", "refunds", "journal", "notifications")
    connection = sqlite3.connect(path)
    try:
        counts = [connection.execute(f"SELECT count(*) FROM {each}") for each in tables]  # noqa: S608
        return sum(count.fetchone()[0] for count in counts)
    finally:
        connection.close()
