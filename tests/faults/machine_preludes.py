"""Where the stories of T2 begin, so that every run reaches the rare chapters."""

from collections.abc import Callable

from tests.faults.machine_choices import REFUND_NOS, refund_terms
from tests.faults.machine_event_rules import EventsMachine
from tests.faults.machine_events import STRANGERS
from tests.faults.machine_ports import Fault
from tests.faults.machine_world import ORDERS

Step = Callable[[EventsMachine], None]
"""Something that is done to a machine before its story begins."""


def _charge(offer: str, *faults: Fault) -> Step:
    return lambda machine: machine.ask_charge((ORDERS[0], offer), faults=faults)


def _pay(which: int) -> Step:
    return lambda machine: machine.ask_pay(which)


def _refund(*faults: Fault) -> Step:
    terms = refund_terms(ORDERS[0], REFUND_NOS[0], 30)
    return lambda machine: machine.ask_refund(terms, faults=faults)


def _look(*faults: Fault) -> Step:
    return lambda machine: machine.ask_query(ORDERS[0], True, faults)


def _a_day_later(machine: EventsMachine) -> None:
    machine.pass_time(100_000)


def _webhook(which: int, *faults: Fault) -> Step:
    return lambda machine: machine.ask_webhook(which, faults=faults)


def _dashboard_refund(machine: EventsMachine) -> None:
    machine.world.lookalike.refund_at_dashboard(machine.world.handed_out[0], 30)


def _relay(*faults: Fault) -> Step:
    return lambda machine: machine.ask_relay(2, faults=faults)


def _later(machine: EventsMachine) -> None:
    machine.pass_time(40)


def _two_relays(machine: EventsMachine) -> None:
    """The first one leases and is stopped; the second one does all its work; the first goes on."""
    slow = (Fault("order", "slow"),)
    machine.ask_relay(1, 1, faults=slow, schedule=[0, 1, 1, 0, 1, 1, 1])


def _strangers(machine: EventsMachine) -> None:
    for what in STRANGERS:
        machine.ask_stranger(what)


_PAID = (_charge("qr"), _pay(0))
_KNOWN_PAID = (*_PAID, _webhook(0))
_TWO_MESSAGES = (*_KNOWN_PAID, _dashboard_refund, _webhook(0))

PRELUDES: dict[str, tuple[Step, ...]] = {
    "nothing yet": (),
    "charge unanswered": (_charge("qr", Fault("POST", "lost_response")),),
    "paid": (_charge("qr", Fault("commit", "doubt_late")), _pay(0)),
    "lied to": (_charge("qr"), _look(Fault("GET", "amount"))),
    "superseded": (_charge("wap"), _charge("qr", Fault("commit", "doubt_written"))),
    "paid twice": (_charge("wap"), _a_day_later, _charge("qr"), _pay(0), _pay(1)),
    "refund lost": (_charge("alipay"), _pay(0), _refund(Fault("POST", "lost_request"))),
    "refund late": (_charge("dear"), _pay(0), _refund(Fault("POST", "late_request"))),
    "refund not sent": (_charge("qr"), _pay(0), _refund(Fault("POST", "not_sent"))),
    "overtaken": (_charge("bar code", Fault("POST", "webhook_meanwhile")),),
    "webhook in doubt": (*_PAID, _webhook(0, Fault("commit", "lost_written")), _webhook(0)),
    "refund first": (*_PAID, _dashboard_refund, _webhook(1)),
    "strangers": (*_KNOWN_PAID, _strangers),
    "notified twice": (*_KNOWN_PAID, _relay(Fault("order", "lost_answer")), _later, _relay()),
    "lease stolen": (*_TWO_MESSAGES, _two_relays),
    "not notified": (*_TWO_MESSAGES, _relay(Fault("order", "lost_request"))),
    "refused": (*_TWO_MESSAGES, _relay(Fault("order", "refused")), _later, _relay()),
}
