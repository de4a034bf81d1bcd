"""A webhook gateway that dies or stops at one point: `python -m tests.faults.gateway_victim`.

`VICTIM_POINT` is `<step>.<what>`, and counts for `VICTIM_ORDER` alone. With before or after the
process kills itself before or after the call; with stops_before or stops_after it stops there, once
and as by SIGSTOP, until somebody sends SIGCONT. Everything else is `webhook-gateway` as it is.

    record_event    Midas records an event; the answer to Ping++ would be next
    lease           Midas hands notifications out; their delivery would be next
    deliver         the order service is notified; the settlement would be next
    settle          Midas records what became of them
"""

import os
import signal
import sys
from typing import Any
from unittest.mock import patch

from midas.order.v1.order_payment_service_pb2_grpc import OrderPaymentServiceStub
from midas.v1.event_service_pb2_grpc import EventServiceStub
from tests.faults.victim import ORDER, POINT, die
from webhook_gateway import app

GATEWAY_VICTIM = ("-m", "tests.faults.gateway_victim")
"""How Python starts one."""
STEPS = {
    "RecordEvent": "record_event",
    "LeaseNotifications": "lease",
    "SettleNotifications": "settle",
}


class MortalStub:
    """A stub around whose calls the process may die or stop."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._inner, name)
        step = STEPS.get(name, "deliver")

        async def call(request: Any, **options: Any) -> Any:
            _die_or_stop(f"{step}.before", f"{step}.stops_before", about=request)
            answer = await real(request, **options)
            about = answer if step == "lease" else request
            _die_or_stop(f"{step}.after", f"{step}.stops_after", about=about)
            return answer

        return call


def _die_or_stop(death: str, stop: str, about: Any) -> None:
    if _fate[0] not in (death, stop) or _fate[1].encode() not in about.SerializeToString():
        return
    if _fate[0] == death:
        die()
    _fate[0] = ""
    os.kill(os.getpid(), signal.SIGSTOP)


_fate = [os.environ.get(POINT, ""), os.environ.get(ORDER, "")]

if __name__ == "__main__":
    events = patch.object(app, "EventServiceStub", lambda to: MortalStub(EventServiceStub(to)))
    orders = patch.object(
        app, "OrderPaymentServiceStub", lambda to: MortalStub(OrderPaymentServiceStub(to))
    )
    with events, orders:
        sys.exit(app.run())
