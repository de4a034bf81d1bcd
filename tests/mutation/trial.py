"""One mutant against its tests, in a process of its own.

A defect in a function takes the place of that function in a process that has collected the tests
already, and only those tests run that get to it (`Collected`). Any other defect is there before
Midas is imported (`start_fresh`). No file of the checkout is touched.
"""

import ctypes
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import resource
import signal
import sys
import tempfile
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from _pytest.main import pytest_runtestloop as run_tests

from tests.mutation.areas import ROOT, Tests, Trial
from tests.mutation.mutants import Mutant

CPU_S = 120
"""What all tests of one mutant may compute, some five times of what they need without it."""

LIBRARIES = (
    *("asyncio", "hypothesis", "pytest_asyncio.plugin", "pytest_timeout", "xdist.plugin"),
    *("aiohttp", "asyncpg", "google.protobuf.struct_pb2", "orjson", "pydantic"),
    *("sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql.asyncpg", "alembic.command"),
    *("cryptography.hazmat.primitives.asymmetric.rsa", "psutil"),
)

NO_TRIAL = 70
"""The exit code of a trial that an error of its own has ended."""
NOTICED, NOW, LOG = "noticed", "now", "log"
"""Files in the folder of a trial: the test that failed, the one that runs, and the output."""


def warm_up() -> None:
    """Import what every trial needs. Call it once, before the first."""
    sys.dont_write_bytecode = False  # every trial would compile the same again
    sys.pycache_prefix = str(ROOT / ".mutation" / "bytecode")
    for each in LIBRARIES:
        importlib.import_module(each)
    midas = [name for name in sys.modules if name.split(".")[0] in ("midas", "webhook_gateway")]
    assert not midas, f"imported too early: {midas}"


def start_fresh(trial: Trial, folder: Path) -> int:
    """Begin a trial that imports Midas with the defect in it; returns its process."""
    broken = {trial.mutant.path: trial.mutant.source}
    return fork(folder, lambda: run_stages(trial.tests, broken, Watcher(folder)))


class Collected:
    """A pytest session that has collected its tests, and starts trials instead of running them."""

    def __init__(
        self, reached_by: Mapping[str, Sequence[str]], go: Callable[["Collected"], None]
    ) -> None:
        self._reached_by = reached_by
        self._go = go
        self._functions: dict[tuple[str, str], list[types.FunctionType]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of the tests."""
        self._session = session
        for each in gc.get_objects():
            if isinstance(each, types.FunctionType):
                place = each.__code__.co_filename, each.__code__.co_qualname
                self._functions.setdefault(place, []).append(each)
        gc.freeze()
        self._go(self)
        return True

    def start(self, trial: Trial, folder: Path) -> int:
        """Begin a trial; returns its process."""
        return fork(folder, lambda: self._run(trial.mutant, folder))

    def _run(self, mutant: Mutant, folder: Path) -> int:
        (function,) = self._functions[_file_of(mutant), mutant.function]
        function.__code__ = _code_of(mutant)
        session = self._session
        items = {each.nodeid: each for each in session.items}
        session.items = [items[name] for name in self._reached_by.get(place_of(mutant), ())]
        session.testscollected = len(session.items)
        session.config.pluginmanager.register(Watcher(folder))
        with suppress(session.Failed):
            run_tests(session)
        return int(pytest.ExitCode.TESTS_FAILED if session.testsfailed else pytest.ExitCode.OK)


def run_collected(
    tests: Tests, reached_by: Mapping[str, Sequence[str]], go: Callable[[Collected], None]
) -> int:
    """Collect the tests, then `go`. Midas is imported by that: call it in a process of its own.

    Returns pytest's exit status.
    """
    os.chdir(ROOT)
    files = [each for stage in tests for each in stage]
    return pytest.main([*_ARGUMENTS, "-qq", *files], plugins=[Collected(reached_by, go)])


def place_of(mutant: Mutant) -> str:
    """The function that it is in."""
    return f"{mutant.path} {mutant.function}"


def _code_of(mutant: Mutant) -> types.CodeType:
    """The code of its function, with the defect in it."""
    (code,) = (
        each
        for each in _functions(mutant.source, _file_of(mutant))
        if each.co_qualname == mutant.function
    )
    return code


def _file_of(mutant: Mutant) -> str:
    return str(ROOT / mutant.path)


def _functions(source: str, file: str) -> Iterator[types.CodeType]:
    """The code of each function that is in no other, and of each method."""
    inside = [compile(source, file, "exec")]
    while inside:
        for each in inside.pop().co_consts:
            if isinstance(each, types.CodeType):
                if each.co_flags & inspect.CO_OPTIMIZED:
                    yield each
                else:
                    inside.append(each)


def fork(folder: Path, run: Callable[[], int]) -> int:
    """Run it in a process, which ends with what it returns. All it leaves is in the folder."""
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    code = NO_TRIAL
    try:
        end_with(parent)
        os.setsid()
        _be_quiet(folder / LOG)
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end_with(parent: int) -> None:
    """Let this process be killed as soon as its parent is gone, however that ends (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(NO_TRIAL)


_PR_SET_PDEATHSIG = 1


def _be_quiet(log: Path) -> None:
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)


def run_stages(tests: Tests, sources: Mapping[str, str], plugin: object, **known: object) -> int:
    """Run the tests with these sources in place of the files, in which these names are known."""
    os.chdir(ROOT)
    sys.meta_path.insert(0, _Instead(sources, known))
    for stage in tests:
        code = pytest.main([*_ARGUMENTS, *stage], plugins=[plugin])
        if code != pytest.ExitCode.OK:
            return int(code)
        _forget_tests()
    return 0


_ARGUMENTS = (
    *("-x", "-q", "-s", "-n0", "--import-mode=importlib", "-p", "no:cacheprovider"),
    *("-o", "addopts=", "-o", "timeout=0", "--hypothesis-seed=0", "--tb=line", "--assert=plain"),
    *("-W", "ignore:unclosed scandir iterator:ResourceWarning"),  # of the folders of pytest itself
)


def _forget_tests() -> None:
    """The next stage collects its own; Midas stays, with the defect in it."""
    for name in [each for each in sys.modules if each.startswith("tests.")]:
        if not name.startswith(("tests.mutation", "tests.databases", "tests.postgres")):
            del sys.modules[name]


class Watcher:
    """Writes down which test runs, and which noticed first."""

    def __init__(self, folder: Path) -> None:
        self._now = folder / NOW
        self._noticed = folder / NOTICED

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self._now.write_text(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A part of it has ended."""
        if report.failed:
            self._write(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file was imported, or not."""
        if report.failed:
            self._write(f"{report.nodeid} (cannot be imported)")

    def _write(self, name: str) -> None:
        if not self._noticed.exists():
            self._noticed.write_text(name)


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules whose source is another one."""

    def __init__(self, sources: Mapping[str, str], known: Mapping[str, object]) -> None:
        names = {path.removesuffix(".py").replace("/", "."): path for path in sources}
        self._paths = {name.removesuffix(".__init__"): path for name, path in names.items()}
        self._sources = sources
        self._known = known

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """The module, if it is one of these."""
        if name not in self._paths:
            return None
        file = ROOT / self._paths[name]
        inside = [str(file.parent)] if file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            name, file, loader=self, submodule_search_locations=inside
        )

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the other source."""
        path = self._paths[module.__name__]
        module.__dict__.update(self._known)
        code = compile(self._sources[path], str(ROOT / path), "exec")
        exec(code, module.__dict__)  # noqa: S102
