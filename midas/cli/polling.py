"""One call of PollPending, and what it did, in words."""

from midas.cli.calls import call
from midas.cli.show import local_time
from midas.cli.wire import Wire, connected
from midas.v1.payment_service_pb2 import PollPendingRequest, PollPendingResponse
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub


def ask(wire: Wire, request: PollPendingRequest) -> PollPendingResponse:
    """What the run did. Raises Failed."""
    with connected(wire) as channel:
        method = PaymentServiceStub(channel).PollPending
        response: PollPendingResponse = call(
            method, request, wire.timeout_s, moves_money=True, ids={}
        )
        return response


def in_words(response: PollPendingResponse) -> str:
    """The looks of the run and what they found."""
    if not response.examined:
        return "no look was possible" if response.more_due else "nothing was due"
    brought = f" ({response.found_by_poll} that no webhook brought)"
    found = (
        (response.changed, "changed" + (brought if response.found_by_poll else "")),
        (response.still_pending, "pending"),
        (response.unknown, "unknown"),
        (response.failed, "failed"),
    )
    looks = _counted(response.examined, "look")
    numbers = ", ".join(f"{number} {what}" for number, what in found if number) or "none changed"
    return f"{looks}, {_counted(response.psp_calls, 'call')} to Ping++: {numbers}"


def what_follows(response: PollPendingResponse) -> str:
    """What is due now, or when something will be."""
    if response.more_due and response.HasField("oldest_due_at"):
        return f"more looks are due, the oldest since {local_time(response.oldest_due_at)}"
    if response.more_due:
        return "more looks are due"
    if response.HasField("next_due_at"):
        return f"the next look is due at {local_time(response.next_due_at)}"
    return "no look is planned"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
