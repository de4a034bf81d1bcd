"""One mutant against its tests, in a process of its own that has the defect in place of the module.

The process is forked from one that has imported the libraries but nothing of Midas, so that a trial
costs what its tests cost. No file of the checkout is touched.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import signal
import sys
import time
import traceback
import types
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from tests.mutation.areas import ROOT, Trial

CPU_S = 60
"""What the tests of one mutant may compute. A mutant that makes them run on is caught by that."""
WALL_S = 600
"""The same by the clock, for one that waits for ever."""

LIBRARIES = (
    *("asyncio", "hypothesis", "pytest_asyncio.plugin", "pytest_timeout", "xdist.plugin"),
    *("aiohttp", "asyncpg", "google.protobuf.struct_pb2", "orjson", "pydantic"),
    *("sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql.asyncpg", "alembic.command"),
    *("cryptography.hazmat.primitives.asymmetric.rsa", "psutil"),
)


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
    """No test has said anything of this mutant. The text is what the process printed."""


def warm_up() -> None:
    """Import what every trial needs. Call it once, before the first."""
    for each in LIBRARIES:
        importlib.import_module(each)
    midas = [name for name in sys.modules if name.split(".")[0] in ("midas", "webhook_gateway")]
    assert not midas, f"imported too early: {midas}"


def start(trial: Trial, report: Path) -> int:
    """Begin a trial; returns its process. `report` gets the name of the test that noticed."""
    process = os.fork()
    if process:
        return process
    code = _NO_TRIAL
    try:
        os.setsid()
        _be_quiet(report.with_suffix(".log"))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))
        code = _run(trial, report)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def outcome(status: int, report: Path, began: float) -> Outcome:
    """What an ended process says. Raises TrialFailed if it says nothing of the mutant."""
    seconds = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return Outcome(Verdict.SURVIVED, "", seconds)
    if code < 0:
        return Outcome(Verdict.CAUGHT, f"ended by {signal.Signals(-code).name}", seconds)
    if code in (_NO_TRIAL, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise TrialFailed(f"exit {code}\n{report.with_suffix('.log').read_text()}")
    by = report.read_text() if report.exists() else "the tests cannot be imported"
    return Outcome(Verdict.CAUGHT, by, seconds)


_NO_TRIAL = 70
"""The exit code of a trial that an error of its own has ended."""


def _be_quiet(log: Path) -> None:
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)


def _run(trial: Trial, report: Path) -> int:
    os.chdir(ROOT)
    sys.meta_path.insert(0, _Broken(trial.mutant.path, trial.mutant.source))
    watcher = _Watcher(report)
    for stage in trial.tests:
        code = pytest.main([*_ARGUMENTS, *stage], plugins=[watcher])
        if code != pytest.ExitCode.OK:
            return int(code)
        _forget_tests()
    return 0


_ARGUMENTS = (
    *("-x", "-q", "-n0", "--import-mode=importlib", "-p", "no:cacheprovider"),
    *("-o", "addopts=", "--hypothesis-seed=0", "--tb=line"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
    *("-W", "ignore:unclosed scandir iterator:ResourceWarning"),  # of the folders of pytest itself
)


def _forget_tests() -> None:
    """The next stage collects its own; Midas stays, with the defect in it."""
    for name in [each for each in sys.modules if each.startswith("tests.")]:
        if not name.startswith(("tests.mutation", "tests.databases", "tests.postgres")):
            del sys.modules[name]


class _Watcher:
    """Writes down what noticed first."""

    def __init__(self, report: Path) -> None:
        self._report = report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._noticed(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._noticed(f"{report.nodeid} (cannot be imported)")

    def _noticed(self, name: str) -> None:
        if not self._report.exists():
            self._report.write_text(name)


class _Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the one module with the defect."""

    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._source = source
        self._name = path.removesuffix(".py").replace("/", ".")

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """The module, if it is this one."""
        if name != self._name:
            return None
        return importlib.util.spec_from_loader(name, self, origin=self._path)

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the broken source."""
        module.__file__ = str(ROOT / self._path)
        exec(compile(self._source, module.__file__, "exec"), module.__dict__)  # noqa: S102
