"""The charge and its state machine. Pure: `(charge, observation) → ChargeOutcome`.

    SUBMITTING → PENDING → SUCCEEDED → REVERSED
        │           ├──→ CLOSED ──(late money)──▶ SUCCEEDED
        └───────────┴──→ FAILED ──(late money)──▶ SUCCEEDED

SUBMITTING means "we do not know". It ends by an answer of Ping++, or by the proof that nothing was
sent; time alone ends nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import AddressValueError, IPv6Address
from typing import Any

from midas.immutable import record, replace
from midas.refund import RefundFacts


class ChargeState(StrEnum):
    """The states of a charge; `protos/midas/v1/charge.proto` says what each one promises."""

    SUBMITTING = "SUBMITTING"
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    CLOSED = "CLOSED"
    FAILED = "FAILED"
    REVERSED = "REVERSED"


class ObservedBy(StrEnum):
    """How Midas learnt something of a charge or a refund."""

    CREATE = "CREATE"  # the answer to the call that made it
    WEBHOOK = "WEBHOOK"
    QUERY = "QUERY"  # a caller asked
    POLL = "POLL"  # PollPending asked
    RESOLVE = "RESOLVE"  # Midas asked by itself about an unknown outcome
    RECONCILE = "RECONCILE"  # a comparison with Ping++'s lists; not built yet


class ChargeReport(StrEnum):
    """What Ping++ reports of a charge (the table of pingpp.md section 2)."""

    WAITING = "WAITING"  # unpaid, and the payer's time is not over
    LAPSED = "LAPSED"  # unpaid, and Ping++ was asked after the expiry and its grace
    PAID = "PAID"
    REVERSED = "REVERSED"  # unpaid and reversed: it cannot be paid any more
    PAID_THEN_REVERSED = "PAID_THEN_REVERSED"
    PAYMENT_FAILED = "PAYMENT_FAILED"  # unpaid, with a failure code
    REFUSED = "REFUSED"  # proven not done: the create call was refused, or never sent
    DECLINED = "DECLINED"  # the channel declined a bar code, whose payer may still confirm
    ABSENT = "ABSENT"  # two complete looks, one after the settle window, did not show it
    NO_ANSWER = "NO_ANSWER"  # Ping++ was asked, and nothing usable came back


CURRENCY_DEFAULT = "cny"
"""The currency of a charge for which the caller names none."""


@record(frozen=True, slots=True)
class ChargeTerms:
    """What a caller asks for. Amount in minor units; `expires_in` is no part of the identity."""

    order_no: str
    channel: str
    amount: int
    currency: str
    subject: str
    body: str
    client_ip: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires_in: timedelta | None = None

    def __post_init__(self) -> None:
        """Fill in CNY where no currency is named, and name an IPv4 payer in IPv4.

        What is checked, compared and sent then has one spelling.
        """
        if not self.currency:
            object.__setattr__(self, "currency", CURRENCY_DEFAULT)
        if ":" in self.client_ip:
            object.__setattr__(self, "client_ip", _in_ipv4(self.client_ip))


def _in_ipv4(address: str) -> str:
    """Write `::ffff:203.0.113.7`, a server's name for an IPv4 client, as `203.0.113.7`.

    Servers on IPv6 sockets name IPv4 clients so. Channels want one of the two families, and
    Pythons before 3.13 take `::ffff:127.0.0.1` for no loopback address. Any other text comes back
    as it was, even if it is no address.
    """
    try:
        whole = IPv6Address(address)
    except AddressValueError:
        return address
    mapped = whole.ipv4_mapped
    return address if mapped is None or whole.scope_id is not None else str(mapped)


@record(frozen=True, slots=True)
class ChargeFacts:
    """A charge object of Ping++ (pingpp.md section 2), read but not judged."""

    charge_id: str
    out_trade_no: str
    app_id: str
    livemode: bool
    channel: str
    amount: int
    currency: str
    paid: bool
    reversed: bool
    created_at: datetime
    expires_at: datetime | None = None
    paid_at: datetime | None = None
    transaction_no: str = ""
    failure_code: str = ""
    failure_message: str = ""
    refunds: tuple[RefundFacts, ...] = ()
    refunds_complete: bool = True
    has_credential: bool = False
    raw: str = ""
    """The JSON as it came, byte for byte."""


WITHDRAWN = ""
"""What stands in the place of the answer of a charge that is being closed. Such a charge is not
handed out again."""
REVERSING = "reversing "
"""What stands there if the reversal would give a payment back: from before the reversal leaves
until it is answered. An id follows, another one for each reversal."""


@record(frozen=True)
class Charge:
    """One try at Ping++ to collect the money of an order, as stored."""

    out_trade_no: str
    order_no: str
    app_id: str
    livemode: bool
    channel: str
    amount: int
    currency: str
    subject: str
    body: str
    client_ip: str
    extra: Mapping[str, Any]
    metadata: Mapping[str, str]
    terms_digest: str
    created_at: datetime
    updated_at: datetime
    state: ChargeState = ChargeState.SUBMITTING
    asked_expires_at: datetime | None = None
    """The expiry that was sent to Ping++; None leaves it to the channel's default."""
    charge_id: str | None = None
    expires_at: datetime | None = None
    paid_at: datetime | None = None
    observed_by: ObservedBy | None = None
    transaction_no: str = ""
    failure_code: str = ""
    failure_message: str = ""
    late: bool = False
    duplicate_payment: bool = False
    superseded: bool = False
    operator_reason: str = ""
    answer: str | None = None
    """Ping++'s JSON for the client SDK, kept only while the charge can be handed out again.

    It is None where the charge is known without it. It is WITHDRAWN or REVERSING from the moment
    that the closing of the charge begins.
    """
    due_at: datetime | None = None
    """When to look next, by the database's clock; nobody else looks before. None: never."""
    looks: int = 0
    """How many looks there were since the last change. The pauses grow with it."""
    absent_since: datetime | None = None
    """When a complete list did not show it for the first time."""

    @property
    def is_declined(self) -> bool:
        """Whether it is a bar code that the channel declined, and whose end is not known yet.

        `failure_code` says why. Such a charge is given up sooner than others and never handed out.
        """
        return self.state is ChargeState.SUBMITTING and bool(self.failure_code)

    @property
    def is_being_reversed(self) -> bool:
        """Whether a reversal may be on its way that would give back a payment made meanwhile.

        No payment is believed until that is known.
        """
        is_open = self.is_declined or self.state is ChargeState.PENDING
        return is_open and self.answer is not None and self.answer.startswith(REVERSING)

    @property
    def is_withdrawn(self) -> bool:
        """Whether its closing began, so that it is not handed out again."""
        return self.answer is not None and (
            self.answer == WITHDRAWN or self.answer.startswith(REVERSING)
        )

    @property
    def is_second(self) -> bool:
        """Whether it is the second charge that Ping++ made under one number (I1).

        The number belongs to the first one. This one is booked under Ping++'s own id.
        """
        return self.out_trade_no == self.charge_id

    @property
    def is_open(self) -> bool:
        """Whether it stands in the way of another charge of the order."""
        unsettled = self.state in (ChargeState.SUBMITTING, ChargeState.PENDING)
        return unsettled and not self.superseded


@record(frozen=True, slots=True)
class ChargeObservation:
    """Something learnt about one charge, however it reached us."""

    report: ChargeReport
    by: ObservedBy
    at: datetime
    facts: ChargeFacts | None = None
    code: str = ""
    message: str = ""
    settled_before: datetime | None = None
    """A reversal that left before this time has arrived, or never will. Set only with `facts`."""


class ChargeNotice(StrEnum):
    """What the order service is notified of."""

    SUCCESS = "PAY_ORDER_SUCCESS"
    CLOSED = "PAY_ORDER_CLOSED"


@record(frozen=True, slots=True)
class ChargeOutcome:
    """What an observation makes of a charge. `event` names the journal entry."""

    charge: Charge
    event: str
    notice: ChargeNotice | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


OUTCOME_STAYS_UNKNOWN = "Ping++ has not told for a day how this ended"
"""Why a person is called for a charge or refund whose outcome stays unknown."""


@record(frozen=True, slots=True)
class SecondClocks:
    """Clocks beside the database's clock, which may step. They can only delay an ending (R6)."""

    psp: datetime | None = None
    """Ping++'s own clock, where it is known."""
    uptime: timedelta | None = None
    """How long this process has run, by a clock that never steps. None: it is not asked."""


ReadSecondClocks = Callable[[], SecondClocks]
"""Reads the second clocks. It is called only where they matter: most charges end much later."""


def is_expired(
    facts: ChargeFacts,
    at: datetime,
    asked_since: datetime,
    grace: timedelta,
    second_clocks: ReadSecondClocks = SecondClocks,
) -> bool:
    """Whether the payer's time is over, and the grace after it. `at` is when Ping++ was asked.

    By our clock, the expiry must be over. As much time as the charge lasts must also have passed
    since `asked_since`, when it was first asked for: our clock may be ahead of Ping++'s. Our clock
    may have stepped since, so Ping++'s own clock has to agree. Where that clock is not known, as
    much time must have passed while this process ran.
    """
    if facts.expires_at is None:
        return False
    lasts = facts.expires_at - facts.created_at
    if at < max(facts.expires_at, asked_since + lasts) + grace:
        return False
    clocks = second_clocks()
    if clocks.psp is not None:
        return clocks.psp >= facts.expires_at + grace
    return clocks.uptime is None or clocks.uptime >= lasts + grace


def report_of(
    facts: ChargeFacts,
    at: datetime,
    asked_since: datetime,
    grace: timedelta,
    second_clocks: ReadSecondClocks = SecondClocks,
) -> ChargeReport:
    """Read Ping++'s flags (pingpp.md section 2). `is_expired` decides whether it has lapsed."""
    if facts.paid:
        return ChargeReport.PAID_THEN_REVERSED if facts.reversed else ChargeReport.PAID
    if facts.reversed:
        return ChargeReport.REVERSED
    if facts.failure_code:
        return ChargeReport.PAYMENT_FAILED
    expired = is_expired(facts, at, asked_since, grace, second_clocks)
    return ChargeReport.LAPSED if expired else ChargeReport.WAITING


def observe(
    charge: Charge, observation: ChargeObservation, *, order_paid: bool, booked: bool = False
) -> ChargeOutcome:
    """Move the charge forward by an observation, or leave it as it is, with the reason.

    `order_paid`: another charge of the order holds the order's money already. `booked`: Ping++'s
    charge is another row's already. Such an observation, and one that does not match what was
    asked, is quarantined: the state stays and a person is called.
    """
    facts = observation.facts
    charge = _without_settled_reversal(charge, observation)
    if facts is not None and (wrong := mismatches(charge, facts)):
        reason = f"Ping++ told of another {', '.join(wrong)} than was asked for"
        return _quarantined(charge, observation, facts, wrong, reason)
    if facts is not None and booked:
        reason = f"Ping++ answered with the charge {facts.charge_id}, which is booked already"
        return _quarantined(charge, observation, facts, ("charge_id",), reason)
    if facts is not None and observation.by is not ObservedBy.WEBHOOK:
        charge = _no_longer_missed(charge)
    if charge.is_being_reversed and observation.report in _UNDONE_BY_A_REVERSAL:
        detail = {"said": observation.report.value, "code": charge.failure_code}
        return ChargeOutcome(charge, "charge_is_being_reversed", detail=detail)
    target = TRANSITIONS[charge.state].get(observation.report)
    if target is None or (observation.report is ChargeReport.WAITING and _stays_declined(charge)):
        return _unchanged(charge, observation)
    return _moved(charge, observation, target, order_paid=order_paid)


_UNDONE_BY_A_REVERSAL = (ChargeReport.PAID, ChargeReport.LAPSED, ChargeReport.PAYMENT_FAILED)
"""The payer may still pay after the last two. A reversal that arrives then takes that back."""


def _stays_declined(charge: Charge) -> bool:
    """Whether it is a declined bar code that is being closed, or that a person looks at.

    Such a charge never becomes PENDING.
    """
    return charge.is_declined and (charge.is_withdrawn or bool(charge.operator_reason))


def _without_settled_reversal(charge: Charge, observation: ChargeObservation) -> Charge:
    """The charge without the mark of its reversal, if no reversal can change it any more."""
    settled = (
        observation.settled_before is not None and charge.updated_at <= observation.settled_before
    )
    return replace(charge, answer=WITHDRAWN) if settled and charge.is_being_reversed else charge


_S = ChargeState
_A = ChargeReport

TRANSITIONS: Mapping[ChargeState, Mapping[ChargeReport, ChargeState]] = {
    _S.SUBMITTING: {
        _A.WAITING: _S.PENDING,
        _A.LAPSED: _S.CLOSED,
        _A.PAID: _S.SUCCEEDED,
        _A.REVERSED: _S.CLOSED,
        _A.PAID_THEN_REVERSED: _S.REVERSED,
        _A.PAYMENT_FAILED: _S.FAILED,
        _A.REFUSED: _S.FAILED,
        _A.ABSENT: _S.FAILED,
    },
    _S.PENDING: {
        _A.LAPSED: _S.CLOSED,
        _A.PAID: _S.SUCCEEDED,
        _A.REVERSED: _S.CLOSED,
        _A.PAID_THEN_REVERSED: _S.REVERSED,
        _A.PAYMENT_FAILED: _S.FAILED,
    },
    _S.SUCCEEDED: {_A.PAID_THEN_REVERSED: _S.REVERSED},
    _S.CLOSED: {_A.PAID: _S.SUCCEEDED, _A.PAID_THEN_REVERSED: _S.REVERSED},
    _S.FAILED: {_A.PAID: _S.SUCCEEDED, _A.PAID_THEN_REVERSED: _S.REVERSED},
    _S.REVERSED: {},
}
"""All transitions. A pair that is not here changes no state."""

CONTRADICTIONS: frozenset[tuple[ChargeState, ChargeReport]] = frozenset(
    {
        (_S.PENDING, _A.ABSENT),
        (_S.PENDING, _A.REFUSED),
        (_S.SUCCEEDED, _A.REVERSED),
        (_S.SUCCEEDED, _A.PAYMENT_FAILED),
        (_S.SUCCEEDED, _A.ABSENT),
        (_S.SUCCEEDED, _A.REFUSED),
    }
)
"""The pairs that no answer to a question of ours explains: a person has to look."""


def mismatches(charge: Charge, facts: ChargeFacts) -> tuple[str, ...]:
    """Names of the fields in which Ping++'s charge is not the one that was asked for."""
    number = facts.out_trade_no if charge.is_second else charge.out_trade_no
    pairs = (
        ("out_trade_no", number, facts.out_trade_no),
        ("amount", charge.amount, facts.amount),
        ("currency", charge.currency, facts.currency),
        ("app", charge.app_id, facts.app_id),
        ("livemode", charge.livemode, facts.livemode),
        ("charge_id", charge.charge_id or facts.charge_id, facts.charge_id),
    )
    return tuple([name for name, wanted, reported in pairs if wanted != reported])


def second_of(charge: Charge, facts: ChargeFacts, at: datetime) -> Charge | None:
    """The row of a second charge that Ping++ has under this one's number, if `facts` show one.

    The second one is never handed out and stands in nobody's way. If unpaid, it is to be closed.
    """
    if charge.charge_id in (None, facts.charge_id):
        return None
    if mismatches(charge, facts) != ("charge_id",):
        return None
    return replace(
        charge,
        out_trade_no=facts.charge_id,
        charge_id=facts.charge_id,
        created_at=facts.created_at,
        updated_at=at,
        state=ChargeState.SUBMITTING,
        expires_at=None,
        paid_at=None,
        transaction_no="",
        failure_code="",
        failure_message="",
        late=False,
        superseded=True,
        operator_reason="",
        answer=WITHDRAWN,
        due_at=at,
    )


def of_another_account(charge: Charge, facts: ChargeFacts) -> bool:
    """Whether an answer about a charge_id of ours differs in the app or mode, and in nothing else.

    Midas uses the wrong key then. Such an answer says nothing about the charge.
    """
    wrong = mismatches(charge, facts)
    return bool(wrong) and set(wrong) <= {"app", "livemode"} and charge.charge_id is not None


def _no_longer_missed(charge: Charge) -> Charge:
    """The charge without the marks of a missing one: Ping++ shows it now."""
    reason = _without_missed(charge.operator_reason)
    if charge.absent_since is None and reason == charge.operator_reason:
        return charge
    return replace(charge, absent_since=None, operator_reason=reason)


def _without_missed(reason: str) -> str:
    """The reasons for which a person was called, without those that Ping++ did not show it."""
    others = [each for each in reason.split(AND) if not each.startswith(_MISSED)]
    return AND.join(others)


AND = "; "
"""What separates the reasons for which a person was called."""
_MISSED = f"Ping++ said {ChargeReport.ABSENT} of "


def _quarantined(
    charge: Charge,
    observation: ChargeObservation,
    facts: ChargeFacts,
    wrong: tuple[str, ...],
    reason: str,
) -> ChargeOutcome:
    detail = {
        "fields": list(wrong),
        "charge_id": facts.charge_id,
        "out_trade_no": facts.out_trade_no,
        "amount": facts.amount,
        "currency": facts.currency,
        "app": facts.app_id,
        "livemode": facts.livemode,
        "said": observation.report.value,
    }
    raised = _raised(charge, reason, observation.at, due_at=None)
    return ChargeOutcome(raised, "charge_quarantined", detail=detail)


def _raised(charge: Charge, reason: str, at: datetime, **fields: Any) -> Charge:
    """The charge with this reason for a person to look; the very same if it has it already."""
    raised = replace(charge, operator_reason=reason, **fields)
    return raised if raised is charge else replace(raised, updated_at=at)


def _unchanged(charge: Charge, observation: ChargeObservation) -> ChargeOutcome:
    detail = {"said": observation.report.value, "code": observation.code}
    if observation.report is ChargeReport.NO_ANSWER:
        return ChargeOutcome(charge, "charge_outcome_unknown", detail=detail)
    undecided = charge.state is ChargeState.SUBMITTING and not charge.is_declined
    if observation.report is ChargeReport.DECLINED and undecided:
        code = observation.code or observation.report.value.lower()
        why = {"failure_code": code, "failure_message": observation.message}
        declined = replace(charge, **why, updated_at=observation.at)
        return ChargeOutcome(declined, "charge_declined", detail=detail)
    stale = observation.by is ObservedBy.WEBHOOK  # it may have been overtaken by a newer one (W4)
    if (charge.state, observation.report) in CONTRADICTIONS and not stale:
        reason = f"Ping++ said {observation.report} of a charge that is {charge.state}"
        raised = _raised(charge, reason, observation.at, due_at=None)
        return ChargeOutcome(raised, "charge_contradicted", detail=detail)
    if observation.report is ChargeReport.WAITING and charge.state is ChargeState.PENDING:
        completed = replace(charge, **_fields_from(charge, observation.facts))
        return ChargeOutcome(completed, "charge_still_pending", detail=detail)
    return ChargeOutcome(charge, "charge_observation_stale", detail=detail)


def _moved(
    charge: Charge, observation: ChargeObservation, target: ChargeState, *, order_paid: bool
) -> ChargeOutcome:
    late = target is ChargeState.SUCCEEDED and charge.state in (
        ChargeState.CLOSED,
        ChargeState.FAILED,
    )
    fields = {
        **_fields_from(charge, observation.facts),
        "state": target,
        "observed_by": observation.by,
        "updated_at": observation.at,
        "late": charge.late or late,
        "duplicate_payment": target is ChargeState.SUCCEEDED and order_paid,
        "looks": 0,
        "absent_since": None,
    }
    reason = charge.operator_reason
    fields["operator_reason"] = "" if reason == OUTCOME_STAYS_UNKNOWN else _without_missed(reason)
    if target is not ChargeState.PENDING:
        fields |= {"answer": None, "due_at": None}
    if target is ChargeState.FAILED:
        code = observation.code or fields.get("failure_code") or charge.failure_code
        fields["failure_code"] = code or observation.report.value.lower()
        message = fields.get("failure_message", charge.failure_message)
        fields["failure_message"] = observation.message or message
    if target is ChargeState.SUCCEEDED:
        fields |= {"failure_code": "", "failure_message": ""}
    moved = replace(charge, **fields)
    detail = {"said": observation.report.value, "code": moved.failure_code}
    return ChargeOutcome(
        moved, f"charge_{target.lower()}", _notice(charge, moved, observation), detail
    )


def _fields_from(charge: Charge, facts: ChargeFacts | None) -> dict[str, Any]:
    """The fields of a charge that Ping++'s object fills in; what the object leaves out stays."""
    if facts is None:
        return {}
    return {
        "charge_id": facts.charge_id,
        "expires_at": facts.expires_at or charge.expires_at,
        "paid_at": facts.paid_at or charge.paid_at,
        "transaction_no": facts.transaction_no or charge.transaction_no,
        "failure_code": facts.failure_code or charge.failure_code,
        "failure_message": facts.failure_message or charge.failure_message,
        "answer": _answer(charge, facts),
    }


def _answer(charge: Charge, facts: ChargeFacts) -> str | None:
    if charge.answer is None and facts.has_credential:
        return facts.raw
    return charge.answer


def notice_for(charge: Charge) -> ChargeNotice | None:
    """The notice that is due for a charge in this state, as far as its row shows that."""
    if charge.state is ChargeState.SUCCEEDED:
        return ChargeNotice.SUCCESS
    closed = charge.state is ChargeState.CLOSED and not charge.superseded
    return ChargeNotice.CLOSED if closed or charge.state is ChargeState.REVERSED else None


def _notice(before: Charge, after: Charge, observation: ChargeObservation) -> ChargeNotice | None:
    """The notice of a transition. Money that came or went back is always announced.

    An end without money is announced, unless the caller knows it already or has asked for it.
    """
    if after.state is ChargeState.SUCCEEDED:
        return ChargeNotice.SUCCESS
    if after.superseded:
        return ChargeNotice.CLOSED if after.state is ChargeState.REVERSED else None
    if after.state is ChargeState.PENDING:
        return None
    ends = (ChargeState.FAILED, ChargeState.CLOSED)
    in_the_answer = observation.by is ObservedBy.CREATE and after.state in ends
    return None if before.state in ends or in_the_answer else ChargeNotice.CLOSED
