"""The sandbox as a process of its own: ready line, kill, restart, clean end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from midas.sandbox.options import TEST_API_KEY
from tests.sandbox.shop import terms

RUN = """
import asyncio, pathlib, sys
from midas.sandbox.app import SandboxOptions, run_sandbox
options = SandboxOptions(ledger_path=pathlib.Path(sys.argv[1]))
asyncio.run(run_sandbox(options, lambda server: print(server.url, flush=True)))
"""


@contextmanager
def sandbox(ledger: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A sandbox process and its address; killed at the end if it still runs."""
    command = [sys.executable, "-W", "error", "-c", RUN, str(ledger)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def call(url: str, sent: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request with the right key."""
    body = json.dumps(sent).encode() if sent is not None else None
    request = Request(url, body, {"Authorization": f"Bearer {TEST_API_KEY}"})  # noqa: S310
    with urlopen(request, timeout=120) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
        return answer


def test_a_killed_sandbox_remembers_and_a_terminated_one_ends_cleanly(tmp_path: Path) -> None:
    """After SIGKILL everything that was answered is still there; SIGTERM exits 0."""
    ledger = tmp_path / "ledger.jsonl"
    with sandbox(ledger) as (process, url):
        charge = call(f"{url}/v1/charges", terms(channel="wx_pub"))
        paid = call(f"{url}/_sandbox/pay", {"charge_id": charge["id"]})
        process.kill()
    with sandbox(ledger) as (process, url):
        assert call(f"{url}/v1/charges/{charge['id']}") == paid
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0


def test_the_sandbox_imports_nothing_of_the_service() -> None:
    """Neither can hide the other's mistake: only aiohttp and cryptography come from outside."""
    code = (
        "import sys, midas.sandbox.app\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "ours = {n for n in sys.modules if n.startswith('midas.')}\n"
        "assert not {n for n in ours if not n.startswith('midas.sandbox')}, ours\n"
        "assert not names & {'grpc', 'sqlalchemy', 'pingpp', 'pydantic', 'google', 'requests'}\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
