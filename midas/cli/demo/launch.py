"""The demo's processes, started before anything that takes long is imported here."""

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from midas.cli.call_errors import Failed
from midas.cli.demo.process import Process
from midas.runtime.command_errors import ExitStatus, Trouble


@dataclass(frozen=True, slots=True)
class Launched:
    """Processes that wait for the program to be, and the folder of everything in this run."""

    sandbox: Process
    server: Process
    orders: Process
    gateway: Process
    folder: Path
    stack: ExitStack

    def another_orders(self) -> Process:
        """One more process that waits to be an order service. It is stopped with the others."""
        return self.stack.enter_context(_orders("orders-again", self.folder))

    @property
    def keys(self) -> Path:
        """A folder that only the owner can enter, and that never stays."""
        return self.folder / "keys"


@contextmanager
def launched(keep: Path | None) -> Iterator[Launched]:
    """Start the processes. At the end, in every case, stop them and remove everything.

    With `keep` the logs, the ledger and the databases stay in that folder; the keys never stay.
    Raises Failed when that folder has something in it.
    """
    with ExitStack() as stack:
        stack.enter_context(_stopping_on_signals())
        folder = stack.enter_context(_folder(keep))
        sandbox = stack.enter_context(Process("sandbox", "midas.sandbox.app", folder))
        server = stack.enter_context(Process("midas", "midas.app", folder))
        orders = stack.enter_context(_orders("orders", folder))
        gateway = stack.enter_context(Process("gateway", "webhook_gateway.app", folder))
        yield Launched(sandbox, server, orders, gateway, folder, stack)


def _orders(name: str, folder: Path) -> Process:
    return Process(name, "midas.sandbox.orders.server", folder)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="midas-demo-") as made:
            (Path(made) / "keys").mkdir(mode=0o700)
            yield Path(made)
        return
    folder = keep.resolve()
    if folder.exists() and any(folder.iterdir()):
        message = f"{keep} is not empty; name a folder that is, or one that does not exist"
        raise Failed(Trouble("USAGE", message, status=ExitStatus.USAGE))
    (folder / "keys").mkdir(parents=True, mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder / "keys", ignore_errors=True)


@contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the play as Ctrl-C does: with everything taken down."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, signal.SIGHUP]
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> Any:
    raise KeyboardInterrupt
