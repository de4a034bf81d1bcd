"""The benchmarks run and measure something; how fast anything is, no test judges."""

import json
import subprocess
import sys
from typing import Any

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
    command = [sys.executable, "-m", "tests.benchmarks", "--smoke", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe) as running:
        try:
            output, errors = running.communicate(timeout=SMOKE_TIMEOUT_S)
        finally:
            running.terminate()  # not killed: it has children to end
    assert running.returncode == 0, output.decode() + errors.decode()
    answer: dict[str, Any] = json.loads(output)
    return answer


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
