"""The rows of the joint test table that the demo plays, by their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midas.cli.demo.scene import Scene


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. Its function is imported when it is played."""

    number: int
    happens: str
    expected: str
    function: str
    """`module:name` in this package."""
    beginning: str = ""
    """The same, of what is played of it before all other rows; empty for most rows. Midas looks by
    itself half a minute later, and the other rows are played meanwhile."""

    def begin(self, scene: Scene) -> None:
        """Play its beginning. Raises NotHeld as `play` does."""
        _function(self.beginning)(scene)

    def play(self, scene: Scene) -> str:
        """Play it; returns what was observed. Raises NotHeld at the first thing that is wrong."""
        observed: str = _function(self.function)(scene)
        return observed


def _function(name: str) -> Callable[[Scene], Any]:
    module, _, function = name.partition(":")
    found: Callable[[Scene], Any] = getattr(import_module(f"{__name__}.{module}"), function)
    return found


ROWS = (
    Row(
        1,
        "an order is charged, the payer opens the payment page",
        "Ping++'s JSON unmodified, PENDING",
        "charging:opens_the_page",
    ),
    Row(
        2,
        "the payer confirms, Ping++ sends charge.succeeded",
        "verified and recorded; PayOrderSuccess once; SUCCEEDED without asking Ping++",
        "charging:paid",
    ),
    Row(
        3,
        "paid, but the webhook never comes; the order service asks",
        "SUCCEEDED by Query with refresh, and PayOrderSuccess is delivered",
        "charging:paid_without_webhook",
    ),
    Row(
        4,
        "paid, but the webhook never comes and nobody asks; the timer calls PollPending",
        "one change is reported; SUCCEEDED, and PayOrderSuccess is delivered",
        "polling:found_by_the_timer",
        beginning="polling:paid_and_nobody_asks",
    ),
    Row(
        5,
        "cancelled, tried again and paid: on the same channel, and on another one",
        "one SUCCEEDED charge, one PayOrderSuccess; the abandoned charge CLOSED",
        "charging:cancelled_and_paid",
    ),
    Row(
        7,
        "a refund that the channel carries out later; Ping++ sends refund.succeeded",
        "charge fetched first; RefundSuccess by webhook; the refund SUCCEEDED",
        "refunding:refunded",
    ),
    Row(
        8,
        "a refund is carried out, but no webhook comes; the timer calls PollPending",
        "one change is reported; RefundSuccess is delivered",
        "polling:refund_found_by_the_timer",
        beginning="polling:refunded_and_nobody_asks",
    ),
    Row(
        9,
        "partial refunds until nothing is left, then one more",
        "a RefundSuccess for each; the last refused with remaining 0",
        "refunding:in_parts",
    ),
    Row(
        10,
        "old Alipay: the refund waits for a person",
        "action_url returned and journaled; once a person has acted, RefundSuccess",
        "refunding:waits_for_a_person",
    ),
    Row(
        11,
        "the channel refuses the refund with HTTP 200",
        "FAILED with the reason, RefundFailed; a new refund_no succeeds",
        "refunding:refused_by_channel",
    ),
    Row(
        12,
        "Ping++ does not answer the create call",
        "OUTCOME_UNKNOWN, one charge, resolved by itself",
        "unanswered:create_without_answer",
    ),
    Row(
        13,
        "two charges of one order both end up paid",
        "both recorded; the second PayOrderSuccess says duplicate_payment",
        "charging:paid_twice",
    ),
    Row(
        14,
        "the order service is down; in the demo for seconds, not for an hour",
        "nothing is lost; afterwards everything arrives, in order per order",
        "outage:order_service_down",
    ),
    Row(
        15,
        "forged, altered and replayed webhooks",
        "refused or without effect; nothing reaches the order service",
        "forging:not_from_pingpp",
    ),
)
