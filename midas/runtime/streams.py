"""Standard output and standard error that never decide how a command ends.

A terminal may not know a character (GBK, ISO-8859-1), a pipe may be closed, a disk full. What a
command has done by then is done, so nothing that is written within `steady_streams` raises: what
cannot be encoded is written in other characters, and what cannot be written is remembered as lost.
"""

import codecs
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

ERRORS = "midas-readable"
"""The name of the error handler that writes characters which an encoding lacks."""
CLOSED = "it is closed"

_PLAIN = {
    "…": "...", "→": "->", "▶": ">", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"',
    "−": "-", "�": "?", "·": "-", "✓": "yes", "✗": "no",
}  # fmt: skip


class SteadyStream:
    """A text stream whose writes do not raise. `lost` says why something is missing, if it is."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.lost = ""
        with suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors=ERRORS)  # type: ignore[union-attr]

    @property
    def encoding(self) -> str:
        """The encoding of the stream; UTF-8 where it has none."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write the text, or remember that it is lost."""
        self._attempt(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write what waits, or remember that it is lost."""
        if self._stream is not None:
            self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether a person reads it on a terminal."""
        with suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        """Its file. Raises OSError where there is none."""
        if self._stream is None:
            raise OSError(CLOSED)
        return self._stream.fileno()

    def end(self) -> None:
        """Write what waits; what cannot be written must not fail again when Python ends."""
        self.flush()
        if self.lost and self._stream is not None:
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    def _attempt(self, act: Callable[[TextIO], Any]) -> None:
        if self._stream is None:
            self.lost = CLOSED
            return
        try:
            act(self._stream)
        except OSError as error:
            self.lost = error.strerror or type(error).__name__
        except ValueError as error:
            self.lost = CLOSED if "closed" in str(error) else type(error).__name__


@contextmanager
def steady_streams() -> Iterator[tuple[SteadyStream, SteadyStream]]:
    """Standard output and standard error, made steady; at the end all that waits is written."""
    _hold_standard_files()
    before = sys.stdout, sys.stderr
    steady = SteadyStream(sys.stdout), SteadyStream(sys.stderr)
    sys.stdout, sys.stderr = (cast("TextIO", each) for each in steady)
    try:
        yield steady
    finally:
        for each in steady:
            each.end()
        sys.stdout, sys.stderr = before


def one_line_of_json(content: dict[str, Any]) -> str:
    """The object as standard output can take it: what it cannot encode is escaped as JSON does."""
    text = json.dumps(content, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeError:
        return json.dumps(content)
    return text


def _hold_standard_files() -> None:
    """Let no socket take the number of a standard file that is closed: other code writes to it."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    written = (_PLAIN.get(each) or _escaped(each) for each in error.object[error.start : error.end])
    return "".join(written), error.end


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


codecs.register_error(ERRORS, _readable)
