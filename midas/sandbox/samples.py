"""What the dashboard's test tool sends: an event that belongs to nobody (pingpp.md section 5).

Its ids are the well-known ones of Ping++'s documentation; no charge of any merchant has them.
"""

from __future__ import annotations

from midas.sandbox.errors import Json
from midas.sandbox.objects import charge_json, refund_json
from midas.sandbox.records import Charge, Refund

SAMPLE_EVENT_ID = "evt_ugB6x3K43D16wXCcqbplWAJo"
SAMPLE_CHARGE_ID = "ch_Xsr7u35O3m1Gw4ed2ODmi4Lw"
SAMPLE_REFUND_ID = "re_Xsr7u35O3m1Gw4ed2ODmi4Lw"
SAMPLE_ORDER_NO = "123456789"
SAMPLE_APP_ID = "app_1Gqj58ynP0mHeX1q"
SAMPLE_TIME = 1_427_555_101


def sample_event(kind: str, *, livemode: bool = True) -> Json:
    """An event of this type; types other than of charges and refunds get a bare object."""
    about = kind.partition(".")[0]
    made = {"charge": _charge(kind, livemode), "refund": _refund(kind)}
    return {
        "id": SAMPLE_EVENT_ID,
        "created": SAMPLE_TIME,
        "livemode": livemode,
        "type": kind,
        "data": {"object": made.get(about, {"id": SAMPLE_ORDER_NO, "object": about})},
        "object": "event",
        "request": None,
        "pending_webhooks": 0,
    }


def _charge(kind: str, livemode: bool) -> Json:
    failed = kind == "charge.failed"
    charge = Charge(
        seq=1,
        id=SAMPLE_CHARGE_ID,
        created=SAMPLE_TIME,
        livemode=livemode,
        app=SAMPLE_APP_ID,
        channel="upacp",
        order_no=SAMPLE_ORDER_NO,
        client_ip="127.0.0.1",
        amount=100,
        currency="cny",
        subject="Your Subject",
        body="Your Body",
        extra={},
        time_expire=SAMPLE_TIME + 3600,
        metadata={},
        description=None,
        paid=not failed,
        time_paid=None if failed else SAMPLE_TIME,
        transaction_no=None if failed else "1224524301201505066067849274",
        failure_code="channel_response_code_fail" if failed else None,
        failure_msg="Your Failure" if failed else None,
    )
    return charge_json(charge, [], "", with_credential=False)


def _refund(kind: str) -> Json:
    failed = kind == "refund.failed"
    return refund_json(
        Refund(
            seq=1,
            id=SAMPLE_REFUND_ID,
            created=SAMPLE_TIME,
            charge=SAMPLE_CHARGE_ID,
            charge_order_no=SAMPLE_ORDER_NO,
            app=SAMPLE_APP_ID,
            amount=100,
            currency="cny",
            status="failed" if failed else "succeeded",
            description="Your Description",
            time_succeed=None if failed else SAMPLE_TIME,
            failure_code="refund_refused_msg" if failed else None,
            failure_msg="Your Failure" if failed else None,
            transaction_no=None if failed else "1224524301201505066067",
        )
    )
