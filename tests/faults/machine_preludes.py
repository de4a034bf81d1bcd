"""Where the stories of T2 begin, so that the rare chapters are met in every run."""

from tests.faults.machine_choices import REFUND_NOS, refund_terms
from tests.faults.machine_ports import Fault
from tests.faults.machine_rules import PaymentsMachine, Step
from tests.faults.machine_world import ORDERS


def _charge(offer: str, *faults: Fault) -> Step:
    return lambda machine: machine.ask_charge((ORDERS[0], offer), faults=faults)


def _pay(which: int) -> Step:
    return lambda machine: machine.ask_pay(which)


def _refund(*faults: Fault) -> Step:
    terms = refund_terms(ORDERS[0], REFUND_NOS[0], 30)
    return lambda machine: machine.ask_refund(terms, faults=faults)


def _look(*faults: Fault) -> Step:
    return lambda machine: machine.ask_query(ORDERS[0], True, faults)


def _a_day_later(machine: PaymentsMachine) -> None:
    machine.pass_time(100_000)


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
}
