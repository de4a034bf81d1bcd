"""The sample order service, which also logs what came again.

Started as `python -m tests.faults.counted_orders`, it writes a line `repeat` for each notification
that has no effect, with what tells it from others. Everything else is `midas orders` as it is.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from midas.cli.app import cli
from midas.sandbox.orders.book import OrderBook, Told, Verdict

COUNTED_ORDERS = ("-m", "tests.faults.counted_orders")
"""How Python starts one, in the place of `-m midas`."""
REPEAT = "repeat"


def accept(book: OrderBook, batch: Sequence[Told]) -> list[Verdict]:
    """As the book does."""
    verdicts = _accept(book, batch)
    for told, verdict in zip(batch, verdicts, strict=True):
        if not verdict.accepted:
            line = {"event": REPEAT, "order_no": told.order_no, "sequence": told.sequence}
            line |= {"content": content(told.kind, told.request), "reused": verdict.reused_below}
            sys.stderr.write(json.dumps(line) + "\n")
    return verdicts


def content(kind: str, request: Any) -> list[Any]:
    """What makes it this notification and no other: the same for all attempts of it."""
    about = request.refund if kind.startswith("refund") else request.charge
    ids = (request.charge.out_trade_no, request.charge.charge_id, getattr(about, "refund_no", ""))
    return [kind, request.notification_id, *ids, about.amount]


_accept = OrderBook.accept

if __name__ == "__main__":
    with patch.object(OrderBook, "accept", accept):
        cli(prog_name="midas")
