"""The stage: its keys, its processes with the part that each has, and how to reach them.

payer ─▶ sandbox ──webhooks──▶ gateway ──▶ order service
            ▲                   │  ▲
            └────── Midas ◀─────┘  └─ notifications
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midas.cli.demo.books import Books
from midas.cli.demo.launch import Launched
from midas.cli.demo.lookalike import Lookalike
from midas.cli.demo.orders import OrderService
from midas.cli.keys import KeyFiles, make_keys
from midas.cli.wire import Wire, connect
from midas.psp.signing import Signer, Verifier
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub

DATABASE = "midas.sqlite3"
WEBHOOK_PATH = "/pingpp/webhooks"


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything a row can reach."""

    payments: PaymentServiceStub
    lookalike: Lookalike
    orders: OrderService
    books: Books
    where: str
    """Where each process listens, as a sentence."""


@contextmanager
def put_up(processes: Launched) -> Iterator[Stage]:
    """Give each process its part and start it. Raises Failed if one does not start."""
    merchant = make_keys(processes.keys, "merchant")
    processes.sandbox.run(_sandbox(processes.folder, merchant))
    orders = OrderService(processes)
    exports = processes.sandbox.wait_ready()["environment"]
    processes.server.run(["serve"], exports | _settings(processes.folder, merchant))
    target = f"127.0.0.1:{processes.server.wait_ready()['port']}"
    gateway = _gateway(processes, exports["PINGPP_PUBLIC_KEY_PATHS"], target, orders.target)
    webhooks = f"http://127.0.0.1:{gateway['port']}{WEBHOOK_PATH}"
    lookalike = _lookalike(exports, merchant)
    lookalike.send_webhooks_to(webhooks)
    where = (
        f"Midas at {target}, the look-alike at {lookalike.url}, the gateway at {webhooks}, "
        f"the order service at {orders.target}{_limits(gateway)}"
    )
    with connect(Wire(target)) as channel:
        books = Books(processes.folder / DATABASE)
        yield Stage(PaymentServiceStub(channel), lookalike, orders, books, where)


def _sandbox(folder: Path, merchant: KeyFiles) -> list[str]:
    options = ["--port", "0", "--merchant-public-key", str(merchant.public)]
    return ["sandbox", "--json", "--strict", *options, "--ledger", str(folder / "ledger.jsonl")]


def _settings(folder: Path, merchant: KeyFiles) -> dict[str, str]:
    return {
        "ENV": "development",
        "IP": "127.0.0.1",
        "PORT": "0",
        "DATABASE_URL": f"sqlite:///{folder / DATABASE}",
        "PINGPP_PRIVATE_KEY_PATH": str(merchant.private),
    }


def _gateway(processes: Launched, public_keys: str, midas: str, orders: str) -> dict[str, Any]:
    """Start the gateway. Returns the fields that it logged while it started, such as `port`."""
    settings = {
        "ENV": "development",
        "IP": "127.0.0.1",
        "WEBHOOK_PORT": "0",
        "WEBHOOK_MPORT": "0",
        "WEBHOOK_PATH": WEBHOOK_PATH,
        "PINGPP_PUBLIC_KEY_PATHS": public_keys,
        "MIDAS_TARGET": midas,
        "ORDER_TARGET": orders,
    }
    processes.gateway.run(settings=settings, program="webhook_gateway")
    return processes.gateway.wait_ready("serving")


def _limits(gateway: dict[str, Any]) -> str:
    if "count" not in gateway:
        return ""
    return f" (open files are few here: the gateway takes {gateway['count']} connections)"


def _lookalike(exports: dict[str, str], merchant: KeyFiles) -> Lookalike:
    return Lookalike(
        url=exports["PINGPP_API_BASE"],
        api_key=exports["PINGPP_API_KEY"],
        signer=Signer(merchant.private.read_text()),
        verifier=Verifier([Path(exports["PINGPP_PUBLIC_KEY_PATHS"]).read_text()]),
    )
