"""The rows of the joint test table that the demo plays, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midas.cli.demo.scene import Scene


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. Its function is imported when it is played."""

    number: int
    happens: str
    must_be_seen: str
    function: str
    """`module:name` in this package."""

    def play(self, scene: Scene) -> str:
        """Tell what was seen. Raises NotHeld at the first thing that is wrong."""
        module, _, name = self.function.partition(":")
        seen: str = getattr(import_module(f"{__name__}.{module}"), name)(scene)
        return seen


ROWS = (
    Row(
        1,
        "an order is charged, the payer opens the payment page",
        "Ping++'s JSON unmodified, PENDING",
        "charging:opens_the_page",
    ),
    Row(
        3,
        "paid, but the webhook never comes; the order service asks",
        "SUCCEEDED, one PayOrderSuccess queued",
        "charging:paid_without_webhook",
    ),
    Row(
        5,
        "cancelled, tried again, then paid on another channel",
        "one SUCCEEDED, the other CLOSED, one payment",
        "charging:cancelled_and_paid_elsewhere",
    ),
    Row(
        7,
        "a refund that the channel carries out later",
        "charge fetched first, then SUCCEEDED, RefundSuccess queued",
        "refunding:refunded",
    ),
    Row(
        9,
        "partial refunds until nothing is left, then one more",
        "each one done; the last refused with remaining 0",
        "refunding:in_parts",
    ),
    Row(
        10,
        "old Alipay: the refund waits for a person",
        "action_url returned and journaled, then SUCCEEDED",
        "refunding:waits_for_a_person",
    ),
    Row(
        11,
        "the channel refuses the refund with HTTP 200",
        "FAILED with the reason; a new refund_no succeeds",
        "refunding:refused_by_channel",
    ),
    Row(
        12,
        "Ping++ does not answer the create call",
        "OUTCOME_UNKNOWN, one charge, resolved by itself",
        "unanswered:create_without_answer",
    ),
)
