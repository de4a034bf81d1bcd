"""Plays a scenario with the official SDK and prints the results as JSON.

A process of its own, because the SDK's configuration is global and its sources are old.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

# The SDK's own copy of six does not import on Python 3.12 and later.
for name in ("", ".moves", ".moves.urllib", ".moves.urllib.parse"):
    __import__("six" + name)
    sys.modules["pingpp.six" + name] = sys.modules["six" + name]

import pingpp  # noqa: E402
from pingpp.error import PingppError  # noqa: E402

URL, API_KEY, APP_ID, KEY_PATH, SCENARIO = sys.argv[1:6]
pingpp.api_base, pingpp.api_key, pingpp.private_key_path = URL, API_KEY, KEY_PATH
pingpp.network_retry_delay = 0


def create(order_no: str, **changes: Any) -> Any:
    """A new charge."""
    terms = {
        "order_no": order_no,
        "app": {"id": APP_ID},
        "channel": "wx_pub",
        "amount": 100,
        "client_ip": "127.0.0.1",
        "currency": "cny",
        "subject": "主题",
        "body": "内容",
        "extra": {"open_id": "o-1"},
    }
    return pingpp.Charge.create(**{**terms, **changes})


def control(path: str, **sent: Any) -> dict[str, Any]:
    """Use the control API."""
    request = urllib.request.Request(  # noqa: S310
        f"{URL}/_sandbox/{path}", json.dumps(sent).encode() if sent else None
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
        return answer


def everything() -> dict[str, Any]:
    """What Midas needs, once."""
    created = create("ORDER0000001")
    again = create("ORDER0000001")
    control("pay", charge_id=created.id)
    refund = pingpp.Charge.refund(
        created.id, amount=30, description="d", metadata={"refund_no": "R1"}
    )
    listed = pingpp.Charge.list(limit=5, app={"id": APP_ID}, created={"gte": created.created})
    other = create("ORDER0000002")
    event_id = control("events")["events"][0]["id"]
    return {
        "created": created,
        "again": again.id,
        "retrieved": pingpp.Charge.retrieve(created.id),
        "listed": [charge.id for charge in listed.data],
        "refund": refund,
        "refunds": [one.id for one in pingpp.Charge.list_refunds(created.id).data],
        "retrieved_refund": pingpp.Charge.retrieve_refund(created.id, refund.id).id,
        "reversed": pingpp.Charge.reverse(other.id).reversed,
        "event": pingpp.Event.retrieve(event_id),
    }


def outcome(call: Callable[[], Any]) -> list[str | None]:
    """The class that a call raises, with the code or parameter that it names."""
    try:
        call()
    except PingppError as error:
        named = getattr(error, "code", None) or getattr(error, "param", None)
        return [type(error).__name__, named]
    return ["nothing", None]


def errors() -> dict[str, Any]:
    """One call for each kind of error."""
    create("ORDER0000001")
    outcomes = {
        "400": outcome(lambda: create("ORDER0000002", amount=0)),
        "True in a query": outcome(lambda: pingpp.Charge.list(app={"id": APP_ID}, paid=True)),
        "402": outcome(lambda: create("ORDER0000001", amount=99)),
        "403": outcome(lambda: pingpp.Charge.retrieve("ch_403")),
        "404": outcome(lambda: pingpp.Charge.retrieve("ch_x")),
        "500": outcome(lambda: pingpp.Charge.retrieve("ch_500")),
        "lost": outcome(lambda: pingpp.Charge.retrieve("ch_lost")),
    }
    pingpp.private_key = pingpp.private_key_path = None
    outcomes["unsigned"] = outcome(lambda: pingpp.Charge.retrieve("ch_x"))
    pingpp.api_key = "sk_test_wrong"
    outcomes["401"] = outcome(lambda: pingpp.Charge.retrieve("ch_x"))
    return outcomes


def refund_once() -> dict[str, Any]:
    """One call of refund."""
    charge = create("ORDER0000001")
    control("pay", charge_id=charge.id)
    pingpp.Charge.refund(charge.id, amount=10, description="d")
    return {"charge": charge.id}


if __name__ == "__main__":
    scenarios = {"everything": everything, "errors": errors, "refund_once": refund_once}
    json.dump(scenarios[SCENARIO](), sys.stdout)
