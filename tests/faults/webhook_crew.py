"""Two gateways on one port, two Midas on one database, one order service: each kept running."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.faults.counted_orders import COUNTED_ORDERS
from tests.faults.logged import LoggedProcess
from tests.faults.processes import SERVING, Midas, until
from tests.faults.test_kill import KILLED
from tests.faults.webhook_stage import Chain, Gateway, Orders, free_port

LIMITS = {"NOTIFICATION_LEASE": 3}


@dataclass
class Place:
    """One process of the crew, started again whenever it was killed."""

    name: str
    launch: Callable[[], Awaitable[LoggedProcess]]
    present: LoggedProcess | None = None
    started: int = 0

    async def keep(self) -> None:
        """Keep it running until cancelled. AssertionError if it ever ends by itself."""
        while True:
            self.present = launched = await self.launch()
            self.started += 1
            status = await launched.ended(None)
            assert status == KILLED, f"{self.name} ended by itself: {status}"

    @property
    def serves(self) -> bool:
        """Whether it takes calls. The order service does from the moment that it is here."""
        present = self.present
        return present is not None and (isinstance(present, Orders) or present.has("serving"))

    def kill(self) -> None:
        """`kill -9`."""
        assert self.present is not None
        self.present.process.kill()
        self.present = None


@dataclass
class Crew:
    """All places. `ports` are those of the Midas."""

    chain: Chain
    ports: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)
    """Who was killed when, in seconds since the start."""

    def __post_init__(self) -> None:
        self.ports = [self.chain.midas_port, free_port()]
        for number, port in enumerate(self.ports):
            self.places.append(Place(f"midas {number}", lambda port=port: self._midas(port)))  # type: ignore[misc]
            nearest = [port, *(each for each in self.ports if each != port)]
            self.places.append(
                Place(f"gateway {number}", lambda nearest=nearest: self._gateway(nearest))  # type: ignore[misc]
            )
        self.places.append(Place("orders", lambda: self.chain.orders(COUNTED_ORDERS)))
        self._started_at = time.monotonic()
        self._keeping: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to keep all of them running."""
        self._keeping = [asyncio.create_task(each.keep()) for each in self.places]

    async def stop(self) -> None:
        """Keep them no more. Raises what went wrong."""
        for each in self._keeping:
            each.cancel()
        ends = await asyncio.gather(*self._keeping, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def all_serve(self) -> None:
        """Wait until all of them take calls."""
        await until(lambda: all(each.present for each in self.places), "all places filled")
        for place in self.places:
            if isinstance(place.present, Midas):
                place.present.port = (await place.present.logged("serving"))["port"]
                await place.present.health(SERVING)
            if isinstance(place.present, Gateway):
                await place.present.serving()
                await place.present.connected()

    def kill_one(self, kind: str, rng: random.Random) -> None:
        """One place of this kind that takes calls; none while all of them are on their way up."""
        places = [each for each in self.places if each.name.startswith(kind) and each.serves]
        if places:
            place = rng.choice(places)
            place.kill()
            self.kills[kind] += 1
            self.trace.append(f"{time.monotonic() - self._started_at:.1f} {place.name}")

    async def _midas(self, port: int) -> Midas:
        settings = {"PORT": str(port), "WORKERS": "2"}
        return await self.chain.launch_midas(limits=LIMITS, **settings)

    async def _gateway(self, ports: list[int]) -> Gateway:
        target = "ipv4:" + ",".join(f"127.0.0.1:{each}" for each in ports)
        return await self.chain.launch_gateway(WEBHOOK_REUSE_PORT="true", MIDAS_TARGET=target)
