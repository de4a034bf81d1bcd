"""Real processes for the fault tests: Midas, its victims, and a sandbox to talk to.

`Harness.close` ends everything that a test starts. It also reads all logs for secrets.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from midas.cli.keys import make_keys
from midas.sandbox.app import SandboxOptions, SandboxServer
from midas.sandbox.request_log import LoggedRequest
from midas.v1 import payment_service_pb2 as pb
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub
from tests.faults.caller import charge_request, refund_request
from tests.faults.logged import LoggedProcess
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from midas.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

Answer = TypeVar("Answer")
Kind = TypeVar("Kind", bound=LoggedProcess)

ROOT = Path(__file__).resolve().parent.parent.parent
POLL_S = 0.02
CALL_TIMEOUT_S = 100.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
CHARGES = "/v1/charges"
REFUNDS = "/v1/charges/[^/]+/refunds"
UNHURRIED = {
    "PSP_CONNECT_TIMEOUT_S": "30",
    "PSP_TOTAL_TIMEOUT_S": "60",
    "SETTLE_WINDOW_S": "60",
    "DRAIN_TIMEOUT_S": "100",
}
"""Settings with which a busy machine is never taken for a Ping++ that is away."""


@dataclass(frozen=True)
class Keys:
    """Both key pairs of a merchant at Ping++, made for one run of the tests."""

    private: Path
    merchant_public: str
    pingpp_private: str

    @classmethod
    def made_in(cls, folder: Path) -> "Keys":
        """New ones."""
        merchant, pingpp = make_keys(folder, "merchant"), make_keys(folder, "pingpp")
        return cls(merchant.private, merchant.public.read_text(), pingpp.private.read_text())

    @property
    def secret_lines(self) -> list[str]:
        """What of the private keys would show in a leak."""
        text = self.private.read_text() + self.pingpp_private
        return [each for each in text.splitlines() if not each.startswith("-----")]


class Midas(LoggedProcess):
    """One process of it."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        super().__init__(process, name)
        self.port = 0
        self._channel: aio.Channel | None = None

    @property
    def channel(self) -> aio.Channel:
        """A connection to it."""
        if self._channel is None:
            self._channel = aio.insecure_channel(f"127.0.0.1:{self.port}")
        return self._channel

    @property
    def stub(self) -> "PaymentServiceAsyncStub":
        """A caller's stub of the service."""
        return PaymentServiceStub(self.channel)

    async def charge(self, order_no: str, **changes: Any) -> pb.ChargeResponse:
        """Call Charge."""
        request = charge_request(order_no, **changes)
        return await self.stub.Charge(request, timeout=CALL_TIMEOUT_S)

    async def refund(self, refund_no: str, order_no: str, **changes: Any) -> pb.RefundResponse:
        """Call Refund."""
        request = refund_request(refund_no, order_no, **changes)
        return await self.stub.Refund(request, timeout=CALL_TIMEOUT_S)

    async def query(self, order_no: str, *, refresh: bool = False) -> pb.QueryResponse:
        """Call Query."""
        request = pb.QueryRequest(order_no=order_no, refresh=refresh)
        return await self.stub.Query(request, timeout=CALL_TIMEOUT_S)

    def watch(self) -> Any:
        """The stream of health states, beginning with the present one."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        return stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)

    async def health(self, wanted: Any) -> None:
        """Wait for this state of the health service."""
        watch = self.watch()
        async with asyncio.timeout(PATIENCE_S):
            while (await watch.read()).status != wanted:
                pass
        watch.cancel()

    async def close(self) -> None:
        """See `LoggedProcess`."""
        if self._channel is not None:
            await self._channel.close()
        await super().close()


class Harness:
    """A sandbox, and the processes of one test."""

    def __init__(self, folder: Path, keys: Keys, **options: Any) -> None:
        """`options`: of the sandbox."""
        self.folder = folder
        self.keys = keys
        self.processes: list[LoggedProcess] = []
        self.public_key = folder / "pingpp_public_key.pem"
        self.sandbox = SandboxServer(
            SandboxOptions(
                merchant_public_key=keys.merchant_public,
                strict=True,
                signing_private_key=keys.pingpp_private,
                public_key_path=self.public_key,
                **options,
            )
        )

    async def open(self) -> None:
        """Start the sandbox."""
        await self.sandbox.start()

    async def close(self) -> None:
        """End everything, print the logs for a failure, and look for what must not be in them."""
        await asyncio.gather(*(each.close() for each in self.processes))
        await self.sandbox.stop()
        for each in self.processes:
            sys.stdout.write(f"--- {each.name} ({each.process.returncode})\n")
            sys.stdout.write("\n".join(each.log) + "\n")
        logged = "\n".join(line for each in self.processes for line in each.log)
        for secret in (self.sandbox.options.key(), "-----BEGIN", *self.keys.secret_lines):
            assert secret not in logged, "I15: a secret in a log"
        assert "Traceback" not in logged, "I15: the text of an exception in a log"

    def settings(self, database_url: str, **changes: str) -> dict[str, str]:
        """The environment of a Midas that talks to the sandbox, with short windows."""
        return {
            "PATH": os.environ["PATH"],
            "PORT": "0",
            "DATABASE_URL": database_url,
            "PINGPP_API_BASE": self.sandbox.url,
            "PINGPP_API_KEY": self.sandbox.options.key(),
            "PINGPP_APP_ID": self.sandbox.options.app_id,
            "PINGPP_PRIVATE_KEY_PATH": str(self.keys.private),
            "PINGPP_PUBLIC_KEY_PATHS": str(self.public_key),
            "PSP_CONNECT_TIMEOUT_S": "1",
            "PSP_TOTAL_TIMEOUT_S": "2",
            "SETTLE_WINDOW_S": "2",
            "COMMIT_PATIENCE_S": "4",
            "DRAIN_TIMEOUT_S": "1",
        } | changes

    async def launch(
        self, database_url: str, *arguments: str, name: str = "midas", **changes: str
    ) -> Midas:
        """A Python process with these settings; it may still fail to start."""
        environment = self.settings(database_url, **changes)
        return await self.spawn(Midas, arguments or ("-m", "midas", "serve"), environment, name)

    async def spawn(
        self, kind: type[Kind], arguments: Sequence[str], environment: Mapping[str, str], name: str
    ) -> Kind:
        """A Python process of any kind, ended with the test."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        spawned = kind(process, name)
        self.processes.append(spawned)
        return spawned

    async def serve(
        self, database_url: str, *arguments: str, name: str = "midas", **changes: str
    ) -> Midas:
        """The same, once it takes calls."""
        midas = await self.launch(database_url, *arguments, name=name, **changes)
        midas.port = (await midas.logged("serving"))["port"]
        await midas.health(SERVING)
        return midas

    def fault(self, kind: str, method: str = "POST", path: str = CHARGES, **more: Any) -> None:
        """Have the sandbox do this to the next `count` requests that match (None: to all)."""
        count = more.pop("count", 1)
        match = {"method": method, "path": f"^{path}$"}
        self.sandbox.faults.add({"match": match, "count": count, "action": {"kind": kind, **more}})

    def posts(self, order_no: str) -> list[LoggedRequest]:
        """What asked the sandbox for a charge of this order; its subject is the order's number."""
        requests = self.sandbox.requests.matching("POST", CHARGES)
        return [each for each in requests if json.loads(each.body)["subject"] == order_no]

    def refund_posts(self, refund_no: str) -> list[LoggedRequest]:
        """What asked the sandbox for this refund."""
        requests = self.sandbox.requests.matching("POST", REFUNDS)
        return [
            each for each in requests if json.loads(each.body)["metadata"]["refund_no"] == refund_no
        ]

    def pay(self, response: pb.ChargeResponse) -> None:
        """The payer pays."""
        self.sandbox.lookalike.pay(response.charge.charge_id)

    async def paid(self, midas: Midas, order_no: str) -> pb.ChargeResponse:
        """A charge of 100 fen that is paid, though Midas does not know of the payment yet."""
        response = await midas.charge(order_no)
        self.pay(response)
        return response


async def until(
    condition: Callable[[], object], why: str = "", patience_s: float = PATIENCE_S
) -> None:
    """Wait for it, for as long as `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {why}"
        await asyncio.sleep(POLL_S)


async def eventually(
    ask: Callable[[], Awaitable[Answer]], holds: Callable[[Answer], object]
) -> Answer:
    """Ask until the answer is as wanted, for as long as PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds(answer := await ask()):
        assert time.monotonic() < deadline, f"never came true; last: {answer}"
        await asyncio.sleep(POLL_S)
    return answer
