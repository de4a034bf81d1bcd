"""`webhook-gateway` as it is installed, and the loop that it runs on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.account import Account
from tests.patience import PATIENCE_S
from webhook_gateway.config import Settings


def test_the_command_explains_its_settings(tmp_path: Path) -> None:
    """`webhook-gateway --help` is the manual; what it does not know gets the same and status 2."""
    asked, mistaken = command(tmp_path, "--help"), command(tmp_path, "--port", "1")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.startswith("Usage: webhook-gateway\n")
    for name in Settings.model_fields:
        assert f"\n  {name.upper()}\n" in asked.stdout
    assert (mistaken.returncode, mistaken.stdout) == (2, "")
    assert mistaken.stderr == asked.stdout


def test_the_command_without_settings_is_a_sentence(tmp_path: Path) -> None:
    """Status 2, and what to set first."""
    ran = command(tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("webhook-gateway: PINGPP_PUBLIC_KEY_PATHS is not set: ")
    assert ran.stderr.endswith("\n  Nothing was started.\n")
    assert len(ran.stderr.splitlines()) == 2


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed `webhook-gateway` in this folder, without any settings."""
    program = Path(sys.executable).with_name("webhook-gateway")
    return subprocess.run(
        [program, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
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
