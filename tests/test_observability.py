"""Logs hold what is allowed by name, and nothing else."""

import asyncio
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from midas.runtime import logs
from midas.runtime.logs import FIELDS, Logs, configure

SECRET = "sk_live_" + "iHaveNotBeenMadeUp123456"


class Log:
    """What was logged, line by line."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.logs = configure("INFO", self.stream)

    @property
    def text(self) -> str:
        """All of it."""
        self.logs.flush()
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Each line, parsed."""
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    """The log of this process, taken over for one test."""
    root = logging.getLogger()
    before = root.handlers[:]
    made = Log()
    yield made
    made.logs.close()
    for handler in before:
        root.addHandler(handler)


def test_an_event_is_one_line_of_json(log: Log) -> None:
    """Time, level, event and the fields, in one line."""
    logging.getLogger("midas.flows").info("charge_made", extra={"order_no": "o-1\n", "count": 2})
    (line,) = log.lines
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {"level": "info", "event": "charge_made", "order_no": "o-1\n", "count": 2}
    assert log.text.count("\n") == 1


def test_fields_that_are_not_allowed_are_dropped(log: Log) -> None:
    """A field must be in the list to be written."""
    extra = {"card": "6222", "api_key": SECRET, "order_no": "o-1"}
    logging.getLogger("midas.psp").warning("call_failed", extra=extra)
    assert set(log.lines[0]) == {"time", "level", "event", "order_no"}


def test_a_secret_is_blotted_out_wherever_it_is(log: Log) -> None:
    """Even in an allowed field a key of Ping++ or a private key is not written."""
    pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIE"
    logging.getLogger("midas.x").info("odd", extra={"order_no": f"a{SECRET}b", "reason": pem})
    assert SECRET not in log.text
    assert "MIIE" not in log.text
    assert log.lines[0]["order_no"].startswith("a[secret]")


@pytest.mark.parametrize(
    "character",
    [
        *("\u2028", "\u2029", "\x85", "\x9b", "\x80", "\x7f", "\x1b", "\x00", "\n"),
        *("\u202e", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c", "\u200b", "\ufeff"),
        *("\U000e0041", "\ue000", "\u00a0", "\U0010ffff"),
    ],
    ids=ascii,
)
def test_an_invisible_character_is_escaped(log: Log, character: str) -> None:
    """It steers no terminal and makes no second line; the value that is read stays the same."""
    logging.getLogger("midas.x").info("odd", extra={"order_no": f"中{character}文"})
    logs.log_event("odd", {"order_no": f"中{character}文"})
    logging.getLogger("library").error("中" + character)  # noqa: G003 - text of its own
    text = log.text
    assert text.replace("\n", "").isprintable()
    assert len(text.splitlines()) == 3
    assert text.count("中") == 3
    assert [line["order_no"] for line in log.lines[:2]] == [f"中{character}文"] * 2


def test_long_values_are_cut(log: Log) -> None:
    """A caller cannot fill the disk through a field."""
    logging.getLogger("midas.x").info("odd", extra={"order_no": "x" * 100_000})
    assert len(log.text) < 1000


def test_of_an_exception_only_class_and_place_remain(log: Log) -> None:
    """Neither its text nor that of its cause is written."""
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise KeyError("6222") from error
    except KeyError:
        logging.getLogger("midas.x").exception("broke")
    assert log.lines[0]["error"] == "builtins.KeyError"
    assert log.lines[0]["at"].startswith("tests/test_observability.py:")
    assert SECRET not in log.text
    assert "6222" not in log.text


def test_the_place_is_in_our_own_code(log: Log) -> None:
    """Where a library raises because of us, our line is named."""
    with pytest.raises(TypeError) as raised:
        logs._to_json({"a": {(1,): 2}})
    assert logs.failure(raised.value)["at"].startswith("midas/runtime/logs.py:")


HOMES = (
    "/srv/checkout",
    "/srv/midas",
    "/srv/webhook_gateway",
    "/srv/tests",
    "/srv/a b/midas/midas",
)
LIBRARIES = "/usr/lib/python3/site-packages"


@pytest.mark.parametrize("home", [*HOMES, LIBRARIES, f"{LIBRARIES}/midas"])
@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("midas/flows/create_charge.py", "midas/flows/create_charge.py"),
        ("webhook_gateway/app.py", "webhook_gateway/app.py"),
        ("midas/sandbox/midas/odd.py", "midas/sandbox/midas/odd.py"),
        ("tests/midas.py", "tests/midas.py"),
        (".venv/lib/python3/site-packages/midas_like/a.py", "midas_like/a.py"),
    ],
)
def test_a_place_does_not_depend_on_where_midas_lies(
    monkeypatch: pytest.MonkeyPatch, home: str, path: str, short: str
) -> None:
    """A checkout may have any name, a package's too; it is never part of what is logged."""
    monkeypatch.setattr(logs, "_HOME", PurePosixPath(home))
    assert logs._short(f"{home}/{path}") == short


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("/usr/lib/python3.13/asyncio/tasks.py", "asyncio/tasks.py"),
        ("/usr/lib/python3/site-packages/grpc/aio/_call.py", "grpc/aio/_call.py"),
        ("<string>", "<string>"),
    ],
)
def test_a_place_elsewhere_is_named_shortly(path: str, short: str) -> None:
    """A library by its package, the rest by file and folder."""
    assert logs._short(path) == short


def test_a_folder_called_like_a_package_is_none(tmp_path: Path) -> None:
    """Where no code of ours is involved the innermost line is named, wherever the others lie."""
    theirs: dict[str, Any] = {"__name__": "odd"}
    source = compile("def call(f): f()", tmp_path / "midas" / "odd.py", "exec")
    exec(source, theirs)  # noqa: S102 - it stands in the line above

    def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError) as raised:
        theirs["call"](fail)
    assert logs.failure(raised.value)["at"].startswith("tests/test_observability.py:")


def test_foreign_loggers_lose_their_arguments(log: Log) -> None:
    """What a library logs keeps its constant text only, and debug chatter is not written."""
    for name in ("grpc._cython.cygrpc", "sqlalchemy.engine", "aiohttp.access", "asyncio"):
        logging.getLogger(name).error("call of %s failed", SECRET)
        logging.getLogger(name).info("chatter")
    assert [line["text"] for line in log.lines] == ["call of %s failed"] * 4
    assert {line["logger"] for line in log.lines} >= {"asyncio", "sqlalchemy.engine"}


async def test_a_lost_task_leaks_nothing(log: Log) -> None:
    """The event loop's report of an exception that nobody awaited holds no text of it."""

    async def fail() -> None:
        raise RuntimeError(f"card 6222 {SECRET}")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    loop = asyncio.get_running_loop()
    error = RuntimeError(f"card 6222 {SECRET}")
    loop.default_exception_handler({"message": "lost", "exception": error, "task": task})
    assert task.exception() is not None
    assert log.lines[0]["text"] == "lost"
    assert log.lines[0]["error"] == "builtins.RuntimeError"
    assert "6222" not in log.text


def test_fields_do_not_collide_with_the_record() -> None:
    """Every allowed field can be given as `extra`."""
    logging.getLogger("midas.x").makeRecord(
        "midas.x", logging.INFO, "f", 1, "event", (), None, extra=dict.fromkeys(FIELDS, 1)
    )


def test_a_stalled_reader_stops_nothing() -> None:
    """While nobody reads, lines are dropped and counted, and the caller goes on."""
    release = threading.Event()

    class Stalled(io.StringIO):
        def write(self, text: str) -> int:
            release.wait(5)
            return super().write(text)

    stalled = Logs(Stalled())
    record = logging.makeLogRecord({"name": "midas.x", "msg": "event"})
    for _ in range(logs.LINES_WAITING * 2 + 10):
        stalled.emit(record)
    assert stalled.dropped > 0
    release.set()
    stalled.close()


def test_a_closed_reader_stops_nothing() -> None:
    """A broken pipe is counted, not raised."""
    stream = io.StringIO()
    logs = Logs(stream)
    stream.close()
    logs.emit(logging.makeLogRecord({"name": "midas.x", "msg": "event"}))
    logs.close()
    assert logs.dropped == 1


def test_standard_error_is_the_default() -> None:
    """Without a stream the log goes to standard error."""
    before = logging.getLogger().handlers[:]
    logs = configure()
    assert logs._stream is sys.stderr
    logs.close()
    for handler in before:
        logging.getLogger().addHandler(handler)
