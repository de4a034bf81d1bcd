"""The benchmarks run and measure something; how fast anything is, no test judges."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.benchmarks.processes import ROOT

BENCHMARKS = (
    "charge",
    "charge-postgres",
    "query",
    "latency",
    "writes",
    "events",
    "events-postgres",
)
SMOKE_TIMEOUT_S = 900
pytestmark = [pytest.mark.long, pytest.mark.timeout(SMOKE_TIMEOUT_S + 60)]


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    """What the command prints when it is asked for as little as possible."""
    answer: dict[str, Any] = json.loads(_output("tests.benchmarks", "--smoke", "--json"))
    return answer


def _output(*command: str, environment: Mapping[str, str] = os.environ) -> str:
    """What a module of Python prints."""
    running = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        try:
            output, errors = running.communicate(timeout=SMOKE_TIMEOUT_S)
        finally:
            running.terminate()  # not killed: it has children to end
    assert running.returncode == 0, output + errors
    return output


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_it_yields_numbers(printed: dict[str, Any], benchmark: str) -> None:
    """Every row of a benchmark holds a number above 0.

    The CPU of so few operations is one or two ticks of its clock, or none.
    """
    ours = [each for each in printed["rows"] if each["benchmark"].split()[0] == benchmark]
    rows = [each for each in ours if "beyond" not in each["what"]]  # a difference may be negative
    assert rows
    assert all(each["measured"] > 0 for each in rows if not each["unit"].startswith("CPU"))
    assert all(each["measured"] >= 0 for each in rows)


@pytest.mark.parametrize("benchmark", ["charge", "charge-postgres"])
def test_a_charge_is_compared_with_both_ends(printed: dict[str, Any], benchmark: str) -> None:
    """On either database Midas stands beside the bare limit and beside the SDK as documented."""
    whats = {each["what"] for each in printed["rows"] if each["benchmark"] == benchmark}
    assert {
        "bare limit, nothing stored",
        "grpc + pingpp SDK, nothing stored",
        "midas : bare",
        "SDK : midas",
    } <= whats


def test_a_checkout_beside_itself(tmp_path: Path) -> None:
    """Each process has a line with numbers above 0, and nothing is left over."""
    output = _output(
        *("tests.benchmarks.side_by_side", str(ROOT), "--rounds", "1", "--count", "200"),
        environment={**os.environ, "TMPDIR": str(tmp_path)},
    )
    lines = [line.split() for line in output.splitlines()]
    measured = {(line[0], line[1]): line[2:4] for line in lines if len(line) > 4}
    for process in (("charge", "midas"), *(("event", n) for n in ("gateway", "midas", "sum"))):
        assert all(float(each.replace(",", "")) > 0 for each in measured[process])
    assert not list(tmp_path.iterdir())
    assert not list(_running_with(tmp_path))


def _running_with(temporary: Path) -> Iterator[list[str]]:
    """The commands of all processes that have their temporary files in this folder."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(temporary):
                yield process.cmdline()
        except psutil.Error:
            continue  # another user's, or it has ended
