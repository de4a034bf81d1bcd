"""What an attack is played on: a Midas with mutual TLS, good callers, and the attacker."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc import aio

from tests.attacks.good import GoodCallers, Phase, good_callers
from tests.rpc.certificates import Authority, Pair

ROOT = Path(__file__).resolve().parents[2]

CALLS_TAKE_S = "0.005"
TIMEOUT_S = 5.0
"""The deadline of a good call, on a machine that has nothing else to do."""
BEFORE_S = 1.0
AFTER_S = 2.0
NAMING = ("caller_refused", "connections_running_out")
PERMITTED = json.dumps({"order-service": ["midas.v1.PaymentService/*"]})


@dataclass
class Damage:
    """What an attack did."""

    before: Phase = field(default_factory=Phase)
    during: Phase = field(default_factory=Phase)
    after: Phase = field(default_factory=Phase)
    served_again_s: float = 0.0
    """From the attacker's end until every good caller was served."""
    attacker: dict[str, int] = field(default_factory=dict)
    rss_mib: int = 0
    """The most memory of Midas while it was attacked."""
    named: list[dict[str, Any]] = field(default_factory=list)
    """Lines of the log that name a refused caller."""
    ended: int | None = None

    def __str__(self) -> str:
        rows = {
            "attacker": self.attacker,
            "before": self.before,
            "during": self.during,
            "after": self.after,
            "served again after": f"{self.served_again_s:.2f} s",
            "memory": f"{self.rss_mib} MiB",
            "log": [
                {name: line[name] for name in ("reason", "caller", "peer", "count") if name in line}
                for line in self.named
            ],
        }
        return "\n".join(f"  {name:20}{value}" for name, value in rows.items())


@dataclass
class Midas:
    """A process whose log goes to a file, so that nobody has to read it while it is attacked."""

    process: asyncio.subprocess.Process
    log_file: Path

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its lines so far."""
        text = self.log_file.read_text()
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    async def serving(self) -> int:
        """The port, once calls are taken."""
        while True:
            for line in self.log:
                if line["event"] == "serving":
                    port: int = line["port"]
                    return port
            assert self.process.returncode is None, self.log_file.read_text()
            await asyncio.sleep(0.02)

    async def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@dataclass
class Stage:
    """A Midas that serves, and whom it knows."""

    midas: Midas
    port: int
    authority: Authority
    folder: Path

    def channel(self, pair: Pair) -> aio.Channel:
        """A channel of its own for this certificate."""
        credentials = grpc.ssl_channel_credentials(self.authority.pem, pair.key, pair.certificate)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 1000)]
        return aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options)

    def certificate(self, name: str) -> str:
        """A folder with what the attacker shows, under this name."""
        folder = self.folder / name
        folder.mkdir()
        pair = self.authority.issue(name)
        write(folder, pair)
        (folder / "ca.pem").write_bytes(self.authority.pem)
        return str(folder)

    async def attack(
        self, kind: str, *options: str, callers: int = 4, timeout_s: float = TIMEOUT_S
    ) -> Damage:
        """Let him attack while good callers call, with such a deadline; what came of it."""
        damage = Damage()
        async with AsyncExitStack() as stack:
            pair = self.authority.issue("order-service")
            channels = [await stack.enter_async_context(self.channel(pair)) for _ in range(callers)]
            good = await stack.enter_async_context(good_callers(channels, timeout_s))
            await self._play(damage, good, kind, *options)
        damage.ended = await self.midas.stop()
        damage.named = [each for each in self.midas.log if each["event"] in NAMING]
        return damage

    async def _play(self, damage: Damage, good: GoodCallers, kind: str, *options: str) -> None:
        good.phase = damage.before
        await asyncio.sleep(BEFORE_S)
        good.phase = damage.during
        attacking = asyncio.create_task(self._attacker(kind, *options))
        watching = asyncio.create_task(self._watch_memory(damage))
        damage.attacker = await attacking
        damage.served_again_s = await good.served_again()
        good.phase = damage.after
        await asyncio.sleep(AFTER_S)
        watching.cancel()

    async def _attacker(self, kind: str, *options: str) -> dict[str, int]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.attacks.attacker", kind, "--port", str(self.port), *options),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output
        counts: dict[str, int] = json.loads(output)
        return counts

    async def _watch_memory(self, damage: Damage) -> None:
        process = psutil.Process(self.midas.process.pid)
        while True:
            damage.rss_mib = max(damage.rss_mib, process.memory_info().rss >> 20)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def staged(folder: Path, **variables: str) -> AsyncIterator[Stage]:
    """A Midas with mutual TLS that permits `order-service` alone."""
    authority = Authority()
    own = folder / "midas"
    own.mkdir()
    write(own, authority.issue("midas"))
    (own / "ca.pem").write_bytes(authority.pem)
    settings = {
        "TLS_CERT_PATH": str(own / "cert.pem"),
        "TLS_KEY_PATH": str(own / "key.pem"),
        "TLS_CLIENT_CA_PATH": str(own / "ca.pem"),
        "TLS_CALLERS": PERMITTED,
    }
    async with launched(folder, **(settings | variables)) as midas:
        yield Stage(midas, await midas.serving(), authority, folder)


@asynccontextmanager
async def launched(folder: Path, **variables: str) -> AsyncIterator[Midas]:
    """The target as a process, killed at the end if it still runs."""
    env = {"PATH": os.environ["PATH"], "PINGPP_API_KEY": "sk_test_x", "PINGPP_APP_ID": "app_1"}
    log_file = folder / "midas.log"
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *_limited(variables.pop("OPEN_FILES", "")),
            sys.executable,
            *("-m", "tests.attacks.target", variables.pop("CALLS_TAKE_S", CALLS_TAKE_S)),
            cwd=ROOT,
            env=env | {"PORT": "0"} | variables,
            stderr=log,
        )
    try:
        yield Midas(process, log_file)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _limited(open_files: str) -> list[str]:
    """What lets a process have so many open files at the most."""
    return ["sh", "-c", f'ulimit -n {open_files} && exec "$@"', "sh"] if open_files else []


def write(folder: Path, pair: Pair) -> None:
    """A certificate and its key as files."""
    (folder / "cert.pem").write_bytes(pair.certificate)
    (folder / "key.pem").write_bytes(pair.key)
