"""look: what an answer of Ping++ about a charge or refund of ours means, asked for by its id.

    shown ───────────────────────────▶ down the funnel; whatever was missing is there after all
    not found, or another account's ─┬─ for the first time, or not for long ─▶ noted, and no more
                                     └─ again, after the settle window ──────▶ a person is called
    no answer ───────────────────────▶ nothing

A charge that Ping++ has told of does not vanish: what is confirmed absent has neither failed nor
been closed. Far more often a list lags, or Midas asks with another account's key.
"""

from collections.abc import Callable
from datetime import datetime

from midas.charge import (
    CONTRADICTIONS,
    Charge,
    ChargeFacts,
    ChargeObservation,
    ChargeSaid,
    ChargeState,
    ObservedBy,
    of_another_account,
)
from midas.flows.observe import Ports, charge_told, refund_told, see_charge, see_refund
from midas.flows.unknown import long_absent
from midas.immutable import changed
from midas.payment import Draft
from midas.ports import Done, NotDone, Refusal, Verdict
from midas.refund import Refund, RefundFacts, RefundObservation, RefundSaid, RefundState

Decision = Callable[[Draft], object]


def looked_at(
    ports: Ports, charge: Charge, told: Verdict[ChargeFacts], by: ObservedBy
) -> Decision | None:
    """What to write down of this answer; None where there is none."""
    if is_missing(charge, told):
        return not_shown(ports, charge.out_trade_no, by, "not_shown")
    if not isinstance(told, Done):
        return None
    seen = charge_told(ports, charge, told.answer, by)
    return lambda draft: see_charge(draft, charge.out_trade_no, seen)


def is_missing(charge: Charge, told: Verdict[ChargeFacts]) -> bool:
    """Whether Ping++ answered as if it did not know a charge that it has told of."""
    if isinstance(told, Done):
        return of_another_account(charge, told.answer)
    return isinstance(told, NotDone) and told.refusal is Refusal.NOT_FOUND


def is_blind(charge: Charge, told: Verdict[ChargeFacts]) -> bool:
    """The same, or Ping++ refused Midas itself: what a wrong key or app comes to."""
    rejected = isinstance(told, NotDone) and told.refusal is Refusal.MIDAS_REJECTED
    return rejected or is_missing(charge, told)


def not_shown(
    ports: Ports,
    out_trade_no: str,
    by: ObservedBy,
    code: str,
    began_at: datetime | None = None,
) -> Callable[[Draft], None]:
    """A complete look did not show it. It counts as absent after two, and the settle window.

    `began_at`: when the look was begun, where it may take minutes; the second one counts from then.
    """

    def decide(draft: Draft) -> None:
        charge = draft.charge(out_trade_no)
        known = charge.state is not ChargeState.SUBMITTING
        if known and (charge.operator_reason or not _can_be_missed(charge)):
            return
        now = ports.store.now()
        # It may have been posted again until shortly before the first look.
        first, window = charge.absent_since or now, ports.settles_after(charge)
        if long_absent(ports, charge.absent_since, first, began_at or now, window):
            seen = ChargeObservation(ChargeSaid.ABSENT, by, now)
        elif known and by is ObservedBy.QUERY:
            if charge.absent_since is None:
                missed = changed(charge, absent_since=first)
                draft.put_charge(missed, "charge_not_shown", now, by)
            return  # else it is nothing new; and whoever asked plans no look
        else:
            seen = ChargeObservation(ChargeSaid.NO_ANSWER, by, now, code=code)
            draft.reschedule_charge(changed(charge, absent_since=first))
        see_charge(draft, out_trade_no, seen)

    return decide


def _can_be_missed(charge: Charge) -> bool:
    return (charge.state, ChargeSaid.ABSENT) in CONTRADICTIONS


def refund_looked_at(
    ports: Ports, refund: Refund, told: Verdict[RefundFacts], by: ObservedBy
) -> Decision | None:
    """The same of a refund that Ping++ has told of."""
    if isinstance(told, NotDone) and told.refusal is Refusal.NOT_FOUND:
        return _refund_not_shown(ports, refund.refund_no, by)
    if not isinstance(told, Done):
        return None
    if told.answer.app_id not in ("", refund.app_id):
        return _refund_not_shown(ports, refund.refund_no, by)
    seen = refund_told(ports, told.answer, by)
    return lambda draft: see_refund(draft, refund.refund_no, seen)


def _refund_not_shown(ports: Ports, refund_no: str, by: ObservedBy) -> Callable[[Draft], None]:
    def decide(draft: Draft) -> None:
        refund = draft.refund(refund_no)
        if refund.state is not RefundState.PENDING or refund.operator_reason:
            return
        now = ports.store.now()
        if long_absent(ports, refund.absent_since, refund.absent_since or now, now):
            see_refund(draft, refund_no, RefundObservation(RefundSaid.ABSENT, by, now))
        elif refund.absent_since is None and by is ObservedBy.QUERY:
            missed = changed(refund, absent_since=now)
            draft.put_refund(missed, "refund_not_shown", now, by)
        elif refund.absent_since is None:
            draft.reschedule_refund(changed(refund, absent_since=now))
            silent = RefundObservation(RefundSaid.NO_ANSWER, by, now, code="not_shown")
            see_refund(draft, refund_no, silent)

    return decide
