"""The maker of defects: it must make each kind, by a name that stays, and leave the rest alone."""

import ast
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.__main__ import SURVIVORS
from tests.mutation.areas import DRAWN, ROOT, WHOLE, Trial, drawn, existing
from tests.mutation.mutants import mutants_of
from tests.mutation.reach import MARK, marked, replaceable
from tests.mutation.running import STILL_S, TEST_CPU_S, TEST_WALL_S, Pace, Used, used_by

SOURCE = '''
"""Not this text."""
from enum import Enum

LIMIT: int = 3
STATES = {"a": Kind.ONE, "b": Kind.TWO}


class Order:
    """Nor this."""

    @property
    def is_open(self) -> bool:
        """Nor this."""
        return self.state in ("new", "old") and not self.late

    def close(self, at, by):
        if at >= self.end:
            raise Closed(f"{at}")
        self.log(at, by=by)
        return None
'''


def names() -> list[str]:
    """The names of all mutants of the source above."""
    return [each.name for each in mutants_of("x.py", SOURCE)]


def test_every_kind_of_defect_is_made() -> None:
    """One of each, by its name."""
    made = set(names())
    assert made >= {
        "module: 3 -> 4",
        "module: 'a' -> nothing",
        "module: Kind.ONE -> Kind.TWO",
        "Order.is_open: self.state in ('new', 'old') -> self.state not in ('new', 'old')",
        "Order.is_open: 'new' -> 'new~'",
        "Order.is_open: 'new' -> nothing",
        "Order.is_open: not self.late -> self.late",
        "Order.is_open: self.state in ('new', 'old') and (not self.late) -> not self.late",
        "Order.close: at >= self.end -> at > self.end",
        "Order.close: at >= self.end -> True",
        "Order.close: at >= self.end -> False",
        "Order.close: self.log(at, by=by) -> pass",
        "Order.close: by=by -> nothing",
    }
    assert any(name.startswith("Order.close: raise Closed(") for name in made)


def test_texts_for_people_and_decorators_stay() -> None:
    """Docstrings, f-strings, annotations and imports hold no behaviour."""
    assert not any("Nor this" in name or "Not this" in name for name in names())
    assert not any("property" in name or "Enum" in name for name in names())


def test_names_are_unique_and_every_mutant_is_another_program() -> None:
    """Otherwise a survivor could not be named."""
    mutants = mutants_of("x.py", SOURCE)
    original = ast.unparse(ast.parse(SOURCE))
    assert len({each.name for each in mutants}) == len(mutants)
    assert all(each.source != original for each in mutants)
    assert ast.unparse(ast.parse(SOURCE)) == original


def test_a_line_added_elsewhere_changes_no_name() -> None:
    """What is written down of a survivor stays true."""
    longer = "import os\n\n\n" + SOURCE
    assert [each.name for each in mutants_of("x.py", longer)] == names()


def test_only_one_function() -> None:
    """Only the mutants of the function that is asked for."""
    only = mutants_of("x.py", "def f(a):\n    return a + 1\n\n\ndef g(a):\n    return a - 1\n", "g")
    assert {each.name.split(":")[0] for each in only} == {"g"}


# Which of them are tried, and how ---------------------------------------------------------


def trials_of(source: str) -> list[Trial]:
    """One for each mutant of the source."""
    return [Trial(each, ()) for each in mutants_of("x.py", source)]


def named(wanted: list[Trial]) -> set[str]:
    """Their names."""
    return {each.mutant.name for each in wanted}


@pytest.mark.parametrize("seed", range(5))
def test_an_edit_changes_of_the_sample_only_what_it_touches(seed: int) -> None:
    """A mutant more takes the place of one at most; that another place is empty moves none."""
    few = trials_of(SOURCE)
    more = trials_of(SOURCE + "\n\ndef late(order):\n    return order.at > 5\n")
    half = len(few) // 2
    before, after = named(drawn(few, half, seed)), named(drawn(more, half, seed))
    assert len(before) == len(after) == half
    assert len(after - before) <= len(more) - len(few)
    assert all(name.startswith("late:") for name in after - before)
    assert named(drawn(few[1:], half, seed)) >= before - {few[0].mutant.name}


def test_the_sample_is_drawn_by_the_seed() -> None:
    """Another seed draws others; everything is drawn where more are asked for than there are."""
    whole = trials_of(SOURCE)
    assert named(drawn(whole, 10, 1)) == named(drawn(whole[::-1], 10, 1))
    assert named(drawn(whole, 10, 1)) != named(drawn(whole, 10, 2))
    assert drawn(whole, 1000, 1) == whole


def test_a_mutant_knows_its_function() -> None:
    """It has the name of the code object. A mutant outside of functions has none."""
    by_name = {each.name.partition(":")[0]: each.function for each in mutants_of("x.py", SOURCE)}
    assert by_name == {"module": "", "Order.is_open": "Order.is_open", "Order.close": "Order.close"}
    inner = "def f():\n    def g():\n        return 1\n    return g\n"
    assert {each.function for each in mutants_of("x.py", inner)} == {"f"}


def test_which_functions_another_can_stand_in_for() -> None:
    """One that has its name alone, and closes over nothing."""
    source = """
class Row:
    def plain(self): return 1
    def closes(self): return super().closes()
    @property
    def twice(self): return 1
    @twice.setter
    def twice(self, value): pass
def outer():
    def inner(): return 1
"""
    assert replaceable(source) == {"Row.plain", "outer"}


def test_marks_note_what_was_reached() -> None:
    """Each function calls the mark first, and still does what it did."""
    source = """
class A:
    def f(self):
        'Doc.'
        return 1
def g():
    return 2
"""
    reached: list[str] = []
    names: dict[str, Any] = {MARK: reached.append}
    exec(marked("x.py", source), names)  # noqa: S102
    assert reached == []
    assert (names["A"]().f(), names["g"](), names["A"].f.__doc__) == (1, 2, "Doc.")
    assert reached == ["x.py A.f", "x.py g"]


@pytest.mark.parametrize(
    ("a_second_s", "lasts_s", "endless"),
    [
        (1, TEST_CPU_S, False),
        (1, TEST_CPU_S + 1, True),
        (0, STILL_S, False),
        (0, STILL_S + 1, True),
        (0.01, 4 * STILL_S, False),
        (0.01, TEST_WALL_S + 1, True),
    ],
    ids=["computes", "on and on", "waits", "for ever", "is slow", "does a little for ever"],
)
def test_when_a_test_does_not_end(a_second_s: float, lasts_s: float, endless: bool) -> None:
    """It computes too long, or nothing any more. To be slow on a busy machine is neither."""
    pace = Pace(Used(5, 100))
    judged = [pace.is_endless(Used(5 + n * a_second_s, 100 + n)) for n in range(int(lasts_s) + 1)]
    assert (judged[:-1], judged[-1]) == ([False] * int(lasts_s), endless)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel's account")
def test_what_a_process_has_used() -> None:
    """Its clock goes, less what it waited for a processor."""
    first = used_by(os.getpid())
    sum(range(1_000_000))
    second = used_by(os.getpid())
    assert second.cpu_s >= first.cpu_s > 0
    assert first.wall_s <= second.wall_s <= time.monotonic()


def test_an_edit_of_one_method_leaves_the_mutants_of_the_others() -> None:
    """What was caught in them stays caught."""
    before, after = (
        {(each.name, each.around) for each in mutants_of("x.py", source)}
        for source in (SOURCE, SOURCE.replace("self.log(at, by=by)", "self.log(at, by)"))
    )
    assert {name.partition(":")[0] for name, _ in before - after} == {"Order.close"}


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for it")
def test_a_run_that_is_killed_leaves_no_trial(tmp_path: Path) -> None:
    """The trial holds the other end of a pipe for as long as it lives."""
    reads, writes = os.pipe()
    code = (
        "import os, signal, sys; from pathlib import Path; from tests.mutation.trial import fork;"
        "fork(Path(sys.argv[1]), lambda: signal.pause() or 0);"
        "os.write(int(sys.argv[2]), b'x'); signal.pause()"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(writes)]
    with subprocess.Popen(command, cwd=ROOT, pass_fds=(writes,)) as run:
        os.close(writes)
        assert os.read(reads, 1) == b"x"
        run.kill()
    assert os.read(reads, 1) == b""
    os.close(reads)


def test_every_file_of_an_area_exists() -> None:
    """A test that was renamed would find no defect any more, and a source would have none."""
    areas = (*WHOLE, *DRAWN)
    named = {source for area in areas for source in area.sources}
    named |= {test for area in areas for tests in area.tests for test in tests}
    gone = sorted(path for path in named if not (ROOT / path).exists())
    assert not gone, f"name these as they are called now, in tests/mutation/areas.py: {gone}"


def test_every_survivor_is_a_defect_of_today() -> None:
    """A line that was changed or renamed has other defects: what was explained must be there."""
    explained = tomllib.loads(SURVIVORS.read_text())
    there = existing(explained)
    gone = [
        (path, name) for path in explained for name in explained[path] if (path, name) not in there
    ]
    assert not gone, f"rename or delete these in tests/mutation/survivors.toml: {gone}"
