"""The control API: what a test or an operator does to the sandbox from another process.

| request                                | body                                                    |
|----------------------------------------|---------------------------------------------------------|
| GET  /_sandbox/state                   | mode, app, clock, counters                              |
| GET  /_sandbox/ledger                  | ?order_no=&money=true                                   |
| GET  /_sandbox/charge                  | ?charge_id= or ?order_no=                               |
| GET  /_sandbox/events                  |                                                         |
| POST /_sandbox/pay                     | charge_id or order_no; late=true                        |
| POST /_sandbox/fail-payment            | charge_id or order_no; code, msg                        |
| POST /_sandbox/cancel                  | charge_id or order_no                                   |
| POST /_sandbox/approve                 | refund_id, or charge_id or order_no (newest pending)    |
| POST /_sandbox/fail                    | the same; code, msg                                     |
| POST /_sandbox/refund-at-dashboard     | charge_id or order_no; amount                           |
| POST, DELETE /_sandbox/plan_refund     | outcome, times, channel, order_no, code, msg            |
| POST, DELETE /_sandbox/decline         | listed, times, channel, order_no, code, msg: a bar code |
|                                        | is answered 402 and can still be paid by its payer      |
| GET, POST, DELETE /_sandbox/faults     | one fault or a list of them (`midas.sandbox.faults`,    |
|                                        | `midas.sandbox.webhook_faults`)                         |
| DELETE /_sandbox/faults/{id}           |                                                         |
| GET, POST /_sandbox/clock              | advance_s                                               |
| GET, DELETE /_sandbox/requests         | ?method=&path=&order_no=                                |
| GET  /_sandbox/public-key              | PEM                                                     |
| POST /_sandbox/reset                   | forget all but the keys, the clock and the webhook URLs |

The requests about webhooks and keys are in `midas.sandbox.webhook_control`.

`order_no` is Ping++'s name: what Midas calls `out_trade_no`, not the number of the shop's order.

Answers are JSON. The status is 409, with `{"error": "<sentence>"}`, when the control makes no sense
now, and 400 when it cannot be read.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from midas.sandbox.entries import MONEY_KINDS
from midas.sandbox.errors import ControlError, Json
from midas.sandbox.request_log import request_json

if TYPE_CHECKING:
    from midas.sandbox.clock import SandboxClock
    from midas.sandbox.faults import FaultList
    from midas.sandbox.ledger import Lookalike
    from midas.sandbox.request_log import RequestLog
    from midas.sandbox.signing import Keyring
    from midas.sandbox.webhooks import Webhooks

PREFIX = "/_sandbox"


class Controlled(Protocol):
    """The parts of a sandbox that its control API works on."""

    lookalike: Lookalike
    webhooks: Webhooks
    faults: FaultList
    requests: RequestLog
    clock: SandboxClock
    keys: Keyring


def add_routes(application: web.Application, server: Controlled) -> None:
    """Serve the control API of this sandbox."""
    controls = _Controls(server)
    for method, path, handler in (
        ("GET", "/state", controls.state),
        ("GET", "/ledger", controls.ledger),
        ("GET", "/charge", controls.charge),
        ("GET", "/events", controls.events),
        ("POST", "/pay", controls.pay),
        ("POST", "/fail-payment", controls.fail_payment),
        ("POST", "/cancel", controls.cancel),
        ("POST", "/approve", controls.approve),
        ("POST", "/fail", controls.fail),
        ("POST", "/refund-at-dashboard", controls.refund_at_dashboard),
        ("POST", "/plan_refund", controls.plan_refund),
        ("DELETE", "/plan_refund", controls.clear_plans),
        ("POST", "/decline", controls.decline),
        ("DELETE", "/decline", controls.clear_declines),
        ("GET", "/faults", controls.faults),
        ("POST", "/faults", controls.add_faults),
        ("DELETE", "/faults", controls.clear_faults),
        ("DELETE", "/faults/{id}", controls.remove_fault),
        ("GET", "/clock", controls.clock),
        ("POST", "/clock", controls.clock),
        ("GET", "/requests", controls.requests),
        ("DELETE", "/requests", controls.clear_requests),
        ("GET", "/public-key", controls.public_key),
        ("POST", "/reset", controls.reset),
    ):
        add_route(application, method, path, handler)


Handler = Callable[[web.Request, Any], Any]


def add_route(application: web.Application, method: str, path: str, handler: Handler) -> None:
    """Serve a control, which gets the request and its JSON; it may be a coroutine function."""
    application.router.add_route(method, PREFIX + path, _serving(handler))


def _serving(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
            sent = json.loads(body) if body else {}
            answer = handler(request, sent)
            if inspect.isawaitable(answer):
                answer = await answer
        except ControlError as error:
            return _json({"error": str(error)}, 409)
        except (ValueError, TypeError, LookupError, AttributeError, re.error) as error:
            return _json({"error": f"cannot read this request: {error}"}, 400)
        return answer if isinstance(answer, web.StreamResponse) else _json(answer)

    return serve


def _json(content: Any, status: int = 200) -> web.Response:
    return web.json_response(
        content, status=status, dumps=lambda value: json.dumps(value, ensure_ascii=False)
    )


class _Controls:
    def __init__(self, server: Controlled) -> None:
        self._server = server
        self._lookalike = server.lookalike

    # Looking

    def state(self, _: web.Request, __: Json) -> Json:
        entries = self._lookalike.ledger.entries
        return {
            "app_id": self._lookalike.app_id,
            "livemode": self._lookalike.livemode,
            "now": self._server.clock.now(),
            "requests": self._server.requests.total,
            "entries": len(entries),
            "charges": sum(1 for entry in entries if entry.kind == "charge_created"),
            "refunds": sum(1 for entry in entries if entry.kind == "refund_created"),
            "events": len(self._lookalike.events),
        }

    def ledger(self, request: web.Request, _: Json) -> Json:
        wanted, money = request.query.get("order_no"), request.query.get("money") == "true"
        entries = [
            asdict(entry)
            for entry in self._lookalike.ledger.entries
            if wanted in (None, entry.order_no)
            and (not money or (entry.kind in MONEY_KINDS and entry.amount > 0))
        ]
        return {"entries": entries}

    def charge(self, request: web.Request, _: Json) -> Json:
        named = dict(request.query)
        order_no = named.get("order_no")
        if order_no is not None:
            return {"charges": [self._stand(c) for c in self._lookalike.charges_of(order_no)]}
        return {"charges": [self._stand(self._lookalike.charge(named.get("charge_id", "")))]}

    def events(self, _: web.Request, __: Json) -> Json:
        return {"events": list(self._lookalike.events.values())}

    # Payers, people and channels

    def pay(self, _: web.Request, sent: Json) -> Json:
        charge_id = self._charge_id(sent)
        late = sent.get("late", False)
        return self._lookalike.pay_late(charge_id) if late else self._lookalike.pay(charge_id)

    def fail_payment(self, _: web.Request, sent: Json) -> Json:
        charge_id = self._charge_id(sent)
        return self._lookalike.fail_payment(charge_id, sent.get("code"), sent.get("msg"))

    def cancel(self, _: web.Request, sent: Json) -> Json:
        return self._lookalike.cancel(self._charge_id(sent))

    def approve(self, _: web.Request, sent: Json) -> Json:
        return self._lookalike.approve_refund(self._refund_id(sent))

    def fail(self, _: web.Request, sent: Json) -> Json:
        refund_id = self._refund_id(sent)
        return self._lookalike.fail_refund(refund_id, sent.get("code"), sent.get("msg"))

    def refund_at_dashboard(self, _: web.Request, sent: Json) -> Json:
        return self._lookalike.refund_at_dashboard(self._charge_id(sent), sent.get("amount"))

    def plan_refund(self, _: web.Request, sent: Json) -> Json:
        plan = dict(sent)
        self._lookalike.plan_refund(plan.pop("outcome", ""), **plan)
        return {"planned": sent}

    def clear_plans(self, _: web.Request, __: Json) -> Json:
        self._lookalike.clear_refund_plans()
        return {"planned": None}

    def decline(self, _: web.Request, sent: Json) -> Json:
        self._lookalike.decline_bar_code(**sent)
        return {"planned": sent}

    def clear_declines(self, _: web.Request, __: Json) -> Json:
        self._lookalike.clear_declines()
        return {"planned": None}

    # The sandbox itself

    def faults(self, _: web.Request, __: Json) -> Json:
        return {"faults": self._server.faults.to_json()}

    def add_faults(self, _: web.Request, sent: Json | list[Json]) -> Json:
        described = sent if isinstance(sent, list) else [sent]
        return {"faults": [self._server.faults.add(one).to_json() for one in described]}

    def clear_faults(self, _: web.Request, __: Json) -> Json:
        self._server.faults.clear()
        return {"faults": []}

    def remove_fault(self, request: web.Request, _: Json) -> Json:
        self._server.faults.remove(int(request.match_info["id"]))
        return {"faults": self._server.faults.to_json()}

    def clock(self, _: web.Request, sent: Json) -> Json:
        return {"now": self._server.clock.advance(float(sent.get("advance_s", 0)))}

    def requests(self, request: web.Request, _: Json) -> Json:
        asked = request.query
        found = self._server.requests.matching(
            asked.get("method"), asked.get("path"), asked.get("order_no")
        )
        return {"count": len(found), "requests": [request_json(one) for one in found]}

    def clear_requests(self, _: web.Request, __: Json) -> Json:
        self._server.requests.clear()
        return {"count": 0, "requests": []}

    def public_key(self, _: web.Request, __: Json) -> web.Response:
        return web.Response(
            text=self._server.keys.current.public_pem, content_type="application/x-pem-file"
        )

    def reset(self, _: web.Request, __: Json) -> Json:
        self._lookalike.reset()
        self._server.webhooks.clear()
        self._server.faults.clear()
        self._server.requests.clear()
        return {"reset": True}

    # What the above need

    def _stand(self, charge: Json) -> Json:
        ledger = self._lookalike.ledger
        return {
            "charge": charge,
            "refunds": self._lookalike.refunds_of(charge["id"]),
            "expired": self._lookalike.is_expired(charge["id"]),
            "money_refunded": ledger.refunded(charge["id"]),
            "money_reversed": ledger.reversed(charge["id"]),
        }

    def _charge_id(self, sent: Json) -> str:
        """The named charge, or the newest unpaid one of an order_no, or else its newest one.

        A declined bar code is found by its order_no, too, while Ping++ does not show it.
        """
        if "charge_id" in sent:
            return str(sent["charge_id"])
        hidden = self._lookalike.hidden_charge_of(str(sent.get("order_no", "")))
        if hidden is not None:
            return hidden
        charges = self._lookalike.charges_of(str(sent.get("order_no", "")))
        if not charges:
            raise ControlError("name an existing charge by charge_id or order_no")
        payable = [charge for charge in charges if not charge["paid"] and not charge["reversed"]]
        return str((payable or charges)[-1]["id"])

    def _refund_id(self, sent: Json) -> str:
        if "refund_id" in sent:
            return str(sent["refund_id"])
        order_no = sent.get("order_no")
        charges = self._lookalike.charges_of(order_no) if order_no else [{"id": sent["charge_id"]}]
        pending = [
            refund
            for charge in charges
            for refund in self._lookalike.refunds_of(charge["id"])
            if refund["status"] == "pending"
        ]
        if not pending:
            raise ControlError("there is no pending refund of that charge")
        return str(pending[-1]["id"])
