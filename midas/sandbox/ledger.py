"""The engine: Ping++'s charge, refund and event API over books of its own. No sockets, no waiting.

    lookalike = Lookalike("app_x", now=clock.now)
    status, answer = lookalike.handle("POST", "/v1/charges", (), body)
    lookalike.pay(answer["id"])
    assert lookalike.ledger.paid("ORDER001") == 100

Rules and numbers come from pingpp.md; where it has no rule, the sandbox takes the harsher
reading.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import get_args

from midas.sandbox import charge_endpoints, refund_endpoints
from midas.sandbox.api import Api
from midas.sandbox.books import Books
from midas.sandbox.declines import DeclinePlan
from midas.sandbox.entries import MONEY_KINDS, Entry, Ledger
from midas.sandbox.errors import ApiError, ControlError, Json
from midas.sandbox.listing import Query
from midas.sandbox.objects import refund_json
from midas.sandbox.records import Charge, Refund
from midas.sandbox.refund_endpoints import RefundOutcome, RefundPlan

__all__ = ["MONEY_KINDS", "Entry", "Ledger", "Lookalike", "RefundOutcome", "RefundPlan"]

PLANS_MOST = 1000


class Lookalike:
    """One Ping++ account with one app, in one mode.

    `now` gives unix seconds and must not go backwards. With `ledger_path` every change is on disk
    before `handle` or a control returns, and a new instance on the same path continues from it.
    Controls raise `ControlError` when what they ask cannot happen. Not thread-safe.
    """

    def __init__(
        self,
        app_id: str,
        livemode: bool = False,
        now: Callable[[], float] = time.time,
        rng_seed: int | None = None,
        *,
        ledger_path: Path | None = None,
        wx_reverse_after_s: float = 0.0,
        refund_description_required: bool = True,
        strict: bool = False,
        public_url: str = "https://sandbox.invalid",
        on_event: Callable[[Json], None] | None = None,
    ) -> None:
        self.ledger = Ledger(ledger_path)
        self._books = Books(
            app_id=app_id, livemode=livemode, now=now, rng_seed=rng_seed, ledger=self.ledger
        )
        self._books.public_url = public_url
        self._books.on_event = on_event
        self._plans: list[RefundPlan] = []
        self._declines: list[DeclinePlan] = []
        self._api = Api(
            self._books,
            self._choose_plan,
            wx_reverse_after_s=wx_reverse_after_s,
            refund_description_required=refund_description_required,
            strict=strict,
            declines=self._declines,
        )

    # The API ------------------------------------------------------------------------------

    def handle(self, method: str, path: str, query: Query, body: bytes) -> tuple[int, Json]:
        """Answer one request that is already authenticated: HTTP status and JSON object."""
        return self._api.handle(method, path, query, body)

    @property
    def app_id(self) -> str:
        """The app whose charges these are."""
        return self._books.app_id

    @property
    def livemode(self) -> bool:
        """The mode of every object."""
        return self._books.livemode

    @property
    def events(self) -> Mapping[str, Json]:
        """Every Event object by id, oldest first."""
        return self._books.events

    @property
    def on_event(self) -> Callable[[Json], None] | None:
        """Called with every new Event once it is durable; `SandboxServer` sends webhooks here."""
        return self._books.on_event

    @on_event.setter
    def on_event(self, callback: Callable[[Json], None] | None) -> None:
        self._books.on_event = callback

    @property
    def public_url(self) -> str:
        """Where the links in credentials and refunds lead; no slash at the end."""
        return self._books.public_url

    @public_url.setter
    def public_url(self, url: str) -> None:
        self._books.public_url = url

    @property
    def webhook_urls(self) -> tuple[str, ...]:
        """Where every new Event is owed to; `midas.sandbox.webhooks` sends it there."""
        return self._books.webhook_urls

    @webhook_urls.setter
    def webhook_urls(self, urls: tuple[str, ...]) -> None:
        self._books.webhook_urls = urls

    @property
    def owed_webhooks(self) -> list[tuple[str, str]]:
        """Event id and URL of each webhook that has not come to its end, oldest first."""
        return list(self._books.owed)

    def settle_webhook(self, event_id: str, url: str, outcome: str) -> None:
        """Note how a webhook ended, so that a restart does not send it again."""
        self._books.settle_webhook(event_id, url, outcome)

    def now(self) -> float:
        """Unix seconds by the injected clock."""
        return self._books.now()

    # Looking ------------------------------------------------------------------------------

    def find(self, charge_id: str) -> Json | None:
        """The few members that say which charge this is, or None when there is none."""
        charge = self._books.charges.get(charge_id)
        if charge is None:
            return None
        return {"id": charge.id, "order_no": charge.order_no, "channel": charge.channel}

    def charge(self, charge_id: str) -> Json:
        """The charge as the API shows it; `ControlError` when there is none."""
        return self._books.show_charge(self._known(charge_id))

    def charges_of(self, order_no: str) -> list[Json]:
        """Every charge with this merchant number that Ping++ shows, oldest first."""
        known = self._books.charges_of(order_no)
        return [self._books.show_charge(charge) for charge in known if charge.shown]

    def newest_charges(self, limit: int) -> list[Json]:
        """The newest charges that Ping++ shows, newest first."""
        newest = (charge for charge in reversed(self._books.charges_oldest_first) if charge.shown)
        return [self._books.show_charge(charge) for charge in islice(newest, limit)]

    def hidden_charge_of(self, order_no: str) -> str | None:
        """The id of a bar code of this number that Ping++ does not show."""
        known = self._books.charges_of(order_no)
        return next((charge.id for charge in known if not charge.shown), None)

    def unpaid_bar_codes(self) -> list[str]:
        """Ids of bar codes that were declined and can still be paid, whether shown or not."""
        return [
            charge.id
            for charge in self._books.charges_oldest_first
            if charge.rules.pays_at_create and not (charge.paid or charge.reversed)
        ]

    def is_expired(self, charge_id: str) -> bool:
        """Whether it is unpaid and past its `time_expire`."""
        return self._known(charge_id).expired(self._books.now())

    def refund(self, refund_id: str) -> Json:
        """The refund as it is, without making a fresh link."""
        return refund_json(self._known_refund(refund_id))

    def refunds_of(self, charge_id: str) -> list[Json]:
        """Every refund of a charge, oldest first."""
        return [refund_json(refund) for refund in self._books.refunds_of(charge_id)]

    # Controls -----------------------------------------------------------------------------

    def pay(self, charge_id: str) -> Json:
        """The payer confirms in time. It pays once, and is refused when expired or reversed."""
        return self._pay(charge_id, late=False)

    def pay_late(self, charge_id: str) -> Json:
        """The payer's money arrives although the charge expired or failed, but not if reversed."""
        return self._pay(charge_id, late=True)

    def fail_payment(self, charge_id: str, code: str | None = None, msg: str | None = None) -> Json:
        """The channel reports an unpaid charge as failed. `pay_late` can still pay it."""
        charge_endpoints.fail_charge(self._books, self._known(charge_id), code, msg)
        return self.charge(charge_id)

    def cancel(self, charge_id: str) -> Json:
        """The payer closes the page: at Ping++ nothing changes, and there is no event."""
        return self.charge(charge_id)

    def open_page(self, charge_id: str) -> Json:
        """The payer opens the payment page or link."""
        charge_endpoints.open_charge(self._books, self._known(charge_id))
        return self.charge(charge_id)

    def approve_refund(self, refund_id: str) -> Json:
        """The channel pays a pending (or, late, a failed) refund back."""
        return refund_json(
            refund_endpoints.approve_refund(self._books, self._known_refund(refund_id))
        )

    def fail_refund(self, refund_id: str, code: str | None = None, msg: str | None = None) -> Json:
        """The channel refuses a pending refund; the texts default to the recorded real ones."""
        refund = self._known_refund(refund_id)
        return refund_json(refund_endpoints.fail_refund(self._books, refund, code, msg))

    def plan_refund(
        self,
        outcome: RefundOutcome,
        *,
        times: int | None = 1,
        channel: str | None = None,
        order_no: str | None = None,
        code: str | None = None,
        msg: str | None = None,
    ) -> None:
        """Decide the next `times` refunds that match (None: all from now on), first plan first.

        Without a plan refunds succeed at once, as in test mode. Plans do not survive a restart.
        """
        if outcome not in get_args(RefundOutcome):
            raise ControlError(f"outcome must be one of {', '.join(get_args(RefundOutcome))}")
        if times is not None and (type(times) is not int or times < 1):
            raise ControlError("times must be a whole number above zero, or null for every refund")
        self._plans = [plan for plan in self._plans if plan.times != 0]
        if len(self._plans) >= PLANS_MOST:
            raise ControlError(f"at most {PLANS_MOST} refund plans; clear them first")
        self._plans.append(RefundPlan(outcome, times, channel, order_no, code, msg))

    def clear_refund_plans(self) -> None:
        """Let refunds succeed at once again."""
        self._plans.clear()

    def decline_bar_code(
        self,
        *,
        listed: bool = True,
        times: int | None = 1,
        channel: str | None = None,
        order_no: str | None = None,
        code: str | None = None,
        msg: str | None = None,
    ) -> None:
        """Decline the next `times` bar codes that match (None: all from now on) with a 402.

        The payer may still confirm each (`pay`), unless it is reversed before. With `listed` Ping++
        shows the charge as unpaid, else only once it is paid. Plans do not survive a restart.
        """
        self._declines[:] = [plan for plan in self._declines if plan.times != 0]
        if len(self._declines) >= PLANS_MOST:
            raise ControlError(f"at most {PLANS_MOST} plans to decline; clear them first")
        self._declines.append(DeclinePlan(listed, times, channel, order_no, code, msg))

    def clear_declines(self) -> None:
        """Let bar codes be paid at once again."""
        self._declines.clear()

    def refund_at_dashboard(self, charge_id: str, amount: int | None = None) -> Json:
        """A person refunds in the dashboard, without metadata; None refunds all that is left."""
        try:
            refund = refund_endpoints.refund_at_dashboard(
                self._books, self._known(charge_id), amount
            )
        except ApiError as error:
            raise ControlError(error.message) from error
        return refund_json(refund)

    def reset(self) -> None:
        """Forget everything, the ledger on disk too."""
        self._books.clear()
        self._plans.clear()
        self._declines.clear()

    def close(self) -> None:
        """Close the ledger file."""
        self.ledger.close()

    # What the above need ------------------------------------------------------------------

    def _pay(self, charge_id: str, *, late: bool) -> Json:
        charge_endpoints.pay_charge(self._books, self._known(charge_id), late=late)
        return self.charge(charge_id)

    def _choose_plan(self, charge: Charge) -> RefundPlan:
        for plan in self._plans:
            if plan.fits(charge):
                if plan.times is not None:
                    plan.times -= 1
                return plan
        return RefundPlan("succeeded")

    def _known(self, charge_id: str) -> Charge:
        charge = self._books.charges.get(charge_id)
        if charge is None:
            raise ControlError(f"there is no charge {charge_id}")
        return charge

    def _known_refund(self, refund_id: str) -> Refund:
        refund = self._books.refunds.get(refund_id)
        if refund is None:
            raise ControlError(f"there is no refund {refund_id}")
        return refund
