"""create_refund: fetch the charge and check it, reserve the amount, then call Ping++.

same refund_no ─┬─ same content ──▶ the same refund, finished first if its outcome is unknown
                └─ other content ─▶ refused
fetch the charge ─▶ check state and what is left ─▶ reserve and write SUBMITTING, in one commit
                 ─▶ call Ping++ ─▶ record ─▶ answer
"""

from dataclasses import replace

from midas import schedule
from midas.charge import Charge, ChargeFacts, ChargeState, ObservedBy, mismatches
from midas.draft import Draft
from midas.errors import (
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PspRejectsMidas,
    PspUnavailable,
    RefundExceedsRemaining,
    RefundNoReused,
    RefundNotAllowed,
    StorageUnavailable,
    Throttled,
)
from midas.flows.commit import Decision, Ports, commit
from midas.flows.listing import list_all_refunds
from midas.flows.look import is_missing, not_shown
from midas.flows.observe import charge_observation, failed_read, observing
from midas.flows.resolve_refund import Posted, resolve_and_answer, submit_refund
from midas.flows.terms import RefundTerms, refund_digest, refund_violations
from midas.flows.unknown import wait_while_in_flight
from midas.immutable import record
from midas.payment import Order
from midas.ports import Done, KeyKind, KeyTaken, NotDone, Refusal, Unknown
from midas.refund import Refund, RefundState


@record(frozen=True, slots=True)
class RefundResult:
    """The refund as it now stands; with `validate_only` as it would be."""

    order: Order
    refund: Refund


def check(terms: RefundTerms) -> None:
    """Raise InvalidRequest with every field that could never be accepted."""
    violations = refund_violations(terms)
    if violations:
        raise InvalidRequest(tuple(violations))


async def find_target(ports: Ports, terms: RefundTerms) -> Order:
    """The order that the refund is about. Raises NotFound."""
    if terms.charge_id:
        found = await ports.store.find(KeyKind.CHARGE_ID, terms.charge_id)
        if found is None:
            raise NotFound("charge", terms.charge_id)
        return found
    order = await ports.store.load(terms.order_no)
    if not order.charges:
        raise NotFound("order", terms.order_no)
    return order


async def refund(ports: Ports, order: Order, terms: RefundTerms) -> RefundResult:
    """Give back all or a part of a paid charge, or find the refund of this key.

    Raises RefundNoReused, RefundNotAllowed, RefundExceedsRemaining, InvalidRequest, Throttled,
    PspRejectsMidas, PspUnavailable, StorageUnavailable: nothing moved by this call (PspUnavailable
    with `queued`: the refund goes out later by itself). Raises OutcomeUnknown: it may have been
    made; its amount stays reserved and it is not sent again until that is known.
    """
    known = await ports.store.find(KeyKind.REFUND_NO, terms.refund_no)
    if known is not None:
        return await _same_again(ports, known, terms)
    charge = _target(order, terms)
    order, charge = await _fetch(ports, order, charge)
    if any(each.refund_no == terms.refund_no for each in order.refunds):
        # Ping++ has this key, and the database did not: the database lost its last commits.
        return await _same_again(ports, order, terms)
    would_be = _plan(ports, order, charge, terms)
    violations = ports.psp.check_refund(charge.channel, would_be)
    if violations:
        raise InvalidRequest(tuple(violations))
    if terms.validate_only:
        return RefundResult(order, would_be)
    planned = _Planned(ports, charge.out_trade_no, terms)
    try:
        order = await commit(ports, order, planned.reserve)
    except StorageUnavailable as failed:
        if failed.may_have_written and planned.refund is not None:
            ports.in_doubt(planned.refund)
        raise
    except KeyTaken:
        known = await ports.store.find(KeyKind.REFUND_NO, terms.refund_no)
        if known is None:
            raise StorageUnavailable from None
        return await _same_again(ports, known, terms)
    return await _submit(ports, order, terms.refund_no)


async def answer_from_storage(
    ports: Ports, terms: RefundTerms, error: PspUnavailable | Overloaded
) -> RefundResult:
    """Answer from what is on disk while Ping++ cannot be asked. Raises `error` if that has none.

    `error` means that nothing was sent. It must not hide that this very refund is queued, or that
    its outcome is unknown.
    """
    if isinstance(error, PspUnavailable) and error.queued:
        raise error  # this call has just written it down
    known = await ports.store.find(KeyKind.REFUND_NO, terms.refund_no)
    if known is None:
        raise error
    _check_content(known, terms)
    return _answer(known, terms.refund_no)


async def _submit(ports: Ports, order: Order, refund_no: str) -> RefundResult:
    charge_no = order.refund(refund_no).out_trade_no
    try:
        order, verdict = await submit_refund(ports, order, refund_no, ObservedBy.CREATE)
        return _answer(order, refund_no, verdict)
    except (StorageUnavailable, Overloaded):
        raise OutcomeUnknown(order.order_no, charge_no, refund_no) from None


def _answer(order: Order, refund_no: str, verdict: Posted = None) -> RefundResult:
    refund = order.refund(refund_no)
    if refund.state is not RefundState.SUBMITTING:
        return RefundResult(order, refund)
    if refund.unsent and not refund.operator_reason:
        refusal = verdict.refusal if isinstance(verdict, NotDone) else Refusal.NOT_SENT
        if refusal is Refusal.MIDAS_REJECTED:
            raise PspRejectsMidas(queued=True)
        if refusal is Refusal.THROTTLED:
            raise Throttled(queued=True)
        raise PspUnavailable(queued=True)
    raise OutcomeUnknown(
        order.order_no,
        refund.out_trade_no,
        refund_no,
        needs_operator=bool(refund.operator_reason),
    )


async def _same_again(ports: Ports, order: Order, terms: RefundTerms) -> RefundResult:
    """Answer from the refund that has this key, finding out first what became of it."""
    _check_content(order, terms)
    key = terms.refund_no
    order = await wait_while_in_flight(ports, order, lambda now: now.refund(key))
    refund = order.refund(terms.refund_no)
    unknown = refund.state is RefundState.SUBMITTING and not refund.operator_reason
    verdict: Posted = None
    if unknown and not terms.validate_only:
        try:
            order, verdict = await resolve_and_answer(ports, order, key, ObservedBy.RESOLVE)
        except (StorageUnavailable, Overloaded):
            charge_no = refund.out_trade_no
            raise OutcomeUnknown(order.order_no, charge_no, terms.refund_no) from None
    return _answer(order, key, verdict)


def _check_content(order: Order, terms: RefundTerms) -> None:
    """Raise RefundNoReused if the refund of this key has other content than is asked for."""
    refund = order.refund(terms.refund_no)
    names_another = terms.order_no not in ("", order.order_no)
    names_another = names_another or terms.charge_id not in ("", refund.charge_id)
    if names_another or not _same_content(refund, terms):
        raise RefundNoReused(terms.refund_no)


def _same_content(refund: Refund, terms: RefundTerms) -> bool:
    """Whether the content is the same. Only the amount counts for a refund learnt from Ping++."""
    if not refund.content_digest:
        return terms.amount in (0, refund.amount)
    return refund.content_digest == refund_digest(terms, refund.out_trade_no)


def _target(order: Order, terms: RefundTerms) -> Charge:
    """The charge to refund, by what is known here; Ping++ is asked about it next."""
    if terms.charge_id:
        named = (each for each in order.charges if each.charge_id == terms.charge_id)
        charge = next(named, None)
        if charge is None:
            raise NotFound("charge", terms.charge_id)
        return charge
    holding = [each for each in order.charges if order.holds_money(each)]
    if len(holding) > 1:
        raise RefundNotAllowed("ORDER_HAS_SEVERAL_PAID_CHARGES", order.order_no)
    paid = [each for each in order.charges if each.state is ChargeState.SUCCEEDED]
    waiting = [each for each in order.charges if each.charge_id is not None and each.is_open]
    for candidates in (holding, waiting, paid):
        if candidates:
            return candidates[-1]
    raise RefundNotAllowed("ORDER_NOT_PAID", order.order_no)


async def _fetch(ports: Ports, order: Order, charge: Charge) -> tuple[Order, Charge]:
    """The charge as Ping++ has it now, with every refund that Ping++ knows, recorded here."""
    if charge.charge_id is None:
        raise RefundNotAllowed("ORDER_NOT_PAID", order.order_no, charge.out_trade_no)
    verdict = await ports.psp.retrieve_charge(charge.charge_id)
    if is_missing(charge, verdict):
        missed = not_shown(ports, charge.out_trade_no, ObservedBy.QUERY, "not_shown")
        order = await commit(ports, order, missed)
        if order.charge(charge.out_trade_no).operator_reason:
            reason = "CHARGE_NOT_FOUND_AT_PSP"
            raise RefundNotAllowed(reason, order.order_no, charge.out_trade_no)
        raise PspUnavailable  # a list lags, or the key is wrong: it may be possible later
    if not isinstance(verdict, Done):
        raise failed_read(verdict)
    facts = verdict.answer
    if mismatches(charge, facts):
        order = await commit(ports, order, _observed(ports, charge, facts))
        raise RefundNotAllowed("CHARGE_QUARANTINED", order.order_no, charge.out_trade_no)
    if not facts.refunds_complete:
        listed = await list_all_refunds(ports, charge.charge_id)
        if isinstance(listed, Unknown):
            raise PspUnavailable
        facts = replace(facts, refunds=listed)
    order = await commit(ports, order, _observed(ports, charge, facts))
    return order, order.charge(charge.out_trade_no)


def _observed(ports: Ports, charge: Charge, facts: ChargeFacts) -> Decision:
    observation = charge_observation(ports, charge, facts, ObservedBy.QUERY)
    return observing(charge.out_trade_no, observation)


def _plan(ports: Ports, order: Order, charge: Charge, terms: RefundTerms) -> Refund:
    """The refund as it would be. Raises RefundNotAllowed or RefundExceedsRemaining."""
    if charge.state is not ChargeState.SUCCEEDED:
        reason = f"CHARGE_{charge.state}"
        raise RefundNotAllowed(reason, order.order_no, charge.out_trade_no)
    remaining = order.refundable(charge)
    amount = terms.amount or remaining
    if amount > remaining or remaining == 0:
        numbers = order.order_no, charge.out_trade_no
        raise RefundExceedsRemaining(*numbers, terms.amount, remaining, charge.currency)
    now = ports.store.now()
    return Refund(
        refund_no=terms.refund_no,
        order_no=order.order_no,
        out_trade_no=charge.out_trade_no,
        charge_id=charge.charge_id or "",
        amount=amount,
        currency=charge.currency,
        app_id=charge.app_id,
        description=terms.description,
        metadata=terms.metadata,
        content_digest=refund_digest(terms, charge.out_trade_no),
        created_at=now,
        updated_at=now,
        funding_source=terms.funding_source,
        due_at=schedule.while_in_flight(now, ports.psp.total_timeout),
    )


class _Planned:
    """A refund that is to be written down before it is sent."""

    def __init__(self, ports: Ports, out_trade_no: str, terms: RefundTerms) -> None:
        self._ports = ports
        self._out_trade_no = out_trade_no
        self._terms = terms
        self.refund: Refund | None = None
        """The refund as it was drafted last."""

    def reserve(self, draft: Draft) -> None:
        """Check and reserve on the order as it was read last. A refund that was faster counts."""
        order = draft.base
        if any(each.refund_no == self._terms.refund_no for each in order.refunds):
            raise KeyTaken("refund_no")
        charge = order.charge(self._out_trade_no)
        self.refund = _plan(self._ports, order, charge, self._terms)
        draft.add_refund(self.refund, ObservedBy.CREATE)
