"""Which tests get to which function: a mutant is held against those, the cheapest first.

It is found out by running all tests of an area, with a mark at the head of each function of its
sources and no defect. That is the control as well: they must pass, or no trial means anything.
"""

import ast
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.areas import ROOT, Tests
from tests.mutation.trial import run_stages

MARK = "_reached_"


@dataclass(frozen=True, slots=True)
class Reach:
    """The tests that get to each function, the cheapest first, by the place of the function."""

    tests: Mapping[str, Sequence[str]]
    outside: frozenset[str]
    """What is called outside of any test too, such as while a test's module is imported."""


def measure(tests: Tests, paths: Sequence[str], found: Path) -> int:
    """Run them all, marked; returns pytest's exit status. `read` reads what was found."""
    sources = {path: marked(path, (ROOT / path).read_text()) for path in paths}
    marks = _Marks()
    code = run_stages(tests, sources, marks, **{MARK: marks.reached})
    found.write_text(json.dumps({"tests": marks.tests, "outside": sorted(marks.outside)}))
    return code


def read(kept: Path) -> Reach:
    """What was measured."""
    found = json.loads(kept.read_text())
    reached: dict[str, list[tuple[float, str]]] = {}
    for test, (seconds, places) in found["tests"].items():
        for place in places:
            reached.setdefault(place, []).append((seconds, test))
    cheapest = {place: [test for _, test in sorted(each)] for place, each in reached.items()}
    return Reach(cheapest, frozenset(found["outside"]))


def marked(path: str, source: str) -> str:
    """The source in which every function notes that it was reached."""
    tree = ast.parse(source)
    for name, function in functions(tree.body):
        mark = ast.parse(f"{MARK}({f'{path} {name}'!r})").body[0]
        has_docstring = ast.get_docstring(function) is not None
        function.body.insert(int(has_docstring), mark)
    return ast.unparse(ast.fix_missing_locations(tree))


def replaceable(source: str) -> set[str]:
    """The functions whose code another may take the place of: one of its name, without a closure.

    A property and its setter share their name, and `super()` closes over the class.
    """
    found = Counter[str]()
    for name, function in functions(ast.parse(source).body):
        closes = any(
            isinstance(each, ast.Name) and each.id == "super" for each in ast.walk(function)
        )
        found[name] += 1 + closes
    return {name for name, times in found.items() if times == 1}


def functions(
    body: Sequence[ast.stmt], where: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Each function that is in no other, and each method, by its `__qualname__`."""
    for each in body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{where}{each.name}", each
        elif isinstance(each, ast.ClassDef):
            yield from functions(each.body, f"{where}{each.name}.")


class _Marks:
    """A plugin of pytest that notes for each test what it got to."""

    def __init__(self) -> None:
        self.outside: set[str] = set()
        self.tests: dict[str, tuple[float, list[str]]] = {}
        self._now = self.outside
        self._began = 0.0

    def reached(self, place: str) -> None:
        """A function was called."""
        self._now.add(place)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """What is reached from now on is reached by this test."""
        self._now = set()
        self._began = time.process_time()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """The test has ended."""
        self.tests[nodeid] = time.process_time() - self._began, sorted(self._now)
        self._now = self.outside
