"""What the scenarios work with: orders, notifications, and the judging of what comes back."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from google.protobuf.message import Message
from grpc import aio

from midas.cli.call_errors import Failed
from midas.cli.contract_kit.findings import Findings
from midas.cli.contract_kit.notices import METHODS, notice
from midas.cli.contract_kit.probes import Probe
from midas.cli.contract_kit.target import PARKS, Answer, Target
from midas.runtime.command_errors import Trouble

BACK_S = 60.0
"""How long an order service may take to come back after --restart-command."""

NOTICED_S = 5.0
"""How long the end of a connection may take to be noticed after --restart-command has ended."""


class NotTakenError(Exception):
    """A plain notification was not acknowledged, so what builds on it cannot be judged."""

    def __init__(self, method: str, what: str) -> None:
        super().__init__(f"{method} is not taken: {what}")
        self.method = method


@dataclass(frozen=True, slots=True)
class Probes:
    """The commands that were given."""

    effects: Probe | None = None
    restart: Probe | None = None
    create: Probe | None = None


@dataclass(slots=True)
class Kit:
    """One run against one order service."""

    target: Target
    findings: Findings
    probes: Probes
    orders: str
    """How the numbers of this run's orders begin."""
    amount: int
    reconnect: Callable[[], aio.Channel]
    """Opens a fresh channel after a restart."""
    refused: set[str] = field(default_factory=set)
    """The calls that the order service did not take although nothing was unusual."""
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _sent: dict[tuple[str, int], tuple[str, Message]] = field(default_factory=dict)

    # Sending

    async def order(self) -> str:
        """A fresh order that the order service knows, if it has to."""
        order_no = f"{self.orders}{next(self._numbers)}"
        if self.probes.create is not None:
            await self.probes.create.run(order_no=order_no, amount=self.amount)
        return order_no

    def made(
        self, order_no: str, method: str, sequence: int, about: int = 0, **flags: bool
    ) -> Message:
        """Make a notification and keep it, so that its repeats are the same to the byte."""
        request = notice(method, order_no, sequence, self.amount, flags, about)
        self._sent[order_no, sequence] = method, request
        return request

    async def send(
        self, order_no: str, method: str, sequence: int, about: int = 0, **flags: bool
    ) -> Answer:
        """Send a new notification once."""
        request = self.made(order_no, method, sequence, about, **flags)
        return self._in_time(order_no, sequence, await self.target.call(method, request))

    async def again(self, order_no: str, sequence: int) -> Answer:
        """Send the same notification once more."""
        method, request = self._sent[order_no, sequence]
        return self._in_time(order_no, sequence, await self.target.call(method, request))

    async def again_until_taken(self, order_no: str, sequence: int) -> Answer:
        """Send the same notification until it is answered OK or parks the order."""
        return await self.target.call_until_taken(*self._sent[order_no, sequence])

    async def given(self, order_no: str, *methods: str) -> None:
        """Send these, from sequence 1 on; each must be acknowledged. Raises NotTakenError."""
        for sequence, method in enumerate(methods, 1):
            answer = await self.send(order_no, method, sequence)
            self.expect("takes-every-kind", answer, f"{method} of {order_no}/{sequence}")
            if not answer.ok:
                raise NotTakenError(method, f"{order_no}/{sequence} was answered {answer}")

    async def restart(self) -> bool:
        """Run --restart-command and wait until it serves again. Returns whether it went away."""
        if self.probes.restart is None:
            return False
        gone = asyncio.create_task(self.target.gone())
        try:
            await self.probes.restart.run()
            await asyncio.wait((gone,), timeout=NOTICED_S)
            was_gone = gone.done()
        finally:
            gone.cancel()
        channel = self.reconnect()
        await connected(channel, BACK_S, "did not come back after --restart-command")
        self.target = Target(channel, self.target.timeout_s)
        return was_gone

    # Judging

    def expect(self, promise: str, answer: Answer, what: str) -> None:
        """Record whether the call was answered OK."""
        self.findings.record(promise, answer.ok, f"{what}: answered {answer}{_parks(answer)}")

    async def expect_effects(self, promise: str, order_no: str, **wanted: int) -> None:
        """Record whether the order has had this many effects of these calls, and none of others.

        More effects break `promise`; fewer break `applies-once`, in every scenario.
        """
        found = await self.effects(order_no)
        if found is None:
            return
        for method in METHODS:
            count, right = found[method], wanted.get(method, 0)
            what = f"{order_no}: {count} effects of {method} instead of {right}"
            self.findings.record(promise, count <= right, what)
            if right:
                self.findings.record("applies-once", count >= right, what)

    async def effects(self, order_no: str) -> dict[str, int] | None:
        """How often each call had an effect; None if nothing shows it."""
        probe = self.probes.effects
        return None if probe is None else await probe.effects(order_no)

    def _in_time(self, order_no: str, sequence: int, answer: Answer) -> Answer:
        slow = answer.code == "DEADLINE_EXCEEDED"
        what = f"{order_no}/{sequence}: no answer within {self.target.timeout_s:g} s"
        self.findings.record("answers-in-time", not slow, what)
        return answer


async def connected(channel: aio.Channel, timeout_s: float, otherwise: str) -> None:
    """Wait for the connection. Raises Failed."""
    try:
        async with asyncio.timeout(timeout_s):
            await channel.channel_ready()
    except TimeoutError:
        advice = "Check --target and the TLS options, and that it serves gRPC there."
        text = f"the order service {otherwise}"
        raise Failed(Trouble("ORDER_SERVICE_UNREACHABLE", text, advice=advice)) from None


def _parks(answer: Answer) -> str:
    return ", which parks the order" if answer.code in PARKS else ""
