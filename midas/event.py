"""Ping++'s events: what one is about, and what Midas keeps of it. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum

from midas.charge import ChargeFacts, ChargeReport, report_of
from midas.immutable import record
from midas.refund import RefundFacts


@record(frozen=True, slots=True)
class ChargeInEvent:
    """A charge as it was at the moment of the event."""

    facts: ChargeFacts

    @property
    def out_trade_no(self) -> str:
        """Our number of the charge that the event is about."""
        return self.facts.out_trade_no

    @property
    def charge_id(self) -> str:
        """Ping++'s own id of that charge."""
        return self.facts.charge_id

    @property
    def app_id(self) -> str:
        """The Ping++ application that the charge belongs to."""
        return self.facts.app_id


@record(frozen=True, slots=True)
class RefundInEvent:
    """A refund as it was at the moment of the event."""

    facts: RefundFacts
    out_trade_no: str
    """Our number of the charge that the event is about; empty where the refund does not name it."""

    @property
    def charge_id(self) -> str:
        """Ping++'s own id of that charge."""
        return self.facts.charge_id

    @property
    def app_id(self) -> str:
        """The application that the refund belongs to; empty where the refund does not name it."""
        return self.facts.app_id


Subject = ChargeInEvent | RefundInEvent
"""What an event is about. Each kind has its handler in `flows/event_handlers.py`."""


@record(frozen=True, slots=True)
class PspEvent:
    """An event of Ping++ (pingpp.md section 4), read but not judged."""

    event_id: str
    type: str
    livemode: bool
    handled: bool
    """Whether Midas handles events of this type."""
    subject: Subject | None = None
    """None: the type is not handled, or its object cannot be read."""


@record(frozen=True, slots=True)
class UnreadableEvent:
    """A body that cannot be read as an event; `reason` is a constant."""

    reason: str


class EventStanding(StrEnum):
    """What became of an event that is on disk."""

    APPLIED = "APPLIED"
    IGNORED = "IGNORED"  # it concerns nothing of Midas
    WAITING = "WAITING"  # not applied yet; Midas tries again by itself
    PARKED = "PARKED"  # no further attempt helps: a person has to look


@record(frozen=True)
class EventRecord:
    """One event, as stored. `event_id` is Ping++'s, or the digest of a body that has none."""

    event_id: str
    order_no: str | None
    type: str
    received_at: datetime
    body_digest: str
    """SHA-256 of the body, in hexadecimal."""
    body: bytes
    """The body as it came; empty if the event is another app's or in the other mode."""
    standing: EventStanding
    reason: str = ""
    """Why it is not applied, as a constant."""
    applied_at: datetime | None = None
    attempts: int = 0
    """How often Midas tried to apply it."""
    due_at: datetime | None = None
    """When to try again, by the database's clock. None: never."""


def report_in_event(facts: ChargeFacts) -> ChargeReport:
    """What a charge inside an event reports.

    An event shows its charge as it was at some earlier moment. An unpaid charge was waiting then;
    only Ping++ can say whether it has lapsed since (I5).
    """
    report = report_of(facts, facts.created_at, facts.created_at, timedelta(0))
    return ChargeReport.WAITING if report is ChargeReport.LAPSED else report
