"""query: what is stored, or with refresh what Ping++ says now."""

from midas.charge import Charge, ChargeState, ObservedBy
from midas.errors import InvalidRequest, NotFound
from midas.flows.commit import Ports, commit
from midas.flows.deadline import Deadline
from midas.flows.look import decision_on, refund_decision_on
from midas.flows.observe import failed_read
from midas.flows.resolve_charge import resolve_charge
from midas.flows.resolve_refund import resolve_refund
from midas.flows.terms import key_violations
from midas.flows.unknown import in_flight
from midas.payment import Order
from midas.ports import KeyKind
from midas.refund import Refund, RefundState


async def find(ports: Ports, kind: KeyKind, key: str) -> tuple[Order, tuple[Charge, ...]]:
    """The order and the charges that the key names. Raises InvalidRequest or NotFound."""
    violations = key_violations(kind.value, key)
    if violations:
        raise InvalidRequest(tuple(violations))
    if kind is KeyKind.ORDER_NO:
        order: Order | None = await ports.store.load(key)
    else:
        order = await ports.store.find(kind, key)
    if order is None or not order.charges:
        raise NotFound(_NAMES[kind], key)
    return order, named(order, kind, key)


_NAMES = {
    KeyKind.ORDER_NO: "order",
    KeyKind.OUT_TRADE_NO: "charge",
    KeyKind.CHARGE_ID: "charge",
    KeyKind.REFUND_NO: "refund",
    KeyKind.REFUND_ID: "refund",
}


def named(order: Order, kind: KeyKind, key: str) -> tuple[Charge, ...]:
    """The charges of the order that the key names: all of them, or the one. Raises NotFound."""
    if kind is KeyKind.ORDER_NO:
        return order.charges
    if kind is KeyKind.OUT_TRADE_NO:
        return tuple(each for each in order.charges if each.out_trade_no == key)
    if kind is KeyKind.CHARGE_ID:
        return tuple(each for each in order.charges if each.charge_id == key)
    numbers = [r.out_trade_no for r in order.refunds if key in (r.refund_no, r.refund_id)]
    if not numbers:
        raise NotFound(_NAMES[kind], key)
    return (order.charge(numbers[0]),)


async def refresh(
    ports: Ports, order: Order, charges: tuple[Charge, ...], deadline: Deadline
) -> Order:
    """Ask Ping++ about these charges and their unfinished refunds, and record the answers.

    Raises PspUnavailable, Throttled or PspRejectsMidas as soon as Ping++ could not be asked about
    one of them, or when the deadline is over. What was learnt before that is recorded. What Ping++
    does not show stays as it is (`look.py`).
    """
    for each in charges:
        charge = order.charge(each.out_trade_no)
        order = await _refresh_charge(ports, order, charge, deadline)
        for one in order.refunds_of(charge.out_trade_no):
            refund = order.refund(one.refund_no)
            order = await _refresh_refund(ports, order, refund, deadline)
    return order


async def _refresh_charge(ports: Ports, order: Order, charge: Charge, deadline: Deadline) -> Order:
    if charge.charge_id is None:
        if charge.state is ChargeState.SUBMITTING and not in_flight(ports, charge):
            number = charge.out_trade_no
            return await resolve_charge(ports, order, number, ObservedBy.QUERY, deadline)
        return order
    verdict = await ports.psp.retrieve_charge(charge.charge_id, deadline.left())
    decide = decision_on(ports, charge, verdict, ObservedBy.QUERY)
    if decide is None:
        raise failed_read(verdict)
    return await commit(ports, order, decide)


async def _refresh_refund(ports: Ports, order: Order, refund: Refund, deadline: Deadline) -> Order:
    unknown = refund.state is RefundState.SUBMITTING and not refund.unsent
    if unknown and not in_flight(ports, refund):
        return await resolve_refund(ports, order, refund.refund_no, ObservedBy.QUERY, deadline)
    if refund.state is not RefundState.PENDING or refund.refund_id is None:
        return order
    left = deadline.left()
    verdict = await ports.psp.retrieve_refund(refund.charge_id, refund.refund_id, left)
    decide = refund_decision_on(ports, refund, verdict, ObservedBy.QUERY)
    if decide is None:
        raise failed_read(verdict)
    return await commit(ports, order, decide)
