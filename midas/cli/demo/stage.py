"""The stage: keys, the sandbox and Midas as processes of their own, and the folder they live in."""

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

from midas.cli.demo.books import Books
from midas.cli.demo.lookalike import Lookalike
from midas.cli.demo.process import Process
from midas.cli.keys import KeyFiles, make_keys
from midas.cli.trouble import ExitStatus, Failed, Trouble
from midas.cli.wire import Wire, connect
from midas.psp.signing import Signer, Verifier
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything a row can reach."""

    payments: PaymentServiceStub
    lookalike: Lookalike
    books: Books
    target: str


@contextmanager
def put_up(keep: Path | None) -> Iterator[Stage]:
    """Start everything, and stop and remove it again, whatever happens in between.

    With `keep` the logs, the ledger and the database stay in that folder; the keys never stay.
    Raises Failed when something does not start.
    """
    with ExitStack() as stack:
        stack.enter_context(_stopping_on_signals())
        folder = stack.enter_context(_folder(keep))
        merchant = make_keys(folder / "keys", "merchant")
        sandbox = stack.enter_context(_sandbox(folder, merchant))
        exports = sandbox.wait_ready()["environment"]
        server = stack.enter_context(_server(folder, merchant, exports))
        target = f"127.0.0.1:{server.wait_ready()['port']}"
        channel = stack.enter_context(connect(Wire(target)))
        yield Stage(
            PaymentServiceStub(channel),
            _lookalike(exports, merchant),
            Books(folder / "midas.sqlite3"),
            target,
        )


def _sandbox(folder: Path, merchant: KeyFiles) -> Process:
    options = ["--port", "0", "--merchant-public-key", str(merchant.public)]
    ledger = ["--ledger", str(folder / "ledger.jsonl")]
    return Process("sandbox", ["sandbox", "--json", *options, *ledger], {}, folder)


def _server(folder: Path, merchant: KeyFiles, exports: dict[str, str]) -> Process:
    own = {
        "ENV": "development",
        "IP": "127.0.0.1",
        "PORT": "0",
        "DATABASE_URL": f"sqlite:///{folder / 'midas.sqlite3'}",
        "PINGPP_PRIVATE_KEY_PATH": str(merchant.private),
    }
    return Process("midas", ["serve"], {**exports, **own}, folder)


def _lookalike(exports: dict[str, str], merchant: KeyFiles) -> Lookalike:
    return Lookalike(
        url=exports["PINGPP_API_BASE"],
        api_key=exports["PINGPP_API_KEY"],
        signer=Signer(merchant.private.read_text()),
        verifier=Verifier([Path(exports["PINGPP_PUBLIC_KEY_PATHS"]).read_text()]),
    )


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
