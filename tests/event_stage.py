"""One Midas, its sandbox and its inbox, in memory: what tests of events play on."""

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from midas.event import EventRecord
from midas.flows.apply_event import Recorded
from midas.flows.inbox import Inbox
from midas.flows.terms import RefundTerms
from midas.payment import Notification, Order
from midas.psp.sdk import Prepared
from midas.psp.transport import Sent
from midas.sandbox.forgery import compact
from tests.fakes.psp import client_over
from tests.faults.chooser import Chooser
from tests.faults.scenarios import TERMS
from tests.faults.world import TOTAL_TIMEOUT, FaultyWire, World

Event = dict[str, Any]


@dataclass
class Stage:
    """The in-memory world, in which nothing goes wrong by itself, with an inbox."""

    world: World = field(default_factory=lambda: World(Chooser((), most_faults=0), TERMS))

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process on the same disk: nothing is remembered."""
        self.world.start()
        self.inbox = Inbox(self.world.payments.ports)

    async def charge(self, order_no: str = TERMS.order_no, **terms: Any) -> str:
        """An open charge of 100 fen; its id at Ping++."""
        made = await self.world.payments.charge(replace(TERMS, order_no=order_no, **terms))
        return str(json.loads(made.charge_json)["id"])

    async def paid(self, order_no: str = TERMS.order_no, **terms: Any) -> str:
        """A charge that is paid, and Midas knows it by its webhook."""
        charge_id = await self.charge(order_no, **terms)
        self.world.lookalike.pay(charge_id)
        await self.record(self.event("charge.succeeded"))
        return charge_id

    async def refund(self, refund_no: str = "r1", amount: int = 40) -> None:
        """Ask for a refund of the order."""
        order_no = self.world.terms.order_no
        await self.world.payments.refund(RefundTerms(refund_no, order_no, "", amount, "back"))

    def event(self, kind: str) -> Event:
        """The newest event of this type, as a copy that may be changed."""
        events = self.world.lookalike.events.values()
        found = [each for each in events if each["type"] == kind]
        copied: Event = json.loads(compact(found[-1]))
        return copied

    async def record(self, event: Event | bytes) -> Recorded:
        """The webhook reaches Midas."""
        body = event if isinstance(event, bytes) else compact(event)
        return await self.inbox.record(body)

    async def order(self, order_no: str = TERMS.order_no) -> Order:
        """What is on disk."""
        return await self.world.disk.load(order_no)

    async def notices(self, order_no: str = TERMS.order_no) -> list[str]:
        """The kinds of all notifications of the order."""
        return [each.kind for each in await self.notifications(order_no)]

    async def notifications(self, order_no: str = TERMS.order_no) -> list[Notification]:
        """All notifications of the order."""
        return await self.world.disk.notifications(order_no)

    async def stored(self, event: Event) -> EventRecord:
        """The event on disk, which must be there."""
        found = await self.world.disk.event(event["id"])
        assert found is not None
        return found

    async def look(self, times: int = 1, pause_s: float = 61) -> None:
        """The process looks at the events that wait, again and again."""
        for _ in range(times):
            await self.inbox.apply_due()
            self.world.pass_time(pause_s)


def about(event: Event, **fields: Any) -> Event:
    """The event with other fields in its object."""
    event["data"]["object"] |= fields
    return event


def states(order: Order) -> Sequence[str]:
    """The states of the order's charges and then of its refunds."""
    charges = [str(each.state) for each in order.charges]
    return charges + [str(each.state) for each in order.refunds]


def before_answer(stage: Stage, path: str, act: Callable[[], Awaitable[Sent | None]]) -> None:
    """Have Ping++ carry out the POSTs to a path ending so, then `act`, and only then answer.

    What `act` gives is the answer then. Until the stage is restarted.
    """

    class Overtaken(FaultyWire):
        async def send(self, request: Prepared, limit: timedelta) -> Sent:
            answer = await super().send(request, limit)
            if request.method == "POST" and request.url.endswith(path):
                answer = await act() or answer
            return answer

    wire = Overtaken(stage.world, stage.world.process)
    world = stage.world
    psp = client_over(wire, world.lookalike.app_id, TOTAL_TIMEOUT, lambda: world.seconds)
    stage.world.payments.ports = replace(stage.world.payments.ports, psp=psp)


def logged(caplog: pytest.LogCaptureFixture, event: str) -> int:
    """How often it was logged as an error: an alarm."""
    alarms = [each for each in caplog.records if each.levelno == logging.ERROR]
    return sum(each.message == event for each in alarms)
