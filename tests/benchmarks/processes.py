"""Child processes: what they used of the CPU, and their certain end."""

import json
import os
import select
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[2]
STOP_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 600.0
READY_TIMEOUT_S = 180.0
LOOK_S = 0.1
"""Between two looks at a process."""
IDLE_LOOKS = 3
"""One is not enough on a machine that has others to serve."""
LOG_TAIL_CHARACTERS = 2000


class BenchmarkFailed(Exception):
    """Something could not be measured; the text names it."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """Which code a process runs, and how it is started."""

    root: Path
    python: str
    prefix: tuple[str, ...] = ()
    """A command in front of the interpreter. It has to become the interpreter's process (exec)."""

    def command(self, module: str, *arguments: str) -> list[str]:
        """The command that runs this module in `root`."""
        return [*self.prefix, self.python, "-m", module, *arguments]


THIS = Checkout(ROOT, sys.executable)
"""The checkout that these benchmarks are part of."""


class Child:
    """One Python process running a module of a checkout. What it logs goes to a file."""

    def __init__(
        self, checkout: Checkout, log: Path, module: str, *arguments: str, **environment: str
    ) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                checkout.command(module, *arguments),
                cwd=checkout.root,
                env={**_inherited(), **environment},
                stdin=subprocess.PIPE,
                stdout=self._output(errors.fileno()),
                stderr=errors,
            )

    def _output(self, log: int) -> int:
        """Where its standard output goes: to its log."""
        return log

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()

    def await_ready(self, url: str, sign: bytes) -> None:
        """Return once the page is answered with 200 and holds this. Raises BenchmarkFailed."""
        self._await(lambda: sign in _page(url))

    def await_listening(self, port: int) -> None:
        """Return once something accepts connections there. Raises BenchmarkFailed."""
        self._await(lambda: _listens(port))

    def _await(self, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkFailed(f"a process did not get ready: {self.last_words()}")
            time.sleep(LOOK_S)

    def finish(self) -> None:
        """Wait for its own end. Raises BenchmarkFailed if that is not a good one."""
        if self._process.wait(ANSWER_TIMEOUT_S):
            raise BenchmarkFailed(f"a process failed: {self.last_words()}")

    def stop(self) -> None:
        """Ask it to end, then make it."""
        process = self._process
        process.terminate()
        try:
            process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def cpu_s(self) -> float:
        """User and system time of all its threads so far, in seconds."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def cpu_of_threads_s(self) -> dict[str, float]:
        """The same for each living thread, by the thread's name and number."""
        found = {}
        for each in psutil.Process(self.pid).threads():
            name = Path(f"/proc/{self.pid}/task/{each.id}/comm")
            label = name.read_text().strip() if name.exists() else "thread"
            found[f"{label}-{each.id}"] = each.user_time + each.system_time
        return found

    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]


class Talker(Child):
    """A child of this checkout that answers commands; see `child.py`."""

    def _output(self, _log: int) -> int:
        return subprocess.PIPE

    def __init__(self, log: Path, module: str, *arguments: str, **environment: str) -> None:
        super().__init__(THIS, log, module, *arguments, **environment)
        self._unread = b""
        self.hello = self._receive()

    @property
    def port(self) -> int:
        """Where it listens, if it does."""
        return int(self.hello["port"])

    def ask(self, **command: Any) -> dict[str, Any]:
        """One command and its answer. Raises BenchmarkFailed if it could not be done."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise BenchmarkFailed(f"a process ended: {self.last_words()}") from None
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while b"\n" not in self._unread:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([output], [], [], left)[0]:
                raise BenchmarkFailed(f"no answer within {ANSWER_TIMEOUT_S:.0f} s")
            read = os.read(output, 65536)
            if not read:
                raise BenchmarkFailed(f"a process ended: {self.last_words()}")
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchmarkFailed(answer["error"])
        return answer


def await_idle(*children: Child) -> None:
    """Return once they all use no CPU any more, so that what they did last is counted too."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    used, looks = -1.0, 0
    while looks < IDLE_LOOKS:
        if time.monotonic() > deadline:
            raise BenchmarkFailed("a process does not come to rest")
        now = sum(child.cpu_s() for child in children)
        looks = looks + 1 if now == used else 0
        used = now
        time.sleep(LOOK_S)


def _page(url: str) -> bytes:
    """What is there; nothing if there is nothing yet."""
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - http, our own
            page: bytes = answer.read()
            return page
    except OSError:
        return b""


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _inherited() -> Mapping[str, str]:
    """Our environment without settings that would change what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}


_SETTINGS = (
    *("PINGPP", "TLS_", "DATABASE_URL", "CONFIG_URL", "ENV", "PORT", "MPORT", "IP", "GRPC_"),
    *("WEBHOOK_", "MIDAS_", "ORDER_", "RELAY_", "LOG_LEVEL"),
)
