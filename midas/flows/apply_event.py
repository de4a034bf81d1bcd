"""apply_event: write down each event of Ping++ that a webhook brings, and apply it.

read ─┬─ unreadable, another app's, another mode's, another type's, unknown order ─▶ ignored
      ├─ money under a number of ours that is not known here ─▶ parked, with an alarm
      └─ ours ─┬─ applied: event, state, journal entry and notification are one commit
               └─ cannot be applied yet ─▶ waiting: applied by `apply_waiting` later

Ping++ is never asked while a webhook waits for its answer. An event is on disk once, under its id.
A repetition of the event finds it there.
"""

import hashlib
import logging
from dataclasses import dataclass
from enum import StrEnum

from midas import limits
from midas.charge import (
    Charge,
    ObservedBy,
    of_another_account,
)
from midas.draft import Draft
from midas.errors import (
    EventIdReused,
    FieldViolation,
    InvalidRequest,
    MidasError,
    StorageUnavailable,
)
from midas.event import EventRecord, EventStanding, PspEvent, Subject, UnreadableEvent
from midas.flows.commit import EVENT_ID, Ports, commit
from midas.flows.event_handlers import NotAsked, NotYet, handler_of
from midas.flows.observe import charge_observation, observing
from midas.immutable import replace
from midas.out_trade_no import made_at
from midas.payment import Order
from midas.ports import Done, KeyKind, KeyTaken, NotDone, Refusal

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


def read(ports: Ports, body: bytes, unreadable: str) -> tuple[EventRecord, Subject | None]:
    """The event and what it is about, or why it would be ignored. Raises InvalidRequest.

    `unreadable` says why the gateway could not read the body. The body is not read then.
    """
    if not 0 < len(body) <= limits.EVENT_BYTES:
        rule = f"give 1 to {limits.EVENT_BYTES} bytes"
        raise InvalidRequest((FieldViolation("body", rule),))
    psp_event = UnreadableEvent(unreadable[:64]) if unreadable else ports.psp.read_event(body)
    digest = hashlib.sha256(body).hexdigest()
    named = f"sha256:{digest}"[: limits.EVENT_ID_CHARACTERS], ""
    event_id, kind = (
        (psp_event.event_id, psp_event.type) if isinstance(psp_event, PspEvent) else named
    )
    record = EventRecord(
        event_id=event_id,
        order_no=None,
        type=kind,
        received_at=ports.store.now(),
        body_digest=digest,
        body=body,
        standing=EventStanding.IGNORED,
    )
    if isinstance(psp_event, UnreadableEvent):
        logger.error(
            "event_unreadable", extra={"event_id": record.event_id, "reason": psp_event.reason}
        )
        return replace(record, reason="unreadable"), None
    reason, ours = _concern(ports, psp_event)
    if reason == OBJECT_UNREADABLE:
        return replace(record, reason=reason, standing=EventStanding.PARKED), None
    if reason:
        return replace(record, reason=reason, body=body if ours else b""), None
    return record, psp_event.subject


OBJECT_UNREADABLE = "object_unreadable"
"""The reason of an event whose object cannot be read. Money may have moved, and only a person or a
newer Midas can find out which."""


_STRANGE = ("other_mode", "other_app")
"""The reasons of events that belong to the other mode or to another application."""


def _concern(ports: Ports, event: PspEvent) -> tuple[str, bool]:
    """Why an event is none of Midas's business, and whether it is this account's all the same."""
    if event.livemode != ports.psp.livemode:
        return "other_mode", False
    if not event.handled:
        return "type_not_handled", True
    if event.subject is None:
        return OBJECT_UNREADABLE, True
    if event.subject.app_id not in ("", ports.psp.app_id):
        return "other_app", False
    return "", True


async def record(ports: Ports, event: EventRecord, subject: Subject | None) -> Recorded:
    """Write the event down, and apply it if possible. Raises EventIdReused, StorageUnavailable."""
    if subject is None:
        return await _by_itself(ports, event)
    order = await _owner(ports, subject)
    if order is None:
        return await _of_unknown_order(ports, event, subject)
    owned = replace(event, order_no=order.order_no)
    try:
        return await _applied(ports, order, owned, subject)
    except MidasError:
        raise
    except Exception as error:  # any defect: the event must not be lost with it (W17)
        if isinstance(error, KeyTaken) and error.column == EVENT_ID:
            return await _known(ports, event)
        return await _by_itself(ports, _waiting(ports, owned, _why_not(owned, error)))


async def _of_unknown_order(ports: Ports, event: EventRecord, subject: Subject) -> Recorded:
    """Park money under a number of ours, ignore all else: the database has lost its order (D3).

    An intent is on disk before anything is sent, so such an event cannot be early. It does not wait
    to be applied. A process that still has the row puts it back with Ping++'s answer, which has
    more in it than the event. Else a person, or a look through Ping++'s lists, adopts the charge.
    """
    if not is_lost_money(subject):
        return await _by_itself(ports, replace(event, reason=UNKNOWN_ORDER))
    lost = replace(event, reason=ORDER_LOST, standing=EventStanding.PARKED)
    return await _by_itself(
        ports, lost, out_trade_no=subject.out_trade_no, charge_id=subject.charge_id
    )


UNKNOWN_ORDER = "unknown_order"
"""The reason of an event about no order that is known here. Other systems may use the same app, and
Ping++'s dashboard sends samples."""
ORDER_LOST = "order_lost"
"""The reason of an event whose number only Midas can have made, though no row here has it."""


def is_lost_money(subject: Subject) -> bool:
    """Whether an event of an unknown order is about money that was moved by this Midas.

    That is a payment or a refund under a number that Midas makes at about that time.
    """
    made = made_at(subject.out_trade_no)
    return made is not None and handler_of(subject).moved_money_after(subject, made)


async def _known(ports: Ports, event: EventRecord) -> Recorded:
    """The event of this id as it is on disk. Raises EventIdReused if that one has another body."""
    stored = await ports.store.event(event.event_id)
    if stored is None:
        raise StorageUnavailable
    same = stored.body_digest == event.body_digest or _is_strangers(stored, event)
    if not same and not ports.psp.is_same_event(stored.body, event.body):
        logger.error("event_id_reused", extra=_ids(event))
        raise EventIdReused(event.event_id)
    return Recorded(EventOutcome.DUPLICATE, stored)


def _is_strangers(stored: EventRecord, event: EventRecord) -> bool:
    """Whether both are of another app, or in the other mode: no body is kept then to compare."""
    return event.reason in _STRANGE and event.reason == stored.reason


async def _by_itself(ports: Ports, event: EventRecord, **ids: str) -> Recorded:
    if not await ports.store.record_event(event):
        return await _known(ports, event)
    if event.standing is EventStanding.PARKED:
        logger.error("event_parked", extra=_ids(event) | {"reason": event.reason} | ids)
    accepted = event.standing is EventStanding.WAITING
    return Recorded(EventOutcome.ACCEPTED if accepted else EventOutcome.IGNORED, event)


async def _applied(ports: Ports, order: Order, event: EventRecord, subject: Subject) -> Recorded:
    done = _done(ports, event)

    def decide(draft: Draft) -> None:
        _apply(ports, draft, subject)
        draft.record_event(done)

    await commit(ports, order, decide)
    return Recorded(EventOutcome.ACCEPTED, done)


def _done(ports: Ports, event: EventRecord) -> EventRecord:
    applied = EventStanding.APPLIED
    return replace(event, standing=applied, reason="", applied_at=ports.store.now(), due_at=None)


def _waiting(ports: Ports, event: EventRecord, why: str) -> EventRecord:
    now = ports.store.now()
    return replace(event, standing=EventStanding.WAITING, reason=why, due_at=now)


def _why_not(event: EventRecord, error: Exception) -> str:
    if isinstance(error, NotYet):
        return str(error)
    logger.error("event_not_applied", extra=_ids(event) | {"error": type(error).__name__})
    return "apply_failed"


async def _owner(ports: Ports, subject: Subject) -> Order | None:
    """The order that the event is about; None if it is not known here."""
    order = None
    if subject.out_trade_no:
        order = await ports.store.find(KeyKind.OUT_TRADE_NO, subject.out_trade_no)
    return order or await ports.store.find(KeyKind.CHARGE_ID, subject.charge_id)


def _apply(ports: Ports, draft: Draft, subject: Subject, *, charge_queried: bool = False) -> None:
    """Apply the subject to the order. Raises NotYet while that is not possible.

    `charge_queried`: Ping++ was asked about the charge meanwhile, so there is nothing to wait for.
    """
    charge = _charge_of(draft.order, subject)
    handler_of(subject).apply(ports, draft, charge, subject, charge_queried)


def _charge_of(order: Order, subject: Subject) -> Charge:
    """The charge of Ping++'s id, or of the number if no charge has that id. Raises NotYet."""
    for each in order.charges:
        if each.charge_id == subject.charge_id:
            return each
    for each in order.charges:
        if each.out_trade_no == subject.out_trade_no:
            return each
    raise NotYet("charge_lost")


async def apply_waiting(ports: Ports, event: EventRecord) -> None:
    """Apply an event that waits, after asking Ping++ about the charge of a refund.

    An event that cannot be applied yet comes up again. It is parked after EVENT_ATTEMPTS attempts
    or, while Ping++ cannot be asked, after UNKNOWN_PATIENCE. Raises StorageUnavailable.
    """
    try:
        await _apply_late(ports, event)
        logger.info("event_applied_late", extra=_ids(event))
    except MidasError:
        raise
    except Exception as error:
        why = _why_not(event, error)
        if _is_hopeless(ports, event, error):
            await _park(ports, replace(event, reason=why))


def _is_hopeless(ports: Ports, event: EventRecord, error: Exception) -> bool:
    if isinstance(error, NotAsked):
        return ports.store.now() >= event.received_at + limits.UNKNOWN_PATIENCE
    return event.attempts >= limits.EVENT_ATTEMPTS


async def _apply_late(ports: Ports, event: EventRecord) -> None:
    psp_event = ports.psp.read_event(event.body)
    if isinstance(psp_event, UnreadableEvent):
        raise NotYet("unreadable")
    reason, _ = _concern(ports, psp_event)
    subject = psp_event.subject
    if reason or subject is None:
        raise NotYet(reason or OBJECT_UNREADABLE)
    order = await _ask_about_charge(ports, await _order_of(ports, event), subject)
    done = _done(ports, event)

    def decide(draft: Draft) -> None:
        _apply(ports, draft, subject, charge_queried=True)
        draft.settle_event(done)

    await commit(ports, order, decide)


async def _order_of(ports: Ports, event: EventRecord) -> Order:
    """The order of an event that waits. Such an event always has one."""
    return await ports.store.load(event.order_no or "")


async def _ask_about_charge(ports: Ports, order: Order, subject: Subject) -> Order:
    """Ask Ping++ about the charge whose refund was reported before its payment."""
    if not handler_of(subject).needs_query:
        return order
    verdict = await ports.psp.retrieve_charge(subject.charge_id)
    if isinstance(verdict, NotDone) and verdict.refusal is Refusal.NOT_FOUND:
        raise NotAsked("charge_not_found")  # one 404 proves nothing, and a wrong key gives many
    if not isinstance(verdict, Done):
        raise NotAsked("charge_not_asked")
    number = verdict.answer.out_trade_no
    if all(each.out_trade_no != number for each in order.charges):
        raise NotYet("charge_of_another_order")
    if of_another_account(order.charge(number), verdict.answer):
        raise NotAsked("charge_of_another_account")
    observation = charge_observation(
        ports, order.charge(number), verdict.answer, ObservedBy.RESOLVE
    )
    return await commit(ports, order, observing(number, observation))


async def _park(ports: Ports, event: EventRecord) -> None:
    """Park the event for a person, unless another process has applied it meanwhile.

    The order is read first: a process that applies the event after that makes the commit here fail.
    """
    parked = replace(event, standing=EventStanding.PARKED, due_at=None)
    for _ in range(limits.CONFLICT_RETRIES):
        draft = Draft(await _order_of(ports, event))
        now = await ports.store.event(event.event_id)
        if now is None or now.standing is not EventStanding.WAITING:
            return
        draft.settle_event(parked)
        wanted = draft.change(ports.store.new_change_id())
        if wanted is not None and await ports.store.commit(wanted):
            logger.error("event_parked", extra=_ids(event) | {"reason": event.reason})
            return


def _ids(event: EventRecord) -> dict[str, object]:
    return {"event_id": event.event_id, "kind": event.type, "order_no": event.order_no or ""}
