"""One process of Midas as the machine runs it, and what may be asked of it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from midas.errors import MidasError
from midas.flows.announce import Announcer
from midas.flows.inbox import Inbox
from midas.flows.payment_calls import Payments
from midas.psp.breaker import BreakerLimits
from midas.psp.client import PingppClient
from midas.psp.options import PspOptions
from midas.storage.database import Database
from tests.fakes.psp import API_BASE
from tests.faults.crash import Crash, Process
from tests.faults.machine_ports import MachineStore, MachineWire
from tests.faults.world import Failed

if TYPE_CHECKING:
    from tests.faults.machine_world import World


class Named(Process):
    """A process with a name for the queue at the gate."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


@dataclass(slots=True)
class Replica:
    """One process of Midas with connections of its own."""

    process: Named
    payments: Payments
    inbox: Inbox
    announcer: Announcer


Work = Callable[[Replica], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class HungUp:
    """The caller was gone before there was an answer."""


def started(world: "World", name: str, database: Database) -> Replica:
    """A process that knows nothing but what is on disk."""
    process = Named(name)
    options = PspOptions(
        api_key="sk_test_000000000000000000000000",
        app_id="app_1",
        api_base=API_BASE,
        # It measures by the machine's clock, which has no place in a run that can be repeated.
        breaker=BreakerLimits(failures=1_000_000),
    )
    psp = PingppClient(
        options,
        MachineWire(world, process),
        monotonic=lambda: world.clock.now.timestamp(),  # noqa: PLW0108 - now moves
    )
    store = MachineStore(world, process, database)
    clock = _Waiting(world, process)
    # A process asks how long looks are due now and then: one run of a schedule asks, another not.
    payments = Payments(store, psp, clock, poll_overdue=timedelta.max)
    return Replica(process, payments, Inbox(payments.ports), Announcer(store, clock))


def resolve_due(replica: Replica) -> Awaitable[int]:
    """Look for what is not known."""
    return replica.payments.resolve_due()


def apply_due(replica: Replica) -> Awaitable[int]:
    """Look at the events that wait."""
    return replica.inbox.apply_due()


def outcome(task: asyncio.Task[Any]) -> Any:
    """What the caller got."""
    if task.cancelled():
        return HungUp()
    error = task.exception()
    if isinstance(error, MidasError | Crash):
        return Failed(error)
    return task.result()


class _Waiting:
    """Waiting moves this world's time."""

    def __init__(self, world: "World", process: Named) -> None:
        self._world = world
        self._process = process

    async def sleep(self, seconds: float) -> None:
        """No time passes outside."""
        async with self._world.gate.turn(f"{self._process.name} sleep"):
            self._process.still_alive()
            self._world.clock.pass_time(seconds)

    def monotonic(self) -> float:
        """Seconds of this world."""
        return self._world.clock.now.timestamp()
