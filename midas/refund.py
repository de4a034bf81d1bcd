"""The refund and its state machine. Pure: `(refund, observation) → RefundOutcome`.

    SUBMITTING → PENDING → SUCCEEDED
        │           └──→ FAILED ──(late)──▶ SUCCEEDED
        └─(proven not done)─▶ FAILED

SUBMITTING means "we do not know": the amount stays reserved, and nothing is sent a second time.
"""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Any

from midas.immutable import record, replace

REFUND_NO_KEY = "refund_no"
"""The name in the metadata of a refund at Ping++ under which our own key is sent."""


class RefundState(StrEnum):
    """The states of a refund; `protos/midas/v1/refund.proto` says what each one promises."""

    SUBMITTING = "SUBMITTING"
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class FundingSource(StrEnum):
    """Which balance pays; the values are Ping++'s (pingpp.md section 3)."""

    UNSETTLED_FUNDS = "unsettled_funds"
    RECHARGE_FUNDS = "recharge_funds"


class RefundReport(StrEnum):
    """What Ping++ reports of a refund (pingpp.md section 3)."""

    WORKING = "WORKING"  # status pending
    DONE = "DONE"  # status succeeded
    FAILED = "FAILED"  # status failed, also with HTTP 200
    REFUSED = "REFUSED"  # proven not done: the create call was refused
    UNSENT = "UNSENT"  # the request did not leave, or was refused unread: it may be sent again
    ABSENT = "ABSENT"  # two complete lists, one after the settle window, did not show it
    NO_ANSWER = "NO_ANSWER"  # Ping++ was asked, and nothing usable came back


@record(frozen=True, slots=True)
class RefundFacts:
    """A refund object of Ping++ (pingpp.md section 3), read but not judged."""

    refund_id: str
    charge_id: str
    amount: int
    report: RefundReport
    created_at: datetime
    refund_no: str = ""
    """Our key, from its metadata; empty for a refund made elsewhere."""
    currency: str = ""
    app_id: str = ""
    description: str = ""
    action_url: str = ""
    transaction_no: str = ""
    succeeded_at: datetime | None = None
    failure_code: str = ""
    failure_message: str = ""


@record(frozen=True)
class Refund:
    """One giving back of all or a part of a charge, as stored. Amount in minor units."""

    refund_no: str
    order_no: str
    out_trade_no: str
    charge_id: str
    amount: int
    currency: str
    app_id: str
    description: str
    metadata: Mapping[str, str]
    content_digest: str
    created_at: datetime
    updated_at: datetime
    state: RefundState = RefundState.SUBMITTING
    funding_source: FundingSource | None = None
    refund_id: str | None = None
    observed_by: str | None = None
    action_url: str = ""
    transaction_no: str = ""
    succeeded_at: datetime | None = None
    failure_code: str = ""
    failure_message: str = ""
    external: bool = False
    operator_reason: str = ""
    unsent: bool = False
    """Whether it is proven that Ping++ did not take it up. Only then may it be sent again."""
    due_at: datetime | None = None
    """When to look next, by the database's clock; nobody else looks before. None: never."""
    looks: int = 0
    absent_since: datetime | None = None

    @property
    def holds_money(self) -> bool:
        """Whether its amount counts against what was paid.

        A refund that failed does not, unless Ping++ contradicted that and a person has to look.
        """
        return self.state is not RefundState.FAILED or bool(self.operator_reason)


@record(frozen=True, slots=True)
class RefundObservation:
    """Something learnt about one refund, however it reached us."""

    report: RefundReport
    by: str
    at: datetime
    facts: RefundFacts | None = None
    code: str = ""
    message: str = ""


class RefundNotice(StrEnum):
    """What the order service is notified of."""

    SUCCESS = "REFUND_SUCCESS"
    FAILED = "REFUND_FAILED"


@record(frozen=True, slots=True)
class RefundOutcome:
    """What an observation makes of a refund. `event` names the journal entry."""

    refund: Refund
    event: str
    notice: RefundNotice | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


def observe(
    refund: Refund, observation: RefundObservation, *, booked: bool = False
) -> RefundOutcome:
    """Move the refund forward by an observation, or leave it as it is, with the reason.

    `booked`: Ping++'s refund is another row's already. Such an observation, and one that does not
    match what was asked, is quarantined: the state stays and a person is called.
    """
    facts = observation.facts
    if facts is not None and (wrong := mismatches(refund, facts)):
        reason = f"Ping++ told of another {', '.join(wrong)} than was asked for"
        return _quarantined(refund, observation, facts, wrong, reason)
    if facts is not None and booked:
        reason = f"Ping++ answered with the refund {facts.refund_id}, which is booked already"
        return _quarantined(refund, observation, facts, ("refund_id",), reason)
    if facts is not None and observation.by != BY_WEBHOOK:
        refund = _no_longer_missed(refund)
    target = TRANSITIONS[refund.state].get(observation.report)
    if target is None:
        return _unchanged(refund, observation)
    return _moved(refund, observation, target)


_S = RefundState
_A = RefundReport

TRANSITIONS: Mapping[RefundState, Mapping[RefundReport, RefundState]] = {
    _S.SUBMITTING: {
        _A.WORKING: _S.PENDING,
        _A.DONE: _S.SUCCEEDED,
        _A.FAILED: _S.FAILED,
        _A.REFUSED: _S.FAILED,
    },
    _S.PENDING: {_A.DONE: _S.SUCCEEDED, _A.FAILED: _S.FAILED},
    _S.SUCCEEDED: {},
    _S.FAILED: {_A.DONE: _S.SUCCEEDED},
}
"""All transitions. A pair that is not here changes no state."""

CONTRADICTIONS: frozenset[tuple[RefundState, RefundReport]] = frozenset(
    {
        (_S.PENDING, _A.REFUSED),
        (_S.PENDING, _A.UNSENT),
        (_S.PENDING, _A.ABSENT),
        (_S.SUCCEEDED, _A.FAILED),
        (_S.SUCCEEDED, _A.REFUSED),
        (_S.SUCCEEDED, _A.UNSENT),
        (_S.SUCCEEDED, _A.ABSENT),
        (_S.FAILED, _A.UNSENT),
    }
)
"""The pairs that no answer to a question of ours explains: a person has to look."""
BY_WEBHOOK = "WEBHOOK"
"""The `by` of observations that a newer one may have overtaken (W4)."""


def notice_for(refund: Refund) -> RefundNotice | None:
    """The notice that is due for a refund in this state."""
    if refund.state is RefundState.SUCCEEDED:
        return RefundNotice.SUCCESS
    return RefundNotice.FAILED if refund.state is RefundState.FAILED else None


def mismatches(refund: Refund, facts: RefundFacts) -> tuple[str, ...]:
    """Names of the fields in which Ping++'s refund is not the one that was asked for.

    Currency and app are absent from older answers (pingpp.md section 3) and then not compared.
    """
    pairs: dict[str, tuple[object, object]] = {
        "amount": (refund.amount, facts.amount),
        "charge_id": (refund.charge_id, facts.charge_id),
    }
    if facts.currency:
        pairs["currency"] = (refund.currency, facts.currency)
    if facts.app_id:
        pairs["app"] = (refund.app_id, facts.app_id)
    if facts.refund_no and not refund.external:
        pairs["refund_no"] = (refund.refund_no, facts.refund_no)
    if refund.refund_id is not None:
        pairs["refund_id"] = (refund.refund_id, facts.refund_id)
    return tuple(name for name, (wanted, reported) in pairs.items() if wanted != reported)


def _no_longer_missed(refund: Refund) -> Refund:
    """The refund without the marks of a missing one: Ping++ shows it now."""
    missed = refund.operator_reason.startswith(_MISSED)
    if refund.absent_since is None and not missed:
        return refund
    reason = "" if missed else refund.operator_reason
    return replace(refund, absent_since=None, operator_reason=reason)


_MISSED = f"Ping++ said {RefundReport.ABSENT} of "


def _quarantined(
    refund: Refund,
    observation: RefundObservation,
    facts: RefundFacts,
    wrong: tuple[str, ...],
    reason: str,
) -> RefundOutcome:
    detail = {
        "fields": list(wrong),
        "refund_id": facts.refund_id,
        "charge_id": facts.charge_id,
        "amount": facts.amount,
        "currency": facts.currency,
        "app": facts.app_id,
        "said": observation.report.value,
    }
    raised = _raised(refund, reason, observation.at, due_at=None)
    return RefundOutcome(raised, "refund_quarantined", detail=detail)


def _raised(refund: Refund, reason: str, at: datetime, **fields: Any) -> Refund:
    """The refund with this reason for a person to look; the very same if it has it already."""
    raised = replace(refund, operator_reason=reason, **fields)
    return raised if raised is refund else replace(raised, updated_at=at)


def _unchanged(refund: Refund, observation: RefundObservation) -> RefundOutcome:
    detail = {"said": observation.report.value, "code": observation.code}
    if observation.report is RefundReport.NO_ANSWER:
        return RefundOutcome(refund, "refund_outcome_unknown", detail=detail)
    if refund.state is RefundState.SUBMITTING and observation.report is RefundReport.UNSENT:
        unsent = replace(refund, unsent=True, updated_at=observation.at)
        return RefundOutcome(unsent, "refund_unsent", detail=detail)
    if refund.state is RefundState.SUBMITTING and observation.report is RefundReport.ABSENT:
        reason = "Ping++ lists no such refund, and it may still have received the request"
        raised = _raised(refund, reason, observation.at, due_at=None)
        return RefundOutcome(raised, "refund_needs_operator", detail=detail)
    contradicted = (
        refund.state,
        observation.report,
    ) in CONTRADICTIONS and observation.by != BY_WEBHOOK
    if contradicted or _made_although_refused(refund, observation):
        reason = f"Ping++ said {observation.report} of a refund that is {refund.state}"
        refund_id = observation.facts.refund_id if observation.facts else refund.refund_id
        raised = _raised(refund, reason, observation.at, refund_id=refund_id)
        return RefundOutcome(raised, "refund_contradicted", detail=detail)
    if refund.state is RefundState.PENDING and observation.report is RefundReport.WORKING:
        return RefundOutcome(
            _with_facts(refund, observation), "refund_still_pending", detail=detail
        )
    return RefundOutcome(refund, "refund_observation_stale", detail=detail)


def _made_although_refused(refund: Refund, observation: RefundObservation) -> bool:
    """Whether Ping++ works on a refund that is FAILED because of a refusal alone."""
    concluded = refund.state is RefundState.FAILED and refund.refund_id is None
    return concluded and observation.report is RefundReport.WORKING


def _moved(refund: Refund, observation: RefundObservation, target: RefundState) -> RefundOutcome:
    moved = replace(
        _with_facts(refund, observation),
        state=target,
        observed_by=observation.by,
        updated_at=observation.at,
        unsent=False,
        looks=0,
        absent_since=None,
    )
    if target is not RefundState.PENDING:
        moved = replace(moved, due_at=None, action_url="")
    if target is RefundState.FAILED:
        moved = replace(
            moved,
            failure_code=observation.code or moved.failure_code or observation.report.value.lower(),
            failure_message=observation.message or moved.failure_message,
        )
    if target is RefundState.SUCCEEDED:
        moved = replace(moved, failure_code="", failure_message="")
    if refund.state is RefundState.SUBMITTING:
        moved = replace(moved, operator_reason="")  # it was missing, and now it is there
    notice = {
        RefundState.SUCCEEDED: RefundNotice.SUCCESS,
        RefundState.FAILED: RefundNotice.FAILED,
    }.get(target)
    detail: dict[str, Any] = {"said": observation.report.value, "code": moved.failure_code}
    if moved.action_url:
        detail["action_url"] = moved.action_url
    return RefundOutcome(moved, f"refund_{target.lower()}", notice, detail)


def _with_facts(refund: Refund, observation: RefundObservation) -> Refund:
    facts = observation.facts
    if facts is None:
        return refund
    return replace(
        refund,
        refund_id=facts.refund_id,
        action_url=facts.action_url,
        transaction_no=facts.transaction_no or refund.transaction_no,
        succeeded_at=facts.succeeded_at
        if facts.report is RefundReport.DONE
        else refund.succeeded_at,
        failure_code=facts.failure_code,
        failure_message=facts.failure_message,
    )
