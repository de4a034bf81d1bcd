"""events: write down what Ping++ tells by webhook, and apply it.

read ─┬─ unreadable, another app's, another mode's, another type's, unknown order ─▶ ignored
      └─ ours ─┬─ applied: event, state, journal entry and notification are one commit
               └─ cannot be applied yet ─▶ waiting: applied by `apply_waiting` later

Ping++ is never asked while a webhook waits for its answer. An event is on disk once, by its id; the
same event again finds it there.
"""

import hashlib
import logging
from dataclasses import dataclass, replace
from enum import StrEnum

from midas import limits
from midas.charge import Charge, ChargeObservation, ChargeState, ObservedBy
from midas.errors import (
    EventIdReused,
    FieldViolation,
    InvalidRequest,
    MidasError,
    StorageUnavailable,
)
from midas.event import EventRecord, EventStanding, PspEvent, UnreadableEvent, said_in_event
from midas.flows.observe import EVENT_ID, Ports, change, charge_told, see_charge
from midas.payment import Draft, Order
from midas.ports import Done, KeyKind, KeyTaken
from midas.records import changed
from midas.refund import RefundFacts

logger = logging.getLogger("midas.flows")


class EventOutcome(StrEnum):
    """What recording an event comes to."""

    ACCEPTED = "ACCEPTED"
    DUPLICATE = "DUPLICATE"
    IGNORED = "IGNORED"


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event that is on disk."""

    outcome: EventOutcome
    event: EventRecord


class NotYet(Exception):
    """The event cannot be applied to the order as it stands. The text is a constant."""


def read(ports: Ports, body: bytes, unreadable: str) -> tuple[EventRecord, PspEvent | None]:
    """The event, with why it would be ignored if that shows by itself. Raises InvalidRequest.

    `unreadable` says why the gateway could not read the body; it is not looked at then.
    """
    if not 0 < len(body) <= limits.EVENT_BYTES:
        rule = f"give 1 to {limits.EVENT_BYTES} bytes"
        raise InvalidRequest((FieldViolation("body", rule),))
    said = UnreadableEvent(unreadable[:64]) if unreadable else ports.psp.read_event(body)
    digest = hashlib.sha256(body).hexdigest()
    record = EventRecord(
        event_id=f"sha256:{digest}"[: limits.EVENT_ID_CHARACTERS],
        order_no=None,
        type="",
        received_at=ports.store.now(),
        body_digest=digest,
        body=body,
        standing=EventStanding.IGNORED,
    )
    if isinstance(said, UnreadableEvent):
        logger.error("event_unreadable", extra={"event_id": record.event_id, "reason": said.reason})
        return replace(record, reason="unreadable"), None
    record = replace(record, event_id=said.event_id, type=said.type)
    reason, ours = _concern(ports, said)
    if reason:
        return replace(record, reason=reason, body=body if ours else b""), None
    return record, said


def _concern(ports: Ports, event: PspEvent) -> tuple[str, bool]:
    """Why an event is none of Midas's business, and whether it is this account's all the same."""
    if event.livemode != ports.psp.livemode:
        return "other_mode", False
    if not event.handled:
        return "type_not_handled", True
    facts = event.charge or event.refund
    if facts is None:
        logger.error("event_object_unreadable", extra={"event_id": event.event_id})
        return "object_unreadable", True
    if facts.app_id and facts.app_id != ports.psp.app_id:
        return "other_app", False
    return "", True


async def record(ports: Ports, event: EventRecord, said: PspEvent | None) -> Recorded:
    """Write the event down, applied where that can be. Raises EventIdReused, StorageUnavailable."""
    order = None if said is None else await _owner(ports, said)
    try:
        if said is None:
            return await _by_itself(ports, event)
        if order is None:
            return await _by_itself(ports, replace(event, reason="unknown_order"))
        owned = replace(event, order_no=order.order_no)
        try:
            return await _applied(ports, order, owned, said)
        except NotYet as why:
            waiting = _waiting(ports, owned, str(why))
        except (MidasError, KeyTaken):
            raise
        except Exception as error:  # whatever it is, the event must not be lost with it (W17)
            logger.error("event_not_applied", extra=_ids(owned) | {"error": type(error).__name__})
            waiting = _waiting(ports, owned, "apply_failed")
        return await _by_itself(ports, waiting)
    except KeyTaken as taken:
        if taken.column != EVENT_ID:
            raise
        return await known(ports, event)


async def known(ports: Ports, event: EventRecord) -> Recorded:
    """The event of this id as it is on disk. Raises EventIdReused if that one has another body."""
    stored = await ports.store.event(event.event_id)
    if stored is None:
        raise StorageUnavailable
    if stored.body_digest != event.body_digest:
        logger.error("event_id_reused", extra=_ids(event))
        raise EventIdReused(event.event_id)
    return Recorded(EventOutcome.DUPLICATE, stored)


async def _by_itself(ports: Ports, event: EventRecord) -> Recorded:
    if not await ports.store.record_event(event):
        return await known(ports, event)
    ignored = event.standing is EventStanding.IGNORED
    return Recorded(EventOutcome.IGNORED if ignored else EventOutcome.ACCEPTED, event)


async def _applied(ports: Ports, order: Order, event: EventRecord, said: PspEvent) -> Recorded:
    done = _done(ports, event)

    def decide(draft: Draft) -> None:
        _apply(ports, draft, said)
        draft.record_event(done)

    await change(ports, order, decide)
    return Recorded(EventOutcome.ACCEPTED, done)


def _done(ports: Ports, event: EventRecord) -> EventRecord:
    applied = EventStanding.APPLIED
    return replace(event, standing=applied, reason="", applied_at=ports.store.now(), due_at=None)


def _waiting(ports: Ports, event: EventRecord, why: str) -> EventRecord:
    now = ports.store.now()
    return replace(event, standing=EventStanding.WAITING, reason=why, due_at=now)


async def _owner(ports: Ports, said: PspEvent) -> Order | None:
    """The order that the event is about."""
    order = None
    if said.out_trade_no:
        order = await ports.store.find(KeyKind.OUT_TRADE_NO, said.out_trade_no)
    if order is None and said.refund is not None:
        order = await ports.store.find(KeyKind.CHARGE_ID, said.refund.charge_id)
    return order


def _apply(ports: Ports, draft: Draft, said: PspEvent, *, whatever: bool = False) -> None:
    """Send it down the funnel. Raises NotYet while a refund's charge is not known to be paid.

    `whatever`: Ping++ was asked about the charge meanwhile, so nothing is waited for any more.
    """
    now = ports.store.now()
    if said.charge is not None:
        told = said_in_event(said.charge)
        seen = ChargeObservation(told, ObservedBy.WEBHOOK, now, said.charge)
        see_charge(draft, said.charge.out_trade_no, seen)
    elif said.refund is not None:
        charge = _refunded_charge(draft.order, said, said.refund)
        if charge.charge_id not in (None, said.refund.charge_id):
            reason = f"Ping++ told of a refund of {said.refund.charge_id} under this number"
            raised = changed(charge, operator_reason=reason, updated_at=now)
            draft.put_charge(raised, "charge_quarantined", now, ObservedBy.WEBHOOK)
        elif charge.state not in _PAID and not whatever:
            raise NotYet("charge_not_paid_yet")
        else:
            draft.observe_refund_list(charge.out_trade_no, (said.refund,), ObservedBy.WEBHOOK, now)


_PAID = (ChargeState.SUCCEEDED, ChargeState.REVERSED)


def _refunded_charge(order: Order, said: PspEvent, refund: RefundFacts) -> Charge:
    for each in order.charges:
        if each.charge_id == refund.charge_id:
            return each
    return order.charge(said.out_trade_no)


async def apply_waiting(ports: Ports, event: EventRecord) -> None:
    """Apply an event that waits, after asking Ping++ about the charge of a refund.

    What cannot be applied yet stays as it is and comes up again. What breaks Midas is parked after
    EVENT_ATTEMPTS. Raises StorageUnavailable.
    """
    said = ports.psp.read_event(event.body)
    order = None if isinstance(said, UnreadableEvent) else await _owner(ports, said)
    if order is None or isinstance(said, UnreadableEvent):
        return await _park(ports, event)
    try:
        order = await _ask_about_charge(ports, order, said)
        done = _done(ports, event)

        def decide(draft: Draft) -> None:
            _apply(ports, draft, said, whatever=True)
            draft.settle_event(done)

        await change(ports, order, decide)
        logger.info("event_applied_late", extra=_ids(event))
    except NotYet:
        pass
    except MidasError:
        raise
    except Exception as error:
        logger.error("event_not_applied", extra=_ids(event) | {"error": type(error).__name__})
        if event.attempts >= limits.EVENT_ATTEMPTS:
            await _park(ports, event)
    return None


async def _ask_about_charge(ports: Ports, order: Order, said: PspEvent) -> Order:
    """What Ping++ says of the charge whose refund was told of before its payment."""
    if said.refund is None:
        return order
    told = await ports.psp.retrieve_charge(said.refund.charge_id)
    if not isinstance(told, Done):
        raise NotYet("charge_not_asked")
    number = told.answer.out_trade_no
    if all(each.out_trade_no != number for each in order.charges):
        raise NotYet("charge_of_another_order")
    seen = charge_told(ports, told.answer, ObservedBy.RESOLVE)
    return await change(ports, order, lambda draft: see_charge(draft, number, seen))


async def _park(ports: Ports, event: EventRecord) -> None:
    """For a person."""
    logger.error("event_parked", extra=_ids(event) | {"reason": event.reason})
    parked = replace(event, standing=EventStanding.PARKED, due_at=None)
    order = await ports.store.load(event.order_no or "")
    await change(ports, order, lambda draft: draft.settle_event(parked))


def _ids(event: EventRecord) -> dict[str, object]:
    return {"event_id": event.event_id, "kind": event.type, "order_no": event.order_no or ""}
