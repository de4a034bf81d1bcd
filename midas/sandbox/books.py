"""The state of the look-alike: objects in memory, every change recorded in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from midas.sandbox.entries import EVENT_KINDS, Entry, EntryKind, Ledger
from midas.sandbox.errors import Json
from midas.sandbox.ids import Ids
from midas.sandbox.objects import charge_json, refund_json
from midas.sandbox.records import Charge, Refund


class Books:
    """Charges, refunds, events and owed webhooks, and the ledger that they can be rebuilt from.

    Change things only inside `change()`: what was recorded in it is on disk, as one line, before it
    returns, and only then are the new events announced through `on_event`.
    """

    def __init__(
        self,
        *,
        app_id: str,
        livemode: bool,
        now: Callable[[], float],
        rng_seed: int | None,
        ledger: Ledger,
    ) -> None:
        self.app_id = app_id
        self.livemode = livemode
        self.now = now
        self.ledger = ledger
        self.ids = Ids(livemode, rng_seed)
        self.public_url = ""
        self.on_event: Callable[[Json], None] | None = None
        self.webhook_urls: tuple[str, ...] = ()
        self._pending: list[Entry] = []
        self._forget()
        for entry in ledger.entries:
            self._restore(entry)

    def _forget(self) -> None:
        self.charges: dict[str, Charge] = {}
        self.charges_oldest_first: list[Charge] = []
        self.refunds: dict[str, Refund] = {}
        self.events: dict[str, Json] = {}
        self.owed: dict[tuple[str, str], None] = {}
        self._by_order_no: dict[str, list[Charge]] = {}
        self._by_charge: dict[str, list[Refund]] = {}

    def clear(self) -> None:
        """Forget every object and every entry, on disk too."""
        self._forget()
        self.ledger.clear()

    @contextmanager
    def change(self, *, durable: bool = True) -> Iterator[None]:
        """Everything recorded inside becomes durable together when the block ends.

        Without `durable` it survives the end of the process, but perhaps not that of the machine.
        """
        try:
            yield
        finally:
            batch, self._pending = self._pending, []
            self.ledger.append(batch, durable=durable)
        for entry in batch:
            if entry.kind == "event_created" and self.on_event is not None:
                self.on_event(self.events[entry.state["id"]])

    # Reading ------------------------------------------------------------------------------

    def charges_of(self, order_no: str) -> list[Charge]:
        """All charges with this merchant number, oldest first."""
        return self._by_order_no.get(order_no, [])

    def refunds_of(self, charge_id: str) -> list[Refund]:
        """All refunds of one charge, oldest first."""
        return self._by_charge.get(charge_id, [])

    def show_charge(self, charge: Charge, *, expand_app: bool = False) -> Json:
        """The charge as the API shows it now."""
        refunds = self.refunds_of(charge.id)
        return charge_json(charge, refunds, self.public_url, expand_app=expand_app)

    # Writing ------------------------------------------------------------------------------

    def add_charge(self, charge: Charge) -> None:
        """Add a new charge."""
        self._index_charge(charge)
        self.record_charge("charge_created", charge)

    def add_refund(self, refund: Refund) -> None:
        """Add a new refund."""
        self._index_refund(refund)
        self.record_refund("refund_created", refund)

    def record_charge(self, kind: EntryKind, charge: Charge, amount: int = 0) -> None:
        """Record that a charge changed; `amount` is the money that moved with it."""
        self._record(kind, charge, amount=amount, state=asdict(charge))

    def record_refund(self, kind: EntryKind, refund: Refund, amount: int = 0) -> None:
        """Record that a refund changed; `amount` is the money that moved with it."""
        charge = self.charges[refund.charge]
        self._record(kind, charge, refund_id=refund.id, amount=amount, state=asdict(refund))

    def add_event(self, kind: str, charge: Charge, refund: Refund | None = None) -> None:
        """Add an Event object (pingpp.md section 4) with the object as it is at this moment.

        `pending_webhooks` stays 0, as in all recorded events since 2017: a repeated webhook must
        have the same bytes. Every webhook that the event owes is recorded with it.
        """
        about = (
            refund_json(refund)
            if refund is not None
            else charge_json(charge, self.refunds_of(charge.id), "", with_credential=False)
        )
        event: Json = {
            "id": self.ids.event(self.now(), len(self.events) + 1),
            "created": int(self.now()),
            "livemode": self.livemode,
            "type": kind,
            "data": {"object": about},
            "object": "event",
            "request": self.ids.request(),
            "pending_webhooks": 0,
        }
        self.events[event["id"]] = event
        refund_id = refund.id if refund is not None else None
        self._record("event_created", charge, refund_id=refund_id, state=event)
        for url in self.webhook_urls:
            self.owed[event["id"], url] = None
            state = {"id": event["id"], "url": url}
            self._record("webhook_owed", charge, refund_id=refund_id, state=state)

    def settle_webhook(self, event_id: str, url: str, outcome: str) -> None:
        """Record how a webhook ended. Does nothing if it is not owed, or no longer."""
        if (event_id, url) not in self.owed:
            return
        del self.owed[event_id, url]
        about = self.events[event_id]["data"]["object"]
        charge = self.charges[about.get("charge", about["id"])]
        state = {"id": event_id, "url": url, "outcome": outcome}
        # If this is lost with the machine, one webhook is sent too many. Ping++ may do that, too.
        with self.change(durable=False):
            self._record("webhook_settled", charge, state=state)

    def _record(
        self,
        kind: EntryKind,
        charge: Charge,
        *,
        state: Json,
        refund_id: str | None = None,
        amount: int = 0,
    ) -> None:
        entry = Entry(
            seq=len(self.ledger.entries) + len(self._pending) + 1,
            time=self.now(),
            kind=kind,
            order_no=charge.order_no,
            charge_id=charge.id,
            refund_id=refund_id,
            event_id=state["id"] if kind in EVENT_KINDS else None,
            channel=charge.channel,
            amount=amount,
            currency=charge.currency,
            state=state,
        )
        self._pending.append(entry)

    def _index_charge(self, charge: Charge) -> None:
        self.charges[charge.id] = charge
        self.charges_oldest_first.append(charge)
        self._by_order_no.setdefault(charge.order_no, []).append(charge)

    def _index_refund(self, refund: Refund) -> None:
        self.refunds[refund.id] = refund
        self._by_charge.setdefault(refund.charge, []).append(refund)

    def _restore(self, entry: Entry) -> None:
        if entry.kind == "event_created":
            self.events[entry.state["id"]] = entry.state
        elif entry.kind == "webhook_owed":
            self.owed[entry.state["id"], entry.state["url"]] = None
        elif entry.kind == "webhook_settled":
            self.owed.pop((entry.state["id"], entry.state["url"]), None)
        elif entry.kind == "charge_created":
            self._index_charge(Charge(**entry.state))
        elif entry.kind == "refund_created":
            self._index_refund(Refund(**entry.state))
        elif entry.refund_id is None:
            _overwrite(self.charges[entry.state["id"]], entry.state)
        else:
            _overwrite(self.refunds[entry.state["id"]], entry.state)


def _overwrite(record: Charge | Refund, state: Json) -> None:
    for name, value in state.items():
        setattr(record, name, value)
