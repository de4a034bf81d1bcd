"""Ping++'s events: what one says, and what Midas keeps of it. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum

from midas.charge import ChargeFacts, ChargeReport, report_of
from midas.immutable import record
from midas.refund import RefundFacts


@record(frozen=True, slots=True)
class PspEvent:
    """An event as Ping++ tells it (pingpp.md section 4), read but not judged.

    It has a charge or a refund if its type is one that Midas handles and its object could be read.
    """

    event_id: str
    type: str
    livemode: bool
    handled: bool
    """Whether Midas handles events of this type."""
    charge: ChargeFacts | None = None
    refund: RefundFacts | None = None
    out_trade_no: str = ""
    """Which charge it is about; empty where a refund does not say."""
    charge_id: str = ""
    """The same by Ping++'s own id."""


@record(frozen=True, slots=True)
class UnreadableEvent:
    """What cannot be read as an event; `reason` is a constant."""

    reason: str


class EventStanding(StrEnum):
    """What became of an event that is on disk."""

    APPLIED = "APPLIED"
    IGNORED = "IGNORED"  # nothing of Midas is concerned
    WAITING = "WAITING"  # not applied yet; Midas tries again by itself
    PARKED = "PARKED"  # could not be applied so often that a person has to look


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
    """As it came; empty where it is another app's or in the other mode."""
    standing: EventStanding
    reason: str = ""
    """Why it is not applied, as a constant."""
    applied_at: datetime | None = None
    attempts: int = 0
    """How often it was tried to apply it."""
    due_at: datetime | None = None
    """When to try again, by the database's clock. None: never."""


def report_in_event(facts: ChargeFacts) -> ChargeReport:
    """What a charge inside an event comes to.

    An event is a picture of some earlier moment, so that one without money says only that the
    charge was waiting then: that it has lapsed must be asked for (I5).
    """
    said = report_of(facts, facts.created_at, facts.created_at, timedelta(0))
    return ChargeReport.WAITING if said is ChargeReport.LAPSED else said
