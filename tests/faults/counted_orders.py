"""The sample order service, which also logs what came again.

Started as `python -m tests.faults.counted_orders`, it writes a line `repeat` for each notification
that has no effect, with what makes it different from others. It is `midas orders` otherwise.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from midas.cli.app import cli
from midas.sandbox.orders.book import Decision, OrderBook, Reception

COUNTED_ORDERS = ("-m", "tests.faults.counted_orders")
"""How Python starts one, in the place of `-m midas`."""
REPEAT = "repeat"


def accept(book: OrderBook, batch: Sequence[Reception]) -> list[Decision]:
    """As the book does."""
    decisions = _accept(book, batch)
    for reception, decision in zip(batch, decisions, strict=True):
        if not decision.accepted:
            line = {"event": REPEAT, "order_no": reception.order_no, "sequence": reception.sequence}
            line |= {
                "content": content(reception.kind, reception.request),
                "reused": decision.reused_below,
            }
            sys.stderr.write(json.dumps(line) + "\n")
    return decisions


def content(kind: str, request: Any) -> list[Any]:
    """What makes it this notification and no other: the same for all attempts of it."""
    about = request.refund if kind.startswith("refund") else request.charge
    ids = (request.charge.out_trade_no, request.charge.charge_id, getattr(about, "refund_no", ""))
    return [kind, request.notification_id, *ids, about.amount]


_accept = OrderBook.accept

if __name__ == "__main__":
    with patch.object(OrderBook, "accept", accept):
        cli(prog_name="midas")
