"""`midas demo` as a person runs it: one command, from anywhere."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.double import run_alone

TIMEOUT_S = 300
ENDS_WITHIN_S = 120
ROWS = [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15]
PROCESSES = 4
SETTINGS = {
    "ENV": "production",
    "PINGPP_API_KEY": "sk_live_never_used",
    "PORT": "1",
    "WEBHOOK_PORT": "1",
    "ORDER_TARGET": "never.invalid:1",
    "http_proxy": "http://127.0.0.1:1",
}
"""Settings of a caller who runs a real Midas behind a proxy: the demo must not use any of them."""
WRONG_AMOUNTS = json.dumps(
    {
        "count": None,
        "match": {"method": "GET"},
        "action": {"kind": "alter", "fields": {"amount": 1}},
    }
)
# One way for a webhook to go wrong each, and the first check of the demo that it must break.
WEBHOOK_FAULTS = {
    "lost": ({"kind": "webhook_drop"}, "the gateway's answers to charge.succeeded: saw [None]"),
    "forged": ({"kind": "webhook_forge"}, "the gateway's answers to charge.succeeded: saw [401]"),
    "of another amount": (
        {"kind": "webhook_alter", "object": {"amount": 1}},
        "Query, without refresh: saw 'PENDING' instead of 'SUCCEEDED'",
    ),
    "about another order": (
        {"kind": "webhook_alter", "object": {"id": "ch_never1", "order_no": "never1"}},
        "the event in Midas's database: saw ['IGNORED'] instead of ['APPLIED']",
    ),
}


def play(folder: Path, *options: str, **environment: str) -> tuple[int, Any]:
    """Run the demo in this folder: its status and its one object."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "midas", "demo", "--json", *options],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=folder,
        env=os.environ | SETTINGS | environment,
    )
    return done.returncode, json.loads(done.stdout or "null") or done.stderr


def test_every_row_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows hold on their own stage, with any settings of the caller; nothing stays behind."""
    folder, temporary = tmp_path / "cwd", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    status, printed = play(folder)
    assert status == 0, printed
    assert printed["ok"] is True
    assert [row["row"] for row in printed["rows"]] == ROWS
    for row in printed["rows"]:
        assert row["held"] is True, row
        assert len(row["checks"]) >= 8
        assert all(check["held"] and check["seen"] == check["wanted"] for check in row["checks"])
        assert row["steps"]
    assert list(folder.iterdir()) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(each, marks=() if each == "forged" else pytest.mark.long)
        for each in WEBHOOK_FAULTS
    ],
)
def test_a_wrong_webhook_is_noticed(tmp_path: Path, what: str) -> None:
    """A webhook that does not do what row 2 needs of it: the row does not hold, with the reason."""
    action, observed = WEBHOOK_FAULTS[what]
    fault = json.dumps({"count": None, "action": action})
    status, printed = play(tmp_path, "--row", "2", "--fault", fault)
    assert status == 1
    assert [row["held"] for row in printed["rows"]] == [False]
    assert (printed["ok"], printed["error"]["reason"]) == (False, "ROWS_NOT_HELD")
    assert observed in printed["rows"][0]["seen"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"action": {"kind": "burn"}}, "action.kind must be one of"),
        ("xyz", "action.kind is one of lose_request, "),
        ({"kind": "stall"}, "a fault is"),
        ({"action": {"kind": "stall"}, "match": {"path": "("}}, "path"),
        ({"action": {"kind": "stall"}, "count": 0}, "count"),
    ],
)
def test_a_fault_is_checked_before_anything_starts(
    fault: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 2 and what is wrong with it."""

    def start(_: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr("midas.cli.demo.command.launched", start)
    result = run_alone("demo", "--fault", json.dumps(fault))
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_few_open_files_are_enough(tmp_path: Path) -> None:
    """Where a process may open 1,024 files the demo plays, and prints what is smaller for it."""
    limited = ["sh", "-c", 'ulimit -n 1024 && exec "$@"', "sh"]
    command = [*limited, sys.executable, "-m", "midas", "demo", "--row", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "open files are few here: the gateway takes 896 connections" in done.stdout


def test_a_missing_library_is_a_sentence(tmp_path: Path) -> None:
    """Without the gateway extra the demo prints what to install, and plays nothing."""
    without = tmp_path / "without"
    without.mkdir()
    absent = "raise ModuleNotFoundError('no such library', name='prometheus_client')\n"
    (without / "prometheus_client.py").write_text(absent)
    status, printed = play(tmp_path, "--row", "1", PYTHONPATH=str(without))
    assert status == 1
    assert printed["error"]["reason"] == "DEMO_NOT_STARTED"
    assert "install midas[gateway]" in printed["error"]["message"]


def test_a_wrong_answer_is_noticed(tmp_path: Path) -> None:
    """Where Ping++ answers another amount, the row does not hold; the rest is played; status 1."""
    keep = tmp_path / "kept"
    options = ["--row", "1", "--row", "3", "--fault", WRONG_AMOUNTS, "--keep", str(keep)]
    status, printed = play(tmp_path, *options)
    assert status == 1
    assert printed["ok"] is False
    first, second = printed["rows"]
    assert first["held"] is False
    assert second["held"] is False
    assert "Query with refresh: saw 'PENDING' instead of 'SUCCEEDED'" in second["seen"]
    kept = {path.name for path in keep.iterdir()}
    logs = {f"{name}.log" for name in ("midas", "sandbox", "gateway", "orders")}
    assert logs | {"ledger.jsonl", "midas.sqlite3", "orders.sqlite3"} <= kept
    assert "keys" not in kept


LOST_CHARGE = json.dumps(
    {
        "match": {"method": "POST", "path": "/v1/charges$"},
        "action": {"kind": "lose_response"},
    }
)


def test_a_row_whose_beginning_does_not_hold_does_not_go_on(tmp_path: Path) -> None:
    """Row 4 begins before the others: it has the fault, and the others are played without it."""
    options = ["--row", "2", "--row", "4", "--fault", LOST_CHARGE]
    status, printed = play(tmp_path, *options)
    assert (status, printed["error"]["message"]) == (1, "not held: row 4")
    assert [(row["row"], row["held"]) for row in printed["rows"]] == [(2, True), (4, False)]
    assert "was refused: OUTCOME_UNKNOWN" in printed["rows"][1]["seen"]
    assert len(printed["rows"][1]["steps"]) == 1


@pytest.mark.long  # it waits for the look
def test_a_run_that_finds_nothing_is_noticed(tmp_path: Path) -> None:
    """Ping++ answers with another amount: PollPending reports no change, and row 4 is not held."""
    status, printed = play(tmp_path, "--row", "4", "--fault", WRONG_AMOUNTS)
    assert (status, printed["rows"][0]["held"]) == (1, False)
    assert "changes that PollPending reports: saw 0 instead of 1" in printed["rows"][0]["seen"]


def test_an_interrupted_demo_takes_everything_down(tmp_path: Path) -> None:
    """SIGTERM in the middle of the play stops all processes and removes the keys."""
    keep = tmp_path / "kept"
    command = [sys.executable, "-m", "midas", "demo", "--keep", str(keep)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        next(line for line in demo.stdout if line.startswith("Row 1"))
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) == PROCESSES
        demo.send_signal(signal.SIGTERM)
        demo.wait(TIMEOUT_S)
    assert demo.returncode == 130
    _, alive = psutil.wait_procs(children, timeout=0)
    assert alive == []
    assert not (keep / "keys").exists()


def test_the_processes_end_with_a_killed_demo(tmp_path: Path) -> None:
    """SIGKILL leaves the demo no time to stop anything: the processes notice by themselves."""
    command = [sys.executable, "-m", "midas", "demo", "--keep", str(tmp_path / "kept")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        next(line for line in demo.stdout if line.startswith("Row 1"))
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) == PROCESSES
        demo.kill()
    _, alive = psutil.wait_procs(children, timeout=ENDS_WITHIN_S)
    # where nobody collects orphans they stay as zombies
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    """--keep takes only an empty folder: what is in another one stays as it is."""
    (tmp_path / "mine").write_text("here")
    status, printed = play(tmp_path, "--keep", str(tmp_path))
    assert status == 2
    assert "not empty" in printed["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
