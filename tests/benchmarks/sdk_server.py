"""The obvious service: grpc's thread pool and the `pingpp` SDK as its README documents it.

Module globals, its own transport, the key read from `private_key_path`. Nothing is stored.
"""

import importlib
import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from midas.v1 import charge_pb2
from midas.v1 import payment_service_pb2 as pb
from tests.benchmarks.child import only, send
from tests.benchmarks.plan import CALLERS

for _name in ("", ".moves", ".moves.urllib", ".moves.urllib.parse"):
    # The six inside the SDK cannot be imported on Python 3.12 and later.
    sys.modules[f"pingpp.six{_name}"] = importlib.import_module(f"six{_name}")

import pingpp  # noqa: E402


def create(request: pb.ChargeRequest, _: object) -> pb.ChargeResponse:
    """Create the charge through the SDK and hand on its answer."""
    answer: Any = pingpp.Charge.create(
        order_no=secrets.token_hex(10),
        app={"id": os.environ["PINGPP_APP_ID"]},
        channel=request.channel,
        amount=request.amount,
        currency=request.currency,
        client_ip=request.client_ip,
        subject=request.subject,
        body=request.body,
        extra=MessageToDict(request.extra),
        metadata=dict(request.metadata),
    )
    charge = charge_pb2.Charge(
        out_trade_no=answer.order_no,
        charge_id=answer.id,
        order_no=request.order_no,
        state=charge_pb2.CHARGE_STATE_PENDING,
        channel=answer.channel,
        amount=answer.amount,
        currency=answer.currency,
    )
    return pb.ChargeResponse(charge=charge, charge_json=str(answer))


def _main() -> None:
    pingpp.api_key = os.environ["PINGPP_API_KEY"]
    pingpp.api_base = os.environ["PINGPP_API_BASE"]
    pingpp.private_key_path = os.environ["PINGPP_PRIVATE_KEY_PATH"]
    server = grpc.server(ThreadPoolExecutor(CALLERS))
    server.add_generic_rpc_handlers((only("Charge", pb.ChargeRequest, create),))
    send({"port": server.add_insecure_port("127.0.0.1:0")})
    server.start()
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    _main()
