"""`webhook-gateway` as it is installed, and the loop that it runs on."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from midas.runtime.command_errors import Trouble, as_data
from tests.gateway.account import Account
from tests.patience import PATIENCE_S
from webhook_gateway.command import command as line
from webhook_gateway.config.settings import Settings


def test_the_command_explains_its_settings(tmp_path: Path) -> None:
    """`webhook-gateway --help` is the manual, with defaults, for a terminal of 80 columns."""
    asked = command(tmp_path, "--help", COLUMNS="80", PYTHONIOENCODING="iso-8859-1")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.startswith("Usage: webhook-gateway [--check]")
    for name in Settings.model_fields:
        assert f"\n  {name.upper()}\n" in asked.stdout
    words = " ".join(asked.stdout.split())
    assert all(f"[default: {value}]" in words for value in ("6013", "6014", "false", "10"))
    assert max(map(len, asked.stdout.splitlines())) <= 80


@pytest.mark.parametrize("arguments", [["--port", "1"], ["serve"], ["--chec"]])
def test_what_it_does_not_know_starts_nothing(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, and a sentence that names where to read more."""
    with pytest.raises(SystemExit) as ended:
        line(arguments)
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert f"{arguments[0]}" in printed.err
    assert printed.err.endswith("  See: webhook-gateway --help\n")
    with pytest.raises(SystemExit) as ended:
        line([*arguments, "--json"])
    printed = capsys.readouterr()
    assert (ended.value.code, printed.err) == (2, "")
    error = json.loads(printed.out)["error"]
    assert (error["reason"], set(error)) == ("USAGE", set(as_data(Trouble("", ""))))


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """That of the package."""
    assert line(["--version"]) == 0
    assert capsys.readouterr().out == f"webhook-gateway {metadata.version('midas')}\n"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_check_starts_nothing(
    form: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It prints that it would start, or all that would keep it from that."""
    for name in [name for name in os.environ if name.lower() in Settings.model_fields]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PINGPP_PUBLIC_KEY_PATHS", str(Account().key_file(tmp_path)))
    monkeypatch.setenv("WEBHOOK_PORT", "0")
    monkeypatch.setenv("WEBHOOK_MPORT", "0")
    monkeypatch.setattr("webhook_gateway.app.run", lambda: pytest.fail("it was started"))
    assert line(["--check", *form]) == 0
    printed = capsys.readouterr()
    fine = json.loads(printed.out) == {"ok": True, "env": "development"} if form else False
    assert fine or printed.out == "The settings will do: development.\n"
    monkeypatch.setenv("PINGPP_PUBLIC_KEY_PATHS", "")
    monkeypatch.setenv("WEBHOOK_PATH", "no path")
    assert line(["--check", *form]) == 2
    printed = capsys.readouterr()
    if form:
        error = json.loads(printed.out)["error"]
        assert (error["reason"], set(error)) == ("SETTINGS", set(as_data(Trouble("", ""))))
        assert "WEBHOOK_PATH" in error["message"]
        assert "PINGPP_PUBLIC_KEY_PATHS" in error["message"]
    else:
        starts = [each.partition(":")[0] for each in printed.err.splitlines()]
        assert starts == ["webhook-gateway", "webhook-gateway", "  Nothing was started."]


def test_the_command_without_settings_is_a_sentence(tmp_path: Path) -> None:
    """Status 2, and what to set first."""
    ran = command(tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("webhook-gateway: PINGPP_PUBLIC_KEY_PATHS is not set: ")
    assert ran.stderr.endswith("\n  Nothing was started.\n")
    assert len(ran.stderr.splitlines()) == 2


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed `webhook-gateway` in this folder, without any settings."""
    program = Path(sys.executable).with_name("webhook-gateway")
    return subprocess.run(
        [program, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_it_serves_on_the_fastest_loop(tmp_path: Path) -> None:
    """Asked of a process in which serving is nothing but naming the loop."""
    pytest.importorskip("uvloop")
    code = (
        "import asyncio, webhook_gateway.app as app\n"
        "async def serve(*_): print(type(asyncio.get_running_loop()).__module__)\n"
        "app.serve = serve\n"
        "raise SystemExit(app.run())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"PINGPP_PUBLIC_KEY_PATHS": str(Account().key_file(tmp_path))},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (ran.returncode, ran.stdout) == (0, "uvloop\n"), ran.stderr
