"""How a new event goes out: to which URLs, when, how often and with which body."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from midas.sandbox.errors import Json
from midas.sandbox.faults import Fault, FaultList, Target
from midas.sandbox.webhook_faults import Moment
from midas.sandbox.webhook_sends import Delivery, Message

TEST_DUPLICATE = "001"
TEST_DELAY = "002"
TEST_DELAY_S = 300.0
"""What `metadata[pingpp_tc]` asks for in test mode (pingpp.md section 5)."""


class Planner:
    """Makes the deliveries of an event, as the faults and the charge's metadata want them."""

    def __init__(
        self, faults: FaultList, find: Callable[[str], Json | None], now: Callable[[], float]
    ) -> None:
        self._faults = faults
        self._find = find
        self._now = now
        self._numbers = itertools.count(1)

    def of_event(self, event: Json, urls: Sequence[str]) -> list[Delivery]:
        """The deliveries of a new event to these URLs, in the order in which they begin."""
        message = Message(event)
        return [one for url in urls for one in self._to_url(event, url, message)]

    def plain(self, event: Json, url: str, message: Message | None = None) -> Delivery:
        """A delivery of the right event, once and now."""
        about = event["data"]["object"]
        charge = self._find(about.get("charge", about["id"])) or {}
        return Delivery(
            seq=next(self._numbers),
            event_id=event["id"],
            type=event["type"],
            order_no=charge.get("order_no"),
            channel=charge.get("channel"),
            url=url,
            message=message or Message(event),
            due=self._now(),
        )

    def _to_url(self, event: Json, url: str, message: Message) -> list[Delivery]:
        first = self.plain(event, url, message)
        taken = self._faults.take(target_of(first, "event"))
        first.due += sum(f.parameters["seconds"] for f in taken if f.kind == "webhook_delay")
        fault = next((fault for fault in taken if fault.kind != "webhook_delay"), None)
        planned = [first] if fault is None else self._spoilt(first, event, fault)
        wish = None if event["livemode"] else event["data"]["object"]["metadata"].get("pingpp_tc")
        if wish == TEST_DELAY:
            for delivery in planned:
                delivery.due += TEST_DELAY_S
        if wish == TEST_DUPLICATE:
            planned.append(self._copy(first))
        return planned

    def _spoilt(self, first: Delivery, event: Json, fault: Fault) -> list[Delivery]:
        asked = fault.parameters
        match fault.kind:
            case "webhook_duplicate":
                copies = [first, *(self._copy(first) for _ in range(asked["times"] - 1))]
                return copies if asked["together"] else _one_after_the_other(copies)
            case "webhook_reorder":
                first.behind = asked["behind"]
                first.due += asked["at_most_s"]
                return [first]
            case "webhook_alter":
                wrong = self._copy(first)
                wrong.message = Message(_altered(event, asked))
                both = {"never": [wrong], "first": [first, wrong], "last": [wrong, first]}
                return _one_after_the_other(both[asked["genuine"]])
            case _:
                raise AssertionError(f"{fault.kind} is no fault of an event")

    def _copy(self, one: Delivery) -> Delivery:
        return Delivery(
            seq=next(self._numbers),
            event_id=one.event_id,
            type=one.type,
            order_no=one.order_no,
            channel=one.channel,
            url=one.url,
            message=one.message,
            due=one.due,
        )


def target_of(delivery: Delivery, moment: Moment) -> Target:
    """What a fault is compared with, when the event is new or when it is sent."""
    return Target(
        method="POST",
        path=delivery.url,
        order_no=delivery.order_no,
        channel=delivery.channel,
        event=delivery.type,
        moment=moment,
    )


def _one_after_the_other(deliveries: list[Delivery]) -> list[Delivery]:
    for earlier, later in itertools.pairwise(deliveries):
        earlier.then.append(later)
    return deliveries[:1]


def _altered(event: Json, asked: Json) -> Json:
    about = {**event["data"]["object"], **asked["object"]}
    return {**event, "data": {"object": about}, **asked["event"]}
