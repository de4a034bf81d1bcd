"""The stage: keys, the sandbox and Midas as processes of their own, and how to reach them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from midas.cli.demo.books import Books
from midas.cli.demo.launch import Launched
from midas.cli.demo.lookalike import Lookalike
from midas.cli.keys import KeyFiles, make_keys
from midas.cli.wire import Wire, connect
from midas.psp.signing import Signer, Verifier
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub

DATABASE = "midas.sqlite3"


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything a row can reach."""

    payments: PaymentServiceStub
    lookalike: Lookalike
    books: Books
    target: str


@contextmanager
def put_up(processes: Launched) -> Iterator[Stage]:
    """Let the processes be a sandbox and a Midas that uses it. Raises Failed if one cannot."""
    merchant = make_keys(processes.keys, "merchant")
    processes.sandbox.run(_sandbox(processes.folder, merchant))
    exports = processes.sandbox.wait_ready()["environment"]
    processes.server.run(["serve"], exports | _settings(processes.folder, merchant))
    target = f"127.0.0.1:{processes.server.wait_ready()['port']}"
    with connect(Wire(target)) as channel:
        yield Stage(
            PaymentServiceStub(channel),
            _lookalike(exports, merchant),
            Books(processes.folder / DATABASE),
            target,
        )


def _sandbox(folder: Path, merchant: KeyFiles) -> list[str]:
    options = ["--port", "0", "--merchant-public-key", str(merchant.public)]
    return ["sandbox", "--json", *options, "--ledger", str(folder / "ledger.jsonl")]


def _settings(folder: Path, merchant: KeyFiles) -> dict[str, str]:
    return {
        "ENV": "development",
        "IP": "127.0.0.1",
        "PORT": "0",
        "DATABASE_URL": f"sqlite:///{folder / DATABASE}",
        "PINGPP_PRIVATE_KEY_PATH": str(merchant.private),
    }


def _lookalike(exports: dict[str, str], merchant: KeyFiles) -> Lookalike:
    return Lookalike(
        url=exports["PINGPP_API_BASE"],
        api_key=exports["PINGPP_API_KEY"],
        signer=Signer(merchant.private.read_text()),
        verifier=Verifier([Path(exports["PINGPP_PUBLIC_KEY_PATHS"]).read_text()]),
    )
