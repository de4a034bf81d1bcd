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

TIMEOUT_S = 110
ENDS_WITHIN_S = 10
ROWS = [1, 3, 5, 7, 9, 10, 11, 12]
WRONG_AMOUNTS = json.dumps(
    {
        "count": None,
        "match": {"method": "GET"},
        "action": {"kind": "alter", "fields": {"amount": 1}},
    }
)


def play(folder: Path, *options: str) -> tuple[int, Any]:
    """Run the demo in this folder: its status and its one object."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "midas", "demo", "--json", *options],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=folder,
        env=os.environ | {"ENV": "production", "PINGPP_API_KEY": "sk_live_never_used", "PORT": "1"},
    )
    return done.returncode, json.loads(done.stdout or "null") or done.stderr


def test_every_row_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows hold on their own stage, whatever the caller's settings; nothing stays behind."""
    folder, temporary = tmp_path / "cwd", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    status, told = play(folder)
    assert status == 0, told
    assert told["ok"] is True
    assert [row["row"] for row in told["rows"]] == ROWS
    for row in told["rows"]:
        assert row["held"] is True, row
        assert len(row["checks"]) >= 8
        assert all(check["held"] and check["seen"] == check["wanted"] for check in row["checks"])
        assert row["steps"]
    assert list(folder.iterdir()) == []
    assert list(temporary.iterdir()) == []


def test_a_wrong_answer_is_noticed(tmp_path: Path) -> None:
    """When Ping++ tells another amount, the row does not hold, the rest is played, status is 1."""
    keep = tmp_path / "kept"
    options = ["--row", "1", "--row", "3", "--fault", WRONG_AMOUNTS, "--keep", str(keep)]
    status, told = play(tmp_path, *options)
    assert status == 1
    assert told["ok"] is False
    first, second = told["rows"]
    assert first["held"] is False
    assert second["held"] is False
    assert "Query with refresh: saw 'PENDING' instead of 'SUCCEEDED'" in second["seen"]
    kept = {path.name for path in keep.iterdir()}
    assert {"midas.log", "sandbox.log", "ledger.jsonl", "midas.sqlite3"} <= kept
    assert "keys" not in kept


def test_an_interrupted_demo_takes_everything_down(tmp_path: Path) -> None:
    """SIGTERM in the middle of the play stops both processes and removes the keys."""
    keep = tmp_path / "kept"
    command = [sys.executable, "-m", "midas", "demo", "--keep", str(keep)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        next(line for line in demo.stdout if line.startswith("Row 1"))
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) == 2
        demo.send_signal(signal.SIGTERM)
        demo.wait(TIMEOUT_S)
    assert demo.returncode == 130
    _, alive = psutil.wait_procs(children, timeout=0)
    assert alive == []
    assert not (keep / "keys").exists()


def test_the_processes_end_with_a_killed_demo(tmp_path: Path) -> None:
    """SIGKILL leaves the demo no time to stop anything: both processes notice by themselves."""
    command = [sys.executable, "-m", "midas", "demo", "--keep", str(tmp_path / "kept")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        next(line for line in demo.stdout if line.startswith("Row 1"))
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) == 2
        demo.kill()
    _, alive = psutil.wait_procs(children, timeout=ENDS_WITHIN_S)
    # where nobody collects orphans they stay as zombies
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    """--keep takes only an empty folder: what is in another one stays as it is."""
    (tmp_path / "mine").write_text("here")
    status, told = play(tmp_path, "--keep", str(tmp_path))
    assert status == 2
    assert "not empty" in told["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
