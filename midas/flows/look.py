"""look: what Ping++'s answer about a charge or refund of ours means, when asked by its id.

    shown ───────────────────────────▶ observed (observe.py); what was missing is there after all
    not found, or another account's ─┬─ for the first time, or not for long ─▶ noted, and no more
                                     └─ again, after the settle window ──────▶ a person is called
    no answer ───────────────────────▶ nothing

A charge that Ping++ has reported does not vanish: what is confirmed absent has neither failed nor
been closed. Far more often a list lags, or Midas asks with another account's key.
"""

from datetime import datetime

from midas.charge import (
    CONTRADICTIONS,
    Charge,
    ChargeFacts,
    ChargeObservation,
    ChargeReport,
    ChargeState,
    ObservedBy,
    of_another_account,
)
from midas.draft import Draft
from midas.flows.commit import Decision, Ports
from midas.flows.observe import charge_observation, observing, refund_observation
from midas.flows.unknown import long_absent
from midas.immutable import replace
from midas.ports import Done, NotDone, Refusal, Verdict
from midas.refund import Refund, RefundFacts, RefundObservation, RefundReport, RefundState


def decision_on(
    ports: Ports, charge: Charge, verdict: Verdict[ChargeFacts], by: ObservedBy
) -> Decision | None:
    """What to write down of this verdict; None if Ping++ gave no answer."""
    if is_missing(charge, verdict):
        return not_shown(ports, charge.out_trade_no, by, "not_shown")
    if not isinstance(verdict, Done):
        return None
    observation = charge_observation(ports, charge, verdict.answer, by)
    return observing(charge.out_trade_no, observation)


def is_missing(charge: Charge, verdict: Verdict[ChargeFacts]) -> bool:
    """Whether Ping++ answered as if it did not know a charge that it has reported before."""
    if isinstance(verdict, Done):
        return of_another_account(charge, verdict.answer)
    return isinstance(verdict, NotDone) and verdict.refusal is Refusal.NOT_FOUND


def is_blind(charge: Charge, verdict: Verdict[ChargeFacts]) -> bool:
    """Whether it is missing, or Ping++ refused Midas itself: a wrong key or app leads to that."""
    rejected = isinstance(verdict, NotDone) and verdict.refusal is Refusal.MIDAS_REJECTED
    return rejected or is_missing(charge, verdict)


def not_shown(
    ports: Ports,
    out_trade_no: str,
    by: ObservedBy,
    code: str,
    began_at: datetime | None = None,
) -> Decision:
    """Record that a complete look did not show the charge.

    The charge counts as absent after two such looks, the second one after the settle window.
    `began_at`: when the look began, if it may take minutes; the second look counts from then.
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
            observation = ChargeObservation(ChargeReport.ABSENT, by, now)
        elif known and by is ObservedBy.QUERY:
            if charge.absent_since is None:
                missed = replace(charge, absent_since=first)
                draft.put(missed, ("charge_not_shown", now, by))
            return  # else it is nothing new; and a caller's query plans no look
        else:
            observation = ChargeObservation(ChargeReport.NO_ANSWER, by, now, code=code)
            draft.put(replace(charge, absent_since=first))
        draft.observe_charge(out_trade_no, observation)

    return decide


def _can_be_missed(charge: Charge) -> bool:
    return (charge.state, ChargeReport.ABSENT) in CONTRADICTIONS


def refund_decision_on(
    ports: Ports, refund: Refund, verdict: Verdict[RefundFacts], by: ObservedBy
) -> Decision | None:
    """What `decision_on` does, for a refund that Ping++ has reported."""
    if isinstance(verdict, NotDone) and verdict.refusal is Refusal.NOT_FOUND:
        return _refund_not_shown(ports, refund.refund_no, by)
    if not isinstance(verdict, Done):
        return None
    if verdict.answer.app_id not in ("", refund.app_id):
        return _refund_not_shown(ports, refund.refund_no, by)
    observation = refund_observation(ports, verdict.answer, by)
    return lambda draft: draft.observe_refund(refund.refund_no, observation)


def _refund_not_shown(ports: Ports, refund_no: str, by: ObservedBy) -> Decision:
    def decide(draft: Draft) -> None:
        refund = draft.refund(refund_no)
        if refund.state is not RefundState.PENDING or refund.operator_reason:
            return
        now = ports.store.now()
        if long_absent(ports, refund.absent_since, refund.absent_since or now, now):
            draft.observe_refund(refund_no, RefundObservation(RefundReport.ABSENT, by, now))
        elif by is ObservedBy.QUERY:
            if refund.absent_since is None:
                missed = replace(refund, absent_since=now)
                draft.put(missed, ("refund_not_shown", now, by))
        else:
            draft.put(replace(refund, absent_since=refund.absent_since or now))
            unanswered = RefundObservation(RefundReport.NO_ANSWER, by, now, code="not_shown")
            draft.observe_refund(refund_no, unanswered)

    return decide
