"""Trials as processes: so many at once, each ended if one of its tests does not end by itself."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from tests.mutation.areas import Trial
from tests.mutation.trial import LOG, NO_TRIAL, NOTICED, NOW

TEST_CPU_S = 10.0
"""What one test may compute: four times of what the dearest does. A mutant that makes it run on is
caught by that."""
STILL_S = 60.0
"""How long a test may compute next to nothing, by the clock less what it waited for a processor: a
mutant that makes it wait for ever is caught by that. What is only slow, on a machine that is busy
with other things, goes on meanwhile."""
MOVED_CPU_S = 0.1
TEST_WALL_S = 600.0
"""The limit for a test that does a little now and then, for ever."""
LOOK_S = 0.5


class Verdict(StrEnum):
    """What became of a mutant."""

    CAUGHT = "CAUGHT"
    SURVIVED = "SURVIVED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`by` is the test that noticed, or why the trial was ended."""

    verdict: Verdict
    by: str
    seconds: float


class TrialFailed(Exception):
    """No test has judged this mutant. The text is what the process printed."""


@dataclass(frozen=True, slots=True)
class Used:
    """What a process has used so far, in seconds."""

    cpu_s: float
    wall_s: float


class Pace:
    """Whether one test will not end any more."""

    def __init__(self, began: Used) -> None:
        self._began = began
        self._moved = began

    def is_endless(self, now: Used) -> bool:
        """Ask it now and then."""
        if now.cpu_s - self._moved.cpu_s >= MOVED_CPU_S:
            self._moved = now
        return (
            now.cpu_s - self._began.cpu_s > TEST_CPU_S
            or now.wall_s - self._moved.wall_s > STILL_S
            or now.wall_s - self._began.wall_s > TEST_WALL_S
        )


class _Running:
    """A trial under way."""

    def __init__(self, trial: Trial, folder: Path, process: int) -> None:
        self.trial = trial
        self.folder = folder
        self.process = process
        self.endless = ""
        """The test that it was ended in."""
        self._began = time.monotonic()
        self._test = ""
        self._pace = Pace(Used(0, self._began))

    def look(self) -> None:
        """End it if its test does not."""
        with suppress(FileNotFoundError, ProcessLookupError):
            used = used_by(self.process)
            test = _read(self.folder / NOW)
            if test != self._test:
                self._test, self._pace = test, Pace(used)
            elif self._pace.is_endless(used):
                self.endless = test or "the import of the tests"
                end(self.process)

    def outcome(self, status: int) -> Outcome:
        """The outcome of the ended process. Raises TrialFailed if it did not judge the mutant."""
        seconds = time.monotonic() - self._began
        code = os.waitstatus_to_exitcode(status)
        if self.endless:
            return Outcome(Verdict.CAUGHT, f"{self.endless} (does not end)", seconds)
        if code == 0:
            return Outcome(Verdict.SURVIVED, "", seconds)
        if code < 0 and code != -signal.SIGKILL:
            return Outcome(Verdict.CAUGHT, f"ended by {signal.Signals(-code).name}", seconds)
        if code < 0 or code in (NO_TRIAL, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise TrialFailed(f"exit {code}\n{_read(self.folder / LOG)}")
        by = _read(self.folder / NOTICED) or "the tests cannot be imported"
        return Outcome(Verdict.CAUGHT, by, seconds)


def tried(
    left: Iterable[Trial], jobs: int, start: Callable[[Trial, Path], int]
) -> Iterator[tuple[Trial, Outcome]]:
    """The outcomes as they come, so many trials at once."""
    waiting = list(left)[::-1]
    running: dict[int, _Running] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as parent:
        Path(parent).chmod(0o755)  # a database server of another user has its folder here
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    trial = waiting.pop()
                    folder = Path(parent) / str(len(waiting))
                    folder.mkdir()
                    process = start(trial, folder)
                    running[process] = _Running(trial, folder, process)
                process, status = _next_end(running)
                ended = running.pop(process)
                end(process)
                outcome = ended.outcome(status)
                shutil.rmtree(ended.folder, ignore_errors=True)
                yield ended.trial, outcome
        finally:
            for process in running:
                end(process)


def end(process: int) -> None:
    """A trial with all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def _next_end(running: dict[int, _Running]) -> tuple[int, int]:
    looked = time.monotonic()
    while True:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process in running:
            return process, status
        if time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            for each in running.values():
                each.look()
        time.sleep(0.01)


def used_by(process: int) -> Used:
    """From the kernel's account; the clock is less the time that it waited for a processor."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(int(each) for each in fields[11:15])  # its own and its children's
    waited_ns = int(Path(f"/proc/{process}/schedstat").read_text().split()[1])
    return Used(ticks / os.sysconf("SC_CLK_TCK"), time.monotonic() - waited_ns / 1e9)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
