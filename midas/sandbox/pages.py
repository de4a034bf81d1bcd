"""The pages that people open: pay or cancel a charge, approve an Alipay refund, see the newest."""

from __future__ import annotations

from datetime import datetime
from html import escape

from aiohttp import web

from midas.sandbox.credentials import BEIJING
from midas.sandbox.errors import ControlError, Json
from midas.sandbox.ledger import Lookalike

NEWEST_SHOWN = 50
WAITING = "waiting for payment"
_STYLE = """
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,"Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif;
margin:0;padding:1rem;background:#eef0f3;color:#1c1e21;overflow-wrap:anywhere}
main{max-width:26rem;margin:0 auto;padding:1.5rem;background:#fff;border-radius:12px;
box-shadow:0 1px 3px #0002}
.sandbox{max-width:26rem;margin:0 auto 1rem;padding:.4rem 1rem;border-radius:8px;
background:#fff3cd;color:#664d03;font-size:.85rem;text-align:center}
h1{margin:0 0 1rem;font-size:1rem;font-weight:600;color:#5c6370}
.subject{margin:0;font-size:1.05rem}
.amount{margin:.25rem 0 .75rem;font-size:clamp(1.5rem,9vw,2.4rem);line-height:1.2;font-weight:600}
.money{white-space:nowrap}
.state{display:inline-block;margin:0;padding:.15rem .75rem;border-radius:99px;
background:#e4e6ea;font-size:.9rem;font-weight:600}
.state.good{background:#d1f0db;color:#0a5c27}.state.open{background:#dbe8fd;color:#0b478f}
.state.bad{background:#fbdedd;color:#8f1a16}
button{display:block;width:100%;padding:.9rem;margin-top:.75rem;border:0;border-radius:8px;
font:inherit;font-weight:600;cursor:pointer}
form{margin-top:1.25rem}.yes{background:#0a7d33;color:#fff}.no{background:#e4e6ea;color:inherit}
button:focus-visible,a:focus-visible{outline:3px solid #4a90e2;outline-offset:2px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:1.5rem 0 0;
padding-top:1rem;border-top:1px solid #e4e6ea;font-size:.85rem}dt{color:#5c6370}dd{margin:0}
table{width:100%;border-collapse:collapse;font-size:.85rem}
td{padding:.6rem 0;border-top:1px solid #e4e6ea;vertical-align:top}
td+td{padding-left:.75rem;text-align:right;overflow-wrap:normal}
td .state{text-align:center;font-size:.8rem}
td .amount{margin:0 0 .25rem;font-size:1rem}td a{font-size:1rem;font-weight:600}
"""
_KINDS = {
    WAITING: "open",
    "pending": "open",
    "paid": "good",
    "partly refunded": "good",
    "succeeded": "good",
    "expired": "bad",
    "closed": "bad",
    "failed": "bad",
}
"""How a state is coloured; others stay grey."""
_HEADERS = {
    # Everything is in the page itself: nothing is loaded, and no script runs.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


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
        rows = "".join(self._row(c) for c in self._lookalike.newest_charges(NEWEST_SHOWN))
        return _page("Newest charges", f"<table>{rows}</table>" if rows else "<p>None yet.</p>")

    async def payment(self, request: web.Request) -> web.Response:
        try:
            charge = self._lookalike.open_page(request.match_info["charge_id"])
        except ControlError as error:
            return _page("No such payment", f"<p>{escape(str(error))}</p>", status=404)
        left = "left" in request.query
        note = "You left without paying. The order stays open until it expires." if left else ""
        return self._payment_page(charge, note)

    async def decide_payment(self, request: web.Request) -> web.Response:
        """Confirm or Cancel; a form of the client SDK without a decision just opens the page.

        A decision is answered with 303, so that loading the page again decides nothing.
        """
        charge_id = request.match_info["charge_id"]
        decision = (await request.post()).get("decision")
        try:
            charge = self._lookalike.open_page(charge_id)
            if decision == "confirm":
                self._lookalike.pay(charge_id)
        except ControlError as error:
            return _page("Not possible", f"<p>{escape(str(error))}</p>", status=409)
        if decision is None:
            return self._payment_page(charge)
        raise web.HTTPSeeOther(request.path + ("?left" if decision == "cancel" else ""))

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
                self._lookalike.approve_refund(refund_id)
            elif decision == "refuse":
                self._lookalike.fail_refund(refund_id)
            else:
                return self._refund_page(self._lookalike.refund(refund_id))
        except ControlError as error:
            return _page("Not possible", f"<p>{escape(str(error))}</p>", status=409)
        raise web.HTTPSeeOther(request.path)

    def _payment_page(self, charge: Json, note: str = "") -> web.Response:
        state = self._state(charge)
        body = (
            f'<p class="subject">{escape(charge["subject"])}</p>'
            f'<p class="amount">{_money(charge)}</p>{_pill(state)}'
            + (f"<p>{escape(note)}</p>" if note and state == WAITING else "")
            + (PAY_FORM if state == WAITING else "")
            + _details(
                *_refunded(charge),
                ("Channel", escape(charge["channel"])),
                ("Order", escape(charge["order_no"])),
                ("Charge", escape(charge["id"])),
            )
        )
        return _page("Payment", body)

    def _refund_page(self, refund: Json) -> web.Response:
        body = (
            f'<p class="subject">{escape(refund["description"] or "")}</p>'
            f'<p class="amount">{_money(refund)}</p>{_pill(refund["status"])}'
            + (REFUND_FORM if refund["status"] == "pending" else "")
            + _details(
                ("Order", escape(refund["charge_order_no"])), ("Refund", escape(refund["id"]))
            )
        )
        return _page("Refund", body)

    def _row(self, charge: Json) -> str:
        return (
            f'<tr><td><a href="/pay/{escape(charge["id"])}">{escape(charge["subject"])}</a>'
            f"<br>{escape(charge['order_no'])} · {escape(charge['channel'])}</td>"
            f'<td><p class="amount">{_money(charge)}</p>{_pill(self._state(charge))}</td></tr>'
        )

    def _state(self, charge: Json) -> str:
        if charge["reversed"]:
            return "closed"
        if charge["paid"]:
            return _how_refunded(charge)
        if charge["failure_code"]:
            return "failed"
        return "expired" if self._lookalike.is_expired(charge["id"]) else WAITING

    def _today(self) -> str:
        return datetime.fromtimestamp(self._lookalike.now(), BEIJING).date().isoformat()


def _how_refunded(charge: Json) -> str:
    if not charge["amount_refunded"]:
        return "paid"
    return "refunded" if charge["amount_refunded"] >= charge["amount"] else "partly refunded"


def _refunded(charge: Json) -> list[tuple[str, str]]:
    if not charge["amount_refunded"]:
        return []
    return [("Refunded", _money({**charge, "amount": charge["amount_refunded"]}))]


def _money(shown: Json) -> str:
    """The amount. Its digits stay together on a narrow screen; the currency may go below them."""
    whole, cents = divmod(shown["amount"], 100)
    currency = escape(shown["currency"].upper())
    return f'<span class="money">{whole}.{cents:02d}</span> {currency}'


def _pill(state: str) -> str:
    return f'<p class="state {_KINDS.get(state, "")}">{escape(state)}</p>'


def _details(*rows: tuple[str, str]) -> str:
    """`rows` are names with HTML."""
    inside = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return f"<dl>{inside}</dl>"


def _form(*buttons: tuple[str, str, str]) -> str:
    inside = "".join(
        f'<button class="{style}" name="decision" value="{value}">{label}</button>'
        for value, style, label in buttons
    )
    return f'<form method="post">{inside}</form>'


PAY_FORM = _form(("confirm", "yes", "Confirm"), ("cancel", "no", "Cancel"))
REFUND_FORM = _form(("confirm", "yes", "Approve refund"), ("refuse", "no", "Refuse"))


def _page(title: str, body: str, status: int = 200) -> web.Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        '<p class="sandbox">Sandbox: no real money moves here.</p>'
        f"<main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    return web.Response(text=text, content_type="text/html", status=status, headers=_HEADERS)
