"""Comparing two checkouts: what can be judged without any server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.callgrind import total_of
from tests.benchmarks.processes import ROOT, THIS, BenchmarkFailed, Checkout, Child
from tests.benchmarks.rounds import Contender, Sample, take_turns
from tests.benchmarks.side_by_side import comparisons, cpu_time, table

DUMP = """\
# callgrind format
version: 1
cmd:  python -m midas serve totals: 5
part: 2

desc: Trigger: dump

positions: line
events: Ir
summary: 692590557


fn=(1844) FutureObj_clear
800 13700
totals: 692590557
"""


@pytest.mark.parametrize(
    "dump", [DUMP, DUMP.replace("summary: 692590557\n", "")], ids=["summary", "totals"]
)
def test_the_total_of_a_dump(dump: str) -> None:
    """It stands in the head of a dump, in its last line, or in both."""
    assert total_of(dump) == 692590557


def test_a_dump_without_a_total() -> None:
    """A dump that was cut off counts nothing, which is not 0 instructions."""
    with pytest.raises(BenchmarkFailed):
        total_of(DUMP.partition("summary")[0])


def _samples(*rounds: dict[str, float]) -> list[Sample]:
    return [Sample(used, per_s=1.0) for used in rounds]


def test_the_table() -> None:
    """Medians, and the median of the rounds' own ratios, which here is not that of the medians."""
    gateway_and_midas = comparisons(
        "event",
        _samples(*({"gateway": 1e-4, "midas": us * 1e-6} for us in (100, 200, 300))),
        _samples(*({"gateway": 5e-5, "midas": us * 1e-6} for us in (90, 300, 150))),
    )
    assert table(list(gateway_and_midas), cpu_time()).splitlines() == [
        "operation  process  other  this  unit    this : other  rounds from-to",
        "-" * 69,
        "event      gateway    100    50  CPU us         0.500   0.500 - 0.500",
        "event      midas      200   150  CPU us         0.900   0.500 - 1.500",
        "event      sum        300   200  CPU us         0.700   0.500 - 1.167",
    ]


def test_one_process_has_no_sum() -> None:
    """It would be the same number again."""
    samples = _samples({"midas": 1.0})
    assert [each.process for each in comparisons("charge", samples, samples)] == ["midas"]


def test_no_ratio_to_nothing() -> None:
    """So few operations may take less than a tick of the clock."""
    found = comparisons("charge", _samples({"midas": 0.0}), _samples({"midas": 0.01}))
    assert table(list(found), cpu_time()).splitlines()[-1].split()[-2:] == ["-", "-"]


def test_turns() -> None:
    """Each has one in every round; what prepares it is not measured."""
    used = dict.fromkeys("ab", 0.0)
    turns: list[str] = []

    def contender(name: str) -> Contender:
        def run(count: int) -> dict[str, float]:
            turns.append(name)
            used[name] += count
            return {"elapsed_s": 1.0}

        def prepare(_count: int) -> None:
            used[name] += 1000

        return Contender(run, 10, {"server": lambda: used[name]}, prepare)

    samples = take_turns({name: contender(name) for name in used}, rounds=20)
    assert samples == {name: [Sample({"server": 1.0}, 10.0)] * 20 for name in used}
    pairs = {tuple(turns[n : n + 2]) for n in range(0, len(turns), 2)}
    assert pairs == {("a", "b"), ("b", "a")}, "one run in half a million has one order only"


def test_a_child_of_another_checkout(tmp_path: Path) -> None:
    """It runs the code there, with the interpreter and behind the prefix that belong to it."""
    (tmp_path / "midas").mkdir()
    print_where = "import os, pathlib; print(pathlib.Path.cwd(), os.environ['MARK'])"
    (tmp_path / "midas" / "__main__.py").write_text(print_where)
    interpreter = tmp_path / "python"
    interpreter.symlink_to(sys.executable)
    checkout = Checkout(tmp_path, str(interpreter), ("env", "MARK=prefix"))
    assert checkout.command("midas", "serve")[2:] == [str(interpreter), "-m", "midas", "serve"]
    with Child(checkout, tmp_path / "log", "midas") as child:
        child.finish()
        assert child.last_words().split() == [str(tmp_path), "prefix"]


def _checkout(folder: Path) -> Path:
    """What passes for a checkout before anything of it is started."""
    (folder / "midas").mkdir()
    (folder / "midas" / "__main__.py").touch()
    return folder


def _printed(*arguments: str, **environment: str) -> str:
    """What the command prints when it fails at once."""
    command = [*THIS.command("tests.benchmarks.side_by_side"), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_a_checkout_without_an_environment(tmp_path: Path) -> None:
    """One sentence says what to run."""
    other = str(_checkout(tmp_path))
    assert _printed(other) == f"{other} has no .venv: run `uv sync` there.\n"


def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    """There `uv sync` would be the wrong advice."""
    assert _printed(str(tmp_path)) == f"{tmp_path} is not a checkout of Midas.\n"


def test_instructions_without_valgrind(tmp_path: Path) -> None:
    """One sentence says what is missing, before anything is started."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "other" / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "other" / ".venv" / "bin" / "python").touch()
    other = _checkout(tmp_path / "other")
    printed = _printed(str(other), "--instructions", PATH=str(tmp_path / "bin"))
    assert printed == "Counting instructions needs valgrind, which is not installed.\n"
