"""Calls every method of every service of Midas, with the base install alone, and prints what came.

    python call_everything.py HOST:PORT

The methods are those of the descriptors: a method that is new has no request here and fails.
"""

import json
import sys

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from midas.v1 import event_service_pb2 as events
from midas.v1 import payment_service_pb2 as payments

SERVICES = [
    service
    for file in (payments.DESCRIPTOR, events.DESCRIPTOR)
    for service in file.services_by_name.values()
]
EVENT = b'{"id":"evt_400260101000000000000001","type":"charge.succeeded"}'
TIMEOUT_S = 120.0

CHARGE = payments.ChargeRequest(
    order_no="A1001",
    channel="alipay_qr",
    amount=1990,
    subject="Tea",
    body="Green tea, 100 g",
    client_ip="203.0.113.7",
)
REQUESTS: dict[str, Message] = {
    "Charge": CHARGE,
    "Refund": payments.RefundRequest(
        refund_no="R1", order_no="A1001", amount=300, description="one cup"
    ),
    "Query": payments.QueryRequest(order_no="A1001", refresh=True),
    "ListCharges": payments.ListChargesRequest(page_size=2),
    "ListRefunds": payments.ListRefundsRequest(page_size=2),
    "PollPending": payments.PollPendingRequest(limit=3),
    "RecordEvent": events.RecordEventRequest(body=EVENT),
    "RecordEvents": events.RecordEventsRequest(events=[events.RecordEventRequest(body=EVENT)]),
    "LeaseNotifications": events.LeaseNotificationsRequest(max=4),
    "SettleNotifications": events.SettleNotificationsRequest(
        settlements=[
            events.Settlement(
                lease_token="t",
                order_no="A1001",
                sequence=1,
                outcome=events.DELIVERY_OUTCOME_DELIVERED,
            )
        ]
    ),
}


def call(channel: grpc.Channel, method: MethodDescriptor, request: Message) -> Message:
    """The answer of one method."""
    name = f"/{method.containing_service.full_name}/{method.name}"
    kind = GetMessageClass(method.output_type)
    stub = channel.unary_unary(
        name,
        request_serializer=type(request).SerializeToString,
        response_deserializer=kind.FromString,
    )
    answer: Message = stub(request, timeout=TIMEOUT_S, wait_for_ready=True)
    return answer


def main(target: str) -> None:
    """One line of JSON: how many fields each method's answer has."""
    counts = {}
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        for service in SERVICES:
            for method in service.methods:
                answer = call(channel, method, REQUESTS[method.name])
                counts[f"{service.full_name}/{method.name}"] = len(answer.ListFields())
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
