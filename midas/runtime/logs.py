"""Logs: one JSON object per line, made of fields that are allowed by name.

A module of Midas logs an event by its constant name and its fields:

    logging.getLogger(__name__).info("charge_resolved", extra={"order_no": order_no})

A field that is not in `FIELDS` is dropped. Of an exception only its class and the place in the code
are kept, because its text may hold a key, a token or a payer's data. What other libraries log loses
its arguments for the same reason.
"""

import atexit
import json
import logging
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import PurePath
from types import TracebackType
from typing import TextIO

import orjson

FIELDS = frozenset(
    {
        "method", "code", "reason", "money_moved", "caller", "duration_ms", "timeout_ms",
        "order_no", "out_trade_no", "charge_id", "refund_no", "refund_id", "error_id",
        "event_id", "key", "sequence", "kind", "state", "channel", "amount", "currency",
        "livemode", "late", "duplicate_payment", "by", "database", "verdict", "status",
        "count", "examined", "changed", "failed", "still_pending", "unknown", "found_by_poll",
        "psp_calls", "more_due", "oldest_due_at", "next_due_at",
        "dropped", "lag_ms", "attempt", "due_at", "doubt",
        "env", "ip", "port", "version", "tls", "drained", "signal", "setting", "error", "at",
        "schema", "schema_before", "schema_known", "schema_oldest", "file",
        "peer", "held", "drain_delay_s", "drain_timeout_s",
    }
)  # fmt: skip
"""Every field that may appear beside time, level, logger and event."""

TEXT_CHARACTERS = 200
LINES_WAITING = 10_000
"""How many lines may wait for a slow reader. Further ones are counted and dropped, because payments
are more important."""
WRITE_PAUSE_S = 0.1
"""How long lines gather for one write."""
LAST_WRITE_S = 2.0
"""How long the end of the process waits for a slow reader."""

_EVENT = re.compile(r"[a-z][a-z0-9_]*")
_SECRET = re.compile(r"sk_(?:live|test)_\w+|-----BEGIN[^-]*PRIVATE KEY[^\"]*")


def configure(level: str = "INFO", stream: TextIO | None = None) -> "Logs":
    """Send every logger of the process to `stream` (standard error) as JSON lines.

    Midas's own events are kept from `level` on, those of other libraries from WARNING on. `close()`
    of the result writes what waits and removes the handler.
    """
    global _active  # noqa: PLW0603 - there is one standard error
    logs = _active = Logs(stream or sys.stderr)
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(logs)
    root.setLevel(logging.WARNING)
    # no line has these, and looking them up takes a quarter of the time of a line
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger("midas").setLevel(level)
    logging.captureWarnings(True)
    return logs


def log_event(event: str, fields: Mapping[str, object]) -> None:
    """Log an event of Midas at INFO without a LogRecord, which would cost time with every call.

    The line is the same as `logging.getLogger("midas").info(event, extra=fields)` would make.
    """
    if not _logger.isEnabledFor(logging.INFO):
        return
    if _active is None:
        _logger.info(event, extra=dict(fields))
    else:
        _active.queue(_line_of(time.time(), "info", event, fields))


_active: "Logs | None" = None
_logger = logging.getLogger("midas")


def failure(error: BaseException) -> dict[str, str]:
    """What may be logged of an exception: its class and where it was raised, never its text."""
    kind = type(error)
    return {"error": f"{kind.__module__}.{kind.__qualname__}", "at": _place(error.__traceback__)}


class Logs(logging.Handler):
    """Formats lines on the caller's thread and writes on its own: a slow reader stops nothing."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.dropped = 0
        self._stream = stream
        self._lines: deque[str] = deque()
        self._writing = threading.Lock()
        self._some = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record."""
        try:
            self.queue(self.format(record))
        except Exception:
            self.dropped += 1  # a line that cannot be made must not stop a payment

    def queue(self, line: str) -> None:
        """Queue one line; drop it when too many wait."""
        if len(self._lines) >= LINES_WAITING:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._some.is_set():
            self._some.set()

    def flush(self) -> None:
        """Write what waits. Blocks while the reader is slow."""
        with self._writing:
            self._write_waiting()

    def close(self) -> None:
        """Write what waits, within LAST_WRITE_S, and leave the root logger."""
        global _active  # noqa: PLW0603
        if self._closing.is_set():
            return
        if _active is self:
            _active = None
        self._closing.set()
        self._some.set()
        self._thread.join(timeout=LAST_WRITE_S)
        if not self._thread.is_alive():
            self.flush()
        logging.getLogger().removeHandler(self)
        logging.captureWarnings(False)
        atexit.unregister(self.close)
        super().close()

    def _write(self) -> None:
        while not self._closing.is_set():
            self._some.wait()
            self._closing.wait(WRITE_PAUSE_S)
            self._some.clear()
            self.flush()

    def _write_waiting(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += len(lines)  # nobody reads any more


class JsonLines(logging.Formatter):
    """Makes one line of each record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, without anything that `FIELDS` does not name."""
        level = record.levelname.lower()
        if record.name.partition(".")[0] == "midas" and _EVENT.fullmatch(str(record.msg)):
            fields = record.__dict__
            if record.exc_info and record.exc_info[1] is not None:
                fields = {**fields, **failure(record.exc_info[1])}
            return _line_of(record.created, level, str(record.msg), fields)
        line: dict[str, object] = {
            "time": _timestamp(record.created),
            "level": level,
            "event": "log",
            "logger": record.name,
            "text": _template(record),
            "at": f"{_short(record.pathname)}:{record.lineno}",
        }
        if record.exc_info and record.exc_info[1] is not None:
            line.update(failure(record.exc_info[1]))
        return _safe(_to_json(line))


def _line_of(created: float, level: str, event: str, fields: Mapping[str, object]) -> str:
    line: dict[str, object] = {"time": _timestamp(created), "level": level, "event": event}
    line.update(_allowed(fields))
    return _safe(_to_json(line))


def _safe(text: str) -> str:
    """The JSON without secrets, and without characters that control a terminal or a viewer.

    Line separators split a line in two for some readers, bidirectional marks change the order in
    which text is shown, C1 controls control terminals, and format characters are invisible. None of
    them is printable. They are escaped, and the JSON means the same.
    """
    if "sk_" in text or "PRIVATE KEY" in text:
        text = _SECRET.sub("[secret]", text)
    if text.isascii() and "\x7f" not in text:  # most lines; takes a quarter of isprintable's time
        return text
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _to_json(line: Mapping[str, object]) -> str:
    try:
        return orjson.dumps(line, default=lambda _: None).decode()
    except TypeError:  # halves of surrogate pairs, and numbers beyond 64 bits
        return _ENCODER.encode(line)


_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=lambda _: None)


def _allowed(attributes: Mapping[str, object]) -> dict[str, object]:
    return {
        name: value[:TEXT_CHARACTERS] if isinstance(value, str) else value
        for name, value in attributes.items()
        if value != "" and name in FIELDS
    }


def _template(record: logging.LogRecord) -> str:
    """A foreign message without its arguments: the constant part, or its first line.

    The lines after the first of asyncio's messages hold the text of exceptions.
    """
    return str(record.msg).partition("\n")[0][:TEXT_CHARACTERS]


_second = (0, "")


def _timestamp(created: float) -> str:
    global _second  # noqa: PLW0603 - formatting the date costs more than all the rest of a line
    whole = int(created)
    if _second[0] != whole:
        _second = (whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)))
    return f"{_second[1]}.{int((created - whole) * 1000):03d}Z"


_OURS = ("midas", "webhook_gateway")
_HOME = PurePath(__file__).parents[2]
"""The folder that our packages lie in: a checkout of any name, or that of all libraries."""


def _place(traceback: TracebackType | None) -> str:
    """The innermost line of Midas's own code, or the innermost of all."""
    place, in_ours = "", False
    while traceback is not None:
        path = traceback.tb_frame.f_code.co_filename
        name = traceback.tb_frame.f_globals.get("__name__", "")
        is_ours = name.partition(".")[0] in _OURS
        if is_ours or not in_ours:
            place = f"{_short(path)}:{traceback.tb_lineno}"
        in_ours = in_ours or is_ours
        traceback = traceback.tb_next
    return place


def _short(path: str) -> str:
    """The path from the package on, so that the log does not show where it is installed.

    No folder above the packages is looked at: a checkout may have any name.
    """
    whole = PurePath(path)
    is_at_home = whole.is_relative_to(_HOME)
    parts = (whole.relative_to(_HOME) if is_at_home else whole).parts
    if "site-packages" in parts:
        return "/".join(parts[len(parts) - parts[::-1].index("site-packages") :])
    return "/".join(parts if is_at_home else parts[-2:])
