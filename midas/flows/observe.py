"""The funnel: the one way that Ping++'s answers about a charge or a refund take.

    an answer of Ping++, no answer, a refusal
        │  create_observation, charge_observation     what was learnt, how, and when (here)
        ▼
    commit                      the order is read, decided on, and written (commit.py)
        ▼
    Draft.observe_charge        the rows, the journal, the notification, the next look (draft.py)
        ▼
    charge.observe              the state machine: which state, and who must know (charge.py)

`observing` makes the decision that `commit` calls: it hands the observation to the draft. A refund
takes the same way through `Draft.observe_refund` and `refund.observe`. What is concluded without an
answer (absent, unsent) and what a webhook shows begin at `commit`. Nothing here calls Ping++.
"""

from datetime import datetime
from typing import Any

from midas.charge import Charge, ChargeFacts, ChargeObservation, ChargeReport, ObservedBy, report_of
from midas.errors import MidasError, PspRejectsMidas, PspUnavailable, Throttled
from midas.flows.commit import Decision, Ports
from midas.ports import Done, NotDone, Refusal, Unknown, Verdict
from midas.refund import RefundFacts, RefundObservation, RefundReport


def create_observation(
    ports: Ports, charge: Charge, verdict: Verdict[ChargeFacts]
) -> ChargeObservation:
    """What the create call of this charge came to. Here alone NotDone is a report: REFUSED."""
    by, at = ObservedBy.CREATE, ports.store.now()
    if isinstance(verdict, Done):
        return charge_observation(ports, charge, verdict.answer, by)
    if isinstance(verdict, Unknown) and verdict.declined is not None:
        no = verdict.declined
        return ChargeObservation(ChargeReport.DECLINED, by, at, code=no.code, message=no.message)
    if isinstance(verdict, Unknown):
        return charge_observation(ports, charge, verdict, by)
    code = verdict.code or verdict.refusal.lower()
    # What Ping++ says of our own key is for nobody else to read.
    message = verdict.message if verdict.refusal is Refusal.REFUSED else ""
    return ChargeObservation(ChargeReport.REFUSED, by, at, code=code, message=message)


def charge_observation(
    ports: Ports, charge: Charge, answer: ChargeFacts | Unknown, by: ObservedBy
) -> ChargeObservation:
    """What Ping++ answered about this charge, as an observation made now.

    A question that Ping++ refuses is no report about a charge: its type keeps it out.
    """
    at = ports.store.now()
    if isinstance(answer, Unknown):
        return ChargeObservation(ChargeReport.NO_ANSWER, by, at, code=answer.reason)
    clocks = ports.second_clocks
    report = report_of(answer, at, charge.created_at, ports.expiry_grace, clocks)
    settled = _settled_before(ports, at) if charge.is_being_reversed else None
    return ChargeObservation(report, by, at, answer, settled_before=settled)


def observing(out_trade_no: str, observation: ChargeObservation) -> Decision:
    """The decision to apply this observation to the charge, for `commit`."""
    return lambda draft: draft.observe_charge(out_trade_no, observation)


def _settled_before(ports: Ports, at: datetime) -> datetime | None:
    """A reversal that left before this time has arrived by now, or never will.

    The time is the settle window before the question was asked. That may have taken the whole
    timeout of a call.
    """
    window, psp_now = ports.settle_window + ports.psp.total_timeout, ports.psp.latest_now()
    if psp_now is not None:
        return min(at, psp_now) - window  # the clock that is behind only delays it
    return at - window if ports.elapsed(at - window, at) >= window else None


def refund_observation(
    ports: Ports, answer: RefundFacts | Unknown, by: ObservedBy
) -> RefundObservation:
    """What Ping++ answered about a refund, as an observation made now."""
    at = ports.store.now()
    if isinstance(answer, Unknown):
        return RefundObservation(RefundReport.NO_ANSWER, by, at, code=answer.reason)
    return RefundObservation(answer.report, by, at, answer)


def failed_read(verdict: Verdict[Any]) -> MidasError:
    """The error for a caller when Ping++ could not be asked. A read moves no money."""
    if isinstance(verdict, NotDone):
        if verdict.refusal is Refusal.THROTTLED:
            return Throttled()
        if verdict.refusal is Refusal.MIDAS_REJECTED:
            return PspRejectsMidas()
    return PspUnavailable()
