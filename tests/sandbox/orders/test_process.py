"""`midas orders` as a process: ready line, kill -9, restart, clean end."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from midas.sandbox.orders.book import OrderBook
from tests.sandbox.orders.notifications import caller

COMMAND = [sys.executable, "-m", "midas", "orders"]
STOP_S = 120


@contextmanager
def orders(file: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A process on this file and what it prints when it is ready; killed at the end."""
    ports = ["--port", "0", "--control-port", "0"]
    command = [*COMMAND, *ports, "--file", str(file), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Killed in the middle of a burst, three times: each OK is on file, each effect is there once.

    What was not acknowledged is sent again, as Midas does.
    """
    file = tmp_path / "orders.sqlite3"
    acknowledged: set[str] = set()
    for round_no in range(3):
        with orders(file) as (process, ready):
            async with caller(ready["target"]) as midas:

                async def notify(order_no: str) -> None:
                    if await midas.notify("RefundSuccess", order_no, 1) == "OK":
                        acknowledged.add(order_no)
                        if len(acknowledged) >= 100 * (round_no + 1):  # noqa: B023
                            process.kill()

                await asyncio.gather(*(notify(f"o-{n}") for n in range(round_no, 1000)))
        book = OrderBook(file)
        kept = [each.order_no for each in book.received()]
        book.close()
        assert acknowledged <= set(kept)
        assert len(kept) == len(set(kept))
    assert len(acknowledged) >= 300


def test_sigterm_ends_with_0(tmp_path: Path) -> None:
    """Ready line, then a clean end."""
    with orders(tmp_path / "orders.sqlite3") as (process, ready):
        assert ready["ok"] is True
        assert ready["environment"] == {"ORDER_TARGET": ready["target"]}
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0


async def test_show_prints_an_order(tmp_path: Path) -> None:
    """From the file alone, while the service runs; an order without notifications is NEW."""
    file = tmp_path / "orders.sqlite3"
    with orders(file) as (_, ready):
        async with caller(ready["target"]) as midas:
            await midas.notify("PayOrderSuccess", "o-1", 1)
        (status, shown), (unknown_status, unknown) = show(file, "o-1"), show(file, "o-2")
    assert (status, shown["ok"]) == (0, True)
    assert (shown["state"], shown["pay_order_success"], shown["amount_paid"]) == ("PAID", 1, 100)
    assert (unknown_status, unknown["ok"]) == (1, False)
    assert unknown["error"]["reason"] == "NOT_FOUND"
    assert (unknown["state"], unknown["last_sequence"]) == ("NEW", 0)
    assert unknown["pay_order_success"] == 0


def show(file: Path, order_no: str) -> tuple[int, dict[str, Any]]:
    """`midas orders --show`: its status and what it prints."""
    done = command("--file", str(file), "--show", order_no)
    return done.returncode, json.loads(done.stdout)


def command(*options: str) -> subprocess.CompletedProcess[str]:
    """`midas orders` with these options."""
    return subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=60)


def test_failures_are_sentences(tmp_path: Path) -> None:
    """No file to show: status 1. A folder that does not exist, ports in use: 2, as for `serve`."""
    file, nowhere = str(tmp_path / "orders.sqlite3"), str(tmp_path / "no" / "orders.sqlite3")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for status, text, options in (
            (1, "orders.sqlite3", ["--show", "o-1", "--file", nowhere]),
            (2, "orders.sqlite3", ["--port", "0", "--control-port", "0", "--file", nowhere]),
            (2, f":{port}: another", ["--port", port, "--control-port", "0", "--file", file]),
            (2, f":{port}: another", ["--port", "0", "--control-port", port, "--file", file]),
        ):
            done = command(*options)
            assert done.returncode == status
            assert text in done.stderr
            assert len(done.stderr.splitlines()) == 2, done.stderr


def test_it_imports_nothing_of_the_service() -> None:
    """Only the generated stubs: neither side can hide the other's mistake."""
    code = (
        "import sys, midas.sandbox.orders.server\n"
        "ours = {n for n in sys.modules if n.startswith('midas.')}\n"
        "allowed = ('midas.sandbox', 'midas.v1', 'midas.order')\n"
        "assert all(n.startswith(allowed) for n in ours), ours\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "assert not names & {'sqlalchemy', 'pingpp', 'pydantic', 'requests'}\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "COVERAGE_PROCESS_START"}
    ran = subprocess.run([sys.executable, "-c", code], timeout=60, env=environment)
    assert ran.returncode == 0
