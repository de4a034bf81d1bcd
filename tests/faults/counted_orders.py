"""The sample order service, which also logs what came again.

Started as `python -m tests.faults.counted_orders`, it writes a line `repeat` for each notification
that it had accepted before. Everything else is `midas orders` as it is.
"""

import json
import sys
from collections.abc import Sequence
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
            sys.stderr.write(json.dumps(line) + "\n")
    return verdicts


_accept = OrderBook.accept

if __name__ == "__main__":
    with patch.object(OrderBook, "accept", accept):
        cli(prog_name="midas")
