"""The pages that people open: pay or cancel a charge, approve an Alipay refund, see the newest."""

from __future__ import annotations

from datetime import datetime
from html import escape

from aiohttp import web

from midas.sandbox.credentials import BEIJING
from midas.sandbox.errors import ControlError, Json
from midas.sandbox.ledger import Lookalike

NEWEST_SHOWN = 50
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1c1e21}
main{max-width:26rem;margin:2rem auto;padding:1.5rem;background:#fff;border-radius:12px}
.amount{font-size:2.4rem;margin:.25rem 0}.state{font-weight:600}.note{color:#666;font-size:.85rem}
button{width:100%;padding:.9rem;margin-top:.75rem;border:0;border-radius:8px;font-size:1.05rem}
.yes{background:#0a7d33;color:#fff}.no{background:#e4e6ea}
table{width:100%;border-collapse:collapse;font-size:.85rem}td{padding:.3rem 0}
"""


def add_routes(application: web.Application, lookalike: Lookalike) -> None:
    """Serve the pages of this look-alike."""
    pages = _Pages(lookalike)
    application.router.add_get("/", pages.newest)
    application.router.add_get("/pay/{charge_id}", pages.payment)
    application.router.add_post("/pay/{charge_id}", pages.decide_payment)
    application.router.add_get("/refund-approve/{refund_id}", pages.refund)
    application.router.add_post("/refund-approve/{refund_id}", pages.decide_refund)


class _Pages:
    def __init__(self, lookalike: Lookalike) -> None:
        self._lookalike = lookalike

    async def newest(self, _: web.Request) -> web.Response:
        rows = "".join(
            f'<tr><td><a href="/pay/{escape(charge["id"])}">{escape(charge["order_no"])}</a></td>'
            f"<td>{escape(charge['channel'])}</td><td>{_money(charge)}</td>"
            f"<td>{escape(self._state(charge))}</td></tr>"
            for charge in self._lookalike.newest_charges(NEWEST_SHOWN)
        )
        return _page("Newest charges", f"<table>{rows}</table>" if rows else "<p>None yet.</p>")

    async def payment(self, request: web.Request) -> web.Response:
        try:
            charge = self._lookalike.open_page(request.match_info["charge_id"])
        except ControlError as error:
            return _page("No such payment", f"<p>{escape(str(error))}</p>", status=404)
        return self._payment_page(charge)

    async def decide_payment(self, request: web.Request) -> web.Response:
        """Confirm or Cancel; a form of the client SDK without a decision just opens the page."""
        charge_id = request.match_info["charge_id"]
        decision = (await request.post()).get("decision")
        try:
            charge = self._lookalike.open_page(charge_id)
            if decision == "confirm":
                return self._payment_page(self._lookalike.pay(charge_id))
        except ControlError as error:
            return _page("Not possible", f"<p>{escape(str(error))}</p>", status=409)
        if decision == "cancel":
            note = "You left without paying. The order stays open until it expires."
            return self._payment_page(charge, note)
        return self._payment_page(charge)

    async def refund(self, request: web.Request) -> web.Response:
        try:
            refund = self._lookalike.refund(request.match_info["refund_id"])
        except ControlError as error:
            return _page("No such refund", f"<p>{escape(str(error))}</p>", status=404)
        asked_on = request.query.get("refund_date", "")[:10]
        if asked_on and asked_on != self._today():
            note = "<p>This link was valid on the day it was made. Retrieve the refund again.</p>"
            return _page("Link expired", note, status=410)
        return self._refund_page(refund)

    async def decide_refund(self, request: web.Request) -> web.Response:
        refund_id = request.match_info["refund_id"]
        decision = (await request.post()).get("decision")
        try:
            if decision == "confirm":
                refund = self._lookalike.approve_refund(refund_id)
            elif decision == "refuse":
                refund = self._lookalike.fail_refund(refund_id)
            else:
                refund = self._lookalike.refund(refund_id)
        except ControlError as error:
            return _page("Not possible", f"<p>{escape(str(error))}</p>", status=409)
        return self._refund_page(refund)

    def _payment_page(self, charge: Json, note: str = "") -> web.Response:
        open_to_pay = self._state(charge) == "waiting for payment"
        body = (
            f"<p>{escape(charge['subject'])}</p>"
            f'<p class="amount">{_money(charge)}</p>'
            f'<p class="state">{escape(self._state(charge))}</p>'
            f"<p>{escape(note)}</p>"
            + (_form(("confirm", "yes", "Confirm"), ("cancel", "no", "Cancel")) * open_to_pay)
            + f'<p class="note">{escape(charge["channel"])} · {escape(charge["order_no"])} · '
            f"{escape(charge['id'])}</p>"
        )
        return _page("Payment", body)

    def _refund_page(self, refund: Json) -> web.Response:
        waiting = refund["status"] == "pending"
        body = (
            f"<p>{escape(refund['description'] or '')}</p>"
            f'<p class="amount">{_money(refund)}</p>'
            f'<p class="state">{escape(refund["status"])}</p>'
            + (_form(("confirm", "yes", "Approve refund"), ("refuse", "no", "Refuse")) * waiting)
            + f'<p class="note">{escape(refund["charge_order_no"])} · {escape(refund["id"])}</p>'
        )
        return _page("Refund", body)

    def _state(self, charge: Json) -> str:
        if charge["reversed"]:
            return "closed"
        if charge["paid"]:
            return "refunded" if charge["amount_refunded"] else "paid"
        return "expired" if self._lookalike.is_expired(charge["id"]) else "waiting for payment"

    def _today(self) -> str:
        return datetime.fromtimestamp(self._lookalike.now(), BEIJING).date().isoformat()


def _money(shown: Json) -> str:
    return f"{shown['amount'] / 100:.2f} {escape(shown['currency'].upper())}"


def _form(*buttons: tuple[str, str, str]) -> str:
    inside = "".join(
        f'<button class="{style}" name="decision" value="{value}">{label}</button>'
        for value, style, label in buttons
    )
    return f'<form method="post">{inside}</form>'


def _page(title: str, body: str, status: int = 200) -> web.Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}"
        '<p class="note">Sandbox: no real money moves here.</p></main></body></html>'
    )
    return web.Response(text=text, content_type="text/html", status=status)
