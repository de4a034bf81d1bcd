"""The JSON objects that Ping++ would show of the sandbox's charges and refunds."""

from __future__ import annotations

from collections.abc import Sequence

from midas.sandbox.credentials import credential_for
from midas.sandbox.errors import Json
from midas.sandbox.records import Charge, Refund

NEWEST_REFUNDS_SHOWN = 10


def charge_json(
    charge: Charge,
    refunds: Sequence[Refund],
    public_url: str,
    *,
    with_credential: bool = True,
    expand_app: bool = False,
) -> Json:
    """Every field of pingpp.md section 2. `refunded` means that a refund record exists."""
    waiting = not (charge.paid or charge.reversed or charge.failure_code)
    newest = sorted(refunds, key=lambda refund: -refund.seq)
    return {
        "id": charge.id,
        "object": "charge",
        "created": charge.created,
        "livemode": charge.livemode,
        "paid": charge.paid,
        "refunded": bool(refunds),
        "reversed": charge.reversed,
        "app": app_json(charge.app) if expand_app else charge.app,
        "channel": charge.channel,
        "order_no": charge.order_no,
        "client_ip": charge.client_ip,
        "amount": charge.amount,
        "amount_settle": charge.amount,
        "currency": charge.currency,
        "subject": charge.subject,
        "body": charge.body,
        "extra": dict(charge.extra),
        "time_paid": charge.time_paid,
        "time_expire": charge.time_expire,
        "time_settle": None,
        "transaction_no": charge.transaction_no,
        "refunds": {
            "object": "list",
            "url": f"/v1/charges/{charge.id}/refunds",
            "has_more": len(newest) > NEWEST_REFUNDS_SHOWN,
            "data": [refund_json(refund) for refund in newest[:NEWEST_REFUNDS_SHOWN]],
        },
        "amount_refunded": sum(r.amount for r in refunds if r.status == "succeeded"),
        "failure_code": charge.failure_code,
        "failure_msg": charge.failure_msg,
        "metadata": dict(charge.metadata),
        "credential": credential_for(charge, public_url) if with_credential and waiting else {},
        "description": charge.description,
    }


def refund_json(refund: Refund) -> Json:
    """Every field of pingpp.md section 3, with the newer `currency` and `app`."""
    shown: Json = {
        "id": refund.id,
        "object": "refund",
        "order_no": refund.id.removeprefix("re_"),
        "amount": refund.amount,
        "currency": refund.currency,
        "app": refund.app,
        "created": refund.created,
        "succeed": refund.status == "succeeded",
        "status": refund.status,
        "time_succeed": refund.time_succeed,
        "description": refund.description,
        "failure_code": refund.failure_code,
        "failure_msg": refund.failure_msg,
        "metadata": dict(refund.metadata),
        "charge": refund.charge,
        "charge_order_no": refund.charge_order_no,
        "transaction_no": refund.transaction_no,
    }
    if refund.funding_source is not None:
        shown["funding_source"] = refund.funding_source
    shown["extra"] = {}
    return shown


def app_json(app_id: str) -> Json:
    """The object that `expand[]=app` puts in place of the id."""
    return {"id": app_id, "object": "app", "display_name": "Midas sandbox"}
