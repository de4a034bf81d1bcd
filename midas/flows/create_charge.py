"""create_charge: one open charge per order, written down before Ping++ is called.

look at the order ─┬─ paid ──────────────────▶ refused: already paid
                   ├─ nothing open ──────────▶ write the intent → call Ping++ → record → answer
                   ├─ open, same terms ──────▶ the same charge again
                   ├─ open, other terms ─────▶ close it (close.py) → look again
                   └─ outcome unknown ───────▶ wait or find out (resolve_charge.py) → look again
"""

from datetime import datetime, timedelta

from midas import limits, schedule
from midas.charge import (
    Charge,
    ChargeFacts,
    ChargeReport,
    ChargeState,
    ChargeTerms,
    ObservedBy,
    SecondClocks,
    mismatches,
    report_of,
)
from midas.draft import Draft
from midas.errors import (
    ChargeNotMade,
    ChargeRefused,
    ChargeStillOpen,
    InvalidRequest,
    MidasError,
    OrderAlreadyPaid,
    OutcomeUnknown,
    Overloaded,
    PspRejectsMidas,
    PspUnavailable,
    StorageUnavailable,
    Throttled,
)
from midas.flows.close import close
from midas.flows.commit import Ports, commit
from midas.flows.deadline import within
from midas.flows.declined import settle_declined, settles_in
from midas.flows.look import is_missing
from midas.flows.observe import charge_observation, create_observation, failed_read, observing
from midas.flows.resolve_charge import may_post_again, refuses_repetitions, resolve_charge
from midas.flows.terms import charge_digest, charge_violations
from midas.flows.unknown import is_refused, lease_end, time_to_post, wait_while_in_flight
from midas.immutable import record
from midas.payment import Order
from midas.ports import Done, KeyTaken, NotDone, Refusal, Unknown, Verdict

ROUNDS = 8
"""How often one call looks at the order anew before it gives up; each round ends one obstacle."""


@record(frozen=True, slots=True)
class ChargeResult:
    """The open charge. `charge_json` is Ping++'s, byte for byte."""

    order: Order
    charge: Charge
    charge_json: str
    reused: bool


def check(ports: Ports, terms: ChargeTerms) -> None:
    """Raise InvalidRequest with every field that Midas or the channel would not accept."""
    violations = charge_violations(terms)
    wrong = {each.field for each in violations}
    violations += [each for each in ports.psp.check_charge(terms) if each.field not in wrong]
    if violations:
        raise InvalidRequest(tuple(violations))


async def charge(ports: Ports, terms: ChargeTerms) -> ChargeResult:
    """Open a charge for the order, or find the one that is open.

    Raises OrderAlreadyPaid, ChargeRefused, Throttled, PspRejectsMidas, ChargeStillOpen,
    ChargeNotMade: no money moved by this call. Raises PspUnavailable, StorageUnavailable,
    Overloaded: nothing was sent either. Raises OutcomeUnknown: a charge may exist at Ping++, and no
    other one is made until that is known.
    """
    digest = charge_digest(terms)
    # Most orders are new: the commit shows if this one is not.
    order = ports.store.unread(terms.order_no)
    dealt_with: Charge | None = None
    try:
        for _ in range(ROUNDS):
            paying = order.paying_charge
            if paying is not None:
                raise OrderAlreadyPaid(order.order_no, paying.out_trade_no)
            blocking = order.blocking_charge
            if blocking is None:
                started, order = await _intend(ports, order, terms, digest)
                if started is not None:
                    return await _submit(ports, order, started)
            else:
                settled = await _settle_blocking_charge(ports, order, blocking, digest)
                if isinstance(settled, ChargeResult):
                    return settled
                order, dealt_with = settled, blocking
    except (StorageUnavailable, Overloaded, PspUnavailable) as failed:
        raise _error_after(dealt_with, failed) from None
    raise OutcomeUnknown(terms.order_no)


def _error_after(dealt_with: Charge | None, failed: MidasError) -> MidasError:
    """The error for a failure that by itself means that nothing was sent.

    That is not true if the same call has dealt with an earlier charge, and perhaps reversed it.
    """
    if dealt_with is None:
        return failed
    if isinstance(failed, StorageUnavailable) and failed.may_have_written:
        return OutcomeUnknown(dealt_with.order_no)
    return ChargeNotMade(dealt_with.order_no, dealt_with.out_trade_no)


async def answer_from_storage(
    ports: Ports, terms: ChargeTerms, error: PspUnavailable | Overloaded
) -> ChargeResult:
    """Answer from what is on disk while Ping++ cannot be asked. Raises `error` if that has none.

    `error` means that nothing was sent. It must not hide that the outcome of an earlier call is
    unknown.
    """
    order = await ports.store.load(terms.order_no)
    paying, blocking = order.paying_charge, order.blocking_charge
    if paying is not None:
        raise OrderAlreadyPaid(order.order_no, paying.out_trade_no)
    if blocking is None:
        raise error
    if blocking.operator_reason or blocking.state is ChargeState.SUBMITTING:
        raise _outcome_unknown(blocking)
    same = blocking.terms_digest == charge_digest(terms) and not _seems_expired(ports, blocking)
    if blocking.answer is None or blocking.is_withdrawn or not same:
        raise error
    return ChargeResult(order, blocking, blocking.answer, reused=True)


async def _settle_blocking_charge(
    ports: Ports, order: Order, blocking: Charge, digest: str
) -> ChargeResult | Order:
    """Hand the open charge out again, or give the order in which it is no longer in the way."""
    if blocking.operator_reason:
        raise _outcome_unknown(blocking)
    posted = False
    try:
        if blocking.state is ChargeState.SUBMITTING:
            return await _resolve_unknown(ports, order, blocking)
        if blocking.terms_digest == digest and await _can_be_paid(ports, blocking):
            again = await _hand_out_again(ports, order, blocking)
            if again is not None:
                return again
            posted = blocking.answer is None
        return await close(ports, order, blocking.out_trade_no)
    except (StorageUnavailable, Overloaded, PspUnavailable) as failed:
        # Something may have been sent by now, so UNAVAILABLE would be wrong.
        if isinstance(failed, PspUnavailable) and not posted:
            raise  # that was a question, and the first thing to be sent
        if blocking.state is ChargeState.SUBMITTING:
            raise _outcome_unknown(blocking) from None
        raise ChargeStillOpen(order.order_no, blocking.out_trade_no) from None


async def _intend(
    ports: Ports, order: Order, terms: ChargeTerms, digest: str
) -> tuple[Charge | None, Order]:
    """Write the charge down as SUBMITTING. Returns none if another one is in the way by now."""
    charge = _new_charge(ports, terms, digest)

    def decide(draft: Draft) -> None:
        if draft.base.paying_charge is not None or draft.base.blocking_charge is not None:
            raise _InTheWay(draft.base)
        draft.add_charge(charge, ObservedBy.CREATE)

    try:
        return charge, await commit(ports, order, decide)
    except _InTheWay as blocked:
        return None, blocked.order
    except StorageUnavailable as failed:
        if failed.may_have_written:
            ports.in_doubt(charge)
        raise
    except KeyTaken:  # another order has this number: the next one will be free
        return None, await ports.store.load(order.order_no)


class _InTheWay(Exception):
    """Somebody was faster and opened a charge, or the payer has paid: look at the order again."""

    def __init__(self, order: Order) -> None:
        super().__init__(order.order_no)
        self.order = order


async def _submit(ports: Ports, order: Order, charge: Charge) -> ChargeResult:
    verdict = await ports.psp.create_charge(charge, time_to_post(ports, charge))
    if isinstance(verdict, NotDone) and ports.store.now() >= lease_end(ports, charge):
        # Others may have posted it by now. This refusal says nothing about their posts.
        verdict = Unknown("lease_over")
    observation = create_observation(ports, charge, verdict)
    try:
        order = await commit(ports, order, observing(charge.out_trade_no, observation))
        if order.charge(charge.out_trade_no).is_declined:
            soon = within(ports.clock, limits.DECLINED_LOOK)
            order = await settle_declined(
                ports, order, charge.out_trade_no, ObservedBy.CREATE, soon
            )
    except (StorageUnavailable, Overloaded):
        raise OutcomeUnknown(charge.order_no, charge.out_trade_no) from None
    after = order.charge(charge.out_trade_no)
    if after.state is ChargeState.PENDING and _closing_began(after):
        raise ChargeStillOpen(order.order_no, after.out_trade_no)
    is_it = isinstance(verdict, Done) and verdict.answer.charge_id == after.charge_id
    if isinstance(verdict, Done) and is_it and _can_be_handed_out(after):
        return ChargeResult(order, after, verdict.answer.raw, reused=False)
    raise _why_not(verdict, after, settles_in(ports, after))


def _can_be_handed_out(charge: Charge) -> bool:
    return charge.state in _HANDED_OUT and not charge.operator_reason


def _closing_began(charge: Charge) -> bool:
    """Whether another process has begun to close it: it is not handed out again."""
    return charge.superseded or charge.is_withdrawn


_HANDED_OUT = (ChargeState.PENDING, ChargeState.SUCCEEDED)


def _why_not(
    verdict: Verdict[ChargeFacts], after: Charge, query_after: timedelta | None = None
) -> MidasError:
    if isinstance(verdict, NotDone) and after.state is ChargeState.FAILED:
        if verdict.refusal is Refusal.NOT_SENT:
            return PspUnavailable()
        if verdict.refusal is Refusal.THROTTLED:
            return Throttled()
        if verdict.refusal is Refusal.MIDAS_REJECTED:
            return PspRejectsMidas()
        return _refused(after, verdict.param)
    if after.state in (ChargeState.FAILED, ChargeState.CLOSED, ChargeState.REVERSED):
        return _refused(after)
    declined = isinstance(verdict, Unknown) and verdict.declined is not None
    if declined and after.state is ChargeState.SUCCEEDED:
        return OrderAlreadyPaid(after.order_no, after.out_trade_no)  # the payer has confirmed
    return _outcome_unknown(after, query_after)


def _outcome_unknown(charge: Charge, query_after: timedelta | None = None) -> OutcomeUnknown:
    unknown = OutcomeUnknown(charge.order_no, charge.out_trade_no)
    unknown.needs_operator = bool(charge.operator_reason)
    unknown.query_after = query_after or unknown.query_after
    return unknown


def _refused(charge: Charge, param: str = "") -> ChargeRefused:
    code = charge.failure_code or charge.state.lower()
    message = charge.failure_message
    return ChargeRefused(charge.order_no, charge.out_trade_no, code, message, param)


async def _resolve_unknown(ports: Ports, order: Order, charge: Charge) -> Order:
    """End the uncertainty about an earlier call. Raises OutcomeUnknown if it stays."""
    number = charge.out_trade_no
    order = await wait_while_in_flight(ports, order, lambda now: now.charge(number))
    if order.charge(charge.out_trade_no).state is ChargeState.SUBMITTING:
        order = await resolve_charge(ports, order, charge.out_trade_no, ObservedBy.RESOLVE)
    after = order.charge(charge.out_trade_no)
    if after.state is ChargeState.SUBMITTING:
        raise _outcome_unknown(after, settles_in(ports, after))
    return order


async def _can_be_paid(ports: Ports, charge: Charge) -> bool:
    """Whether the payer still has time. If not, this charge is of no use to anybody.

    Where our own clock says no, Ping++ is asked: a charge that is given up too early could be paid
    beside the next one. The uptime of this process does not count here. Otherwise expired charges
    would be handed out for as long again after every restart.
    """
    if not _seems_expired(ports, charge):
        return True
    if charge.charge_id is None:
        return False
    verdict = await ports.psp.retrieve_charge(charge.charge_id)
    if not isinstance(verdict, Done) or mismatches(charge, verdict.answer):
        return False
    now, no_grace = ports.store.now(), timedelta(0)
    report = report_of(
        verdict.answer,
        now,
        charge.created_at,
        no_grace,
        lambda: SecondClocks(psp=ports.psp.latest_now()),
    )
    return report is ChargeReport.WAITING


def _seems_expired(ports: Ports, charge: Charge) -> bool:
    """Whether it has expired by our own clock, which may be ahead of Ping++'s."""
    return charge.expires_at is not None and ports.store.now() >= charge.expires_at


async def _hand_out_again(ports: Ports, order: Order, charge: Charge) -> ChargeResult | None:
    """The same charge with what the client SDK needs; None if that cannot be had any more."""
    if charge.is_withdrawn:
        return None
    if charge.answer is not None:
        return ChargeResult(order, charge, charge.answer, reused=True)
    verdict = await _fresh_answer(ports, charge)
    if verdict is None or is_refused(verdict) or is_missing(charge, verdict):
        return None
    if isinstance(verdict, Unknown):
        raise OutcomeUnknown(charge.order_no, charge.out_trade_no)
    if isinstance(verdict, NotDone):
        raise failed_read(verdict)
    observation = charge_observation(ports, charge, verdict.answer, ObservedBy.QUERY)
    order = await commit(ports, order, observing(charge.out_trade_no, observation))
    after = order.charge(charge.out_trade_no)
    if after.operator_reason:
        raise _outcome_unknown(after)
    is_it = verdict.answer.charge_id == after.charge_id
    if after.state is not ChargeState.PENDING or _closing_began(after) or not is_it:
        return None
    return ChargeResult(order, after, verdict.answer.raw, reused=True)


async def _fresh_answer(ports: Ports, charge: Charge) -> Verdict[ChargeFacts] | None:
    """Ping++'s JSON of a charge that is known here without it, such as one found in a list.

    The charge is posted again only where Ping++ would refuse that after a reversal: another process
    may be reversing it at this moment.
    """
    if charge.charge_id is not None and ports.psp.pays_at_create(charge.channel):
        return await ports.psp.retrieve_charge(charge.charge_id)
    if refuses_repetitions(ports, charge) and may_post_again(ports, charge):
        return await ports.psp.create_charge(charge, limits.REPOST_MARGIN)
    return None


def _new_charge(ports: Ports, terms: ChargeTerms, digest: str) -> Charge:
    now = ports.store.now()
    asked = None if terms.expires_in is None else _expiry(now, terms.expires_in)
    return Charge(
        out_trade_no=ports.new_out_trade_no(now),
        order_no=terms.order_no,
        app_id=ports.psp.app_id,
        livemode=ports.psp.livemode,
        channel=terms.channel,
        amount=terms.amount,
        currency=terms.currency,
        subject=terms.subject,
        body=terms.body,
        client_ip=terms.client_ip,
        extra=terms.extra,
        metadata=terms.metadata,
        terms_digest=digest,
        created_at=now,
        updated_at=now,
        asked_expires_at=asked,
        due_at=schedule.while_in_flight(now, ports.psp.total_timeout),
    )


def _expiry(now: datetime, expires_in: timedelta) -> datetime:
    """The expiry in whole seconds, at least Ping++'s one minute after the request arrives there."""
    least = SHORTEST_EXPIRY + ON_THE_WAY
    return (now + max(expires_in, least)).replace(microsecond=0)


SHORTEST_EXPIRY = timedelta(minutes=1)
"""The shortest expiry that Ping++ takes (pingpp.md section 2)."""
ON_THE_WAY = timedelta(seconds=5)
