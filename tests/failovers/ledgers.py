"""What each of the three ledgers has of an order when all is quiet, and which alarms there were."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from midas.payment import JournalEntry, Notification, Order
from midas.sandbox.ledger import Lookalike
from midas.sandbox.orders.order import Accepted
from midas.storage import open_store
from tests.failovers.quiet import Outbox, outboxes
from tests.failovers.stage import Stage
from tests.faults.counted_orders import REPEAT
from tests.faults.logged import LoggedProcess
from tests.faults.order_service import OrderService, Received
from tests.faults.processes import Midas

Line = dict[str, Any]

EVERYTHING = 10**6
_NAMES = ("order_no", "out_trade_no", "charge_id", "refund_no", "refund_id", "event_id")


@dataclass
class Story:
    """One order. All fields but `order_no` are as one of the ledgers or logs has them."""

    order_no: str
    order: Order
    journal: list[JournalEntry]
    notifications: list[Notification]
    outbox: Outbox
    at_psp: list[Line] = field(default_factory=list)
    """Ping++'s charges of it."""
    refunds_at_psp: list[Line] = field(default_factory=list)
    received: list[Accepted] = field(default_factory=list)
    """What the order service accepted."""
    repeats: list[Line] = field(default_factory=list)
    """Notifications that it received besides, without effect."""
    alarms: list[Line] = field(default_factory=list)
    """Lines at level error of some Midas that name the order, or anything of it."""

    @property
    def believed(self) -> OrderService:
        """The order service, as if it had no other order."""
        return OrderService({self.order_no: [as_received(each) for each in self.received]})


async def stories(stage: Stage, order_nos: Iterable[str]) -> list[Story]:
    """One for each order that was begun."""
    boxes = await outboxes(stage.database_url)
    found: dict[str, Story] = {}
    async with await open_store(stage.database_url) as store:
        for order_no in order_nos:
            found[order_no] = Story(
                order_no,
                await store.load(order_no),
                await store.journal(order_no),
                await store.notifications(order_no),
                boxes.get(order_no, Outbox()),
            )
    _add_psp(found, stage.harness.sandbox.lookalike)
    for each in stage.chain.book.received():
        found[each.order_no].received.append(each)
    for line in lines(stage.processes, "orders"):
        if line["event"] == REPEAT:
            found[line["order_no"]].repeats.append(line)
    _add_alarms(found, stage.midas, names(found.values(), stage.harness.sandbox.lookalike))
    return list(found.values())


def as_received(accepted: Accepted) -> Received:
    """What the order service accepted, as the in-memory one has it."""
    request = accepted.request
    charge, refund = request.charge, getattr(request, "refund", None)
    return Received(
        sequence=accepted.sequence,
        change_id=request.notification_id.rpartition("/")[2],
        kind=accepted.kind.upper(),
        out_trade_no=charge.out_trade_no,
        charge_id=charge.charge_id,
        refund_no=refund.refund_no if refund else "",
        refund_id=refund.refund_id if refund else "",
        amount=refund.amount if refund else charge.amount,
        late=getattr(request, "late", False),
        duplicate_payment=getattr(request, "duplicate_payment", False),
    )


def names(found: Iterable[Story], lookalike: Lookalike) -> dict[str, str]:
    """The order of each number and id that an alarm may name, as any ledger knows it."""
    owners: dict[str, str] = {}
    for each in found:
        ids = [each.order_no]
        for charge in (*each.order.charges, *each.order.refunds):
            ids += [getattr(charge, name, None) or "" for name in _NAMES]
        for charge_at_psp in each.at_psp:
            ids += [charge_at_psp["order_no"], charge_at_psp["id"]]
        for refund in each.refunds_at_psp:
            ids += [refund["id"], refund["metadata"].get("refund_no") or ""]
        owners |= dict.fromkeys(ids, each.order_no)
    for event_id, event in lookalike.events.items():
        about = event["data"]["object"]
        owner = owners.get(about["id"])
        if owner is not None:
            owners[event_id] = owner
    owners.pop("", None)
    return owners


def lines(processes: Iterable[LoggedProcess], name: str) -> Iterable[Line]:
    """What the processes of this name have logged."""
    for process in processes:
        if process.name.startswith(name):
            yield from (json.loads(each) for each in process.log if each.startswith("{"))


def alarm_lines(midas: Iterable[Midas]) -> Iterator[Line]:
    """The lines that call an operator. A call that failed has its caller, and is no alarm."""
    for line in lines(midas, ""):
        if line["level"] in ("error", "critical") and line["event"] != "call":
            yield line


def _add_psp(found: Mapping[str, Story], lookalike: Lookalike) -> None:
    for charge in reversed(lookalike.newest_charges(EVERYTHING)):
        story = found[charge["subject"]]  # every order's charges bear its number there
        story.at_psp.append(charge)
        story.refunds_at_psp += lookalike.refunds_of(charge["id"])


def _add_alarms(
    found: Mapping[str, Story], midas: Iterable[Midas], owners: Mapping[str, str]
) -> None:
    for line in alarm_lines(midas):
        about = {owners[line[name]] for name in _NAMES if line.get(name) in owners}
        for order_no in about:
            found[order_no].alarms.append(line)
