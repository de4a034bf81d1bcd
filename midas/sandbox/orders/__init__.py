"""A small order service that keeps every promise of midas.order.v1, for demos, tests and to read.

    from midas.sandbox.orders.server import OrderOptions, OrderServer

    async with OrderServer(OrderOptions(file=Path("orders.sqlite3"))) as server:
        ...                                      # let a gateway deliver to server.target
        assert server.book.order("A1001").pay_order_success == 1
        server.faults.add({"match": {"order_no": "A1002"}, "count": None,
                           "action": {"kind": "refuse", "code": "NOT_FOUND"}})

How it keeps them, one file each:

- `book.py`: an accepted notification is a row in SQLite, committed with synchronous=FULL before the
  caller gets OK. It is accepted only if its sequence is above the highest of its order, and that
  is decided in the statement that writes it: repeats, older ones and copies that arrive at the same
  time have no effect, also after a restart or kill -9, also with two processes on the file.
- `gathering.py`: calls that arrive while a commit is under way share the next one.
- `order.py`: what the order service knows of an order is a pure function of what it accepted. Each
  payment, closing and refund counts once, also where Midas sends it again under another sequence.
- `service.py`: the four calls. A repeat is answered OK like the first time. Only what can never be
  right is refused. What comes under a sequence that something else has is refused with
  SEQUENCE_REUSED. When the file cannot be written, the answer is UNAVAILABLE, and Midas sends it
  again.

A sequence that leaves a gap in its epoch is accepted, as the contract says: Midas sends the next
one only after the one before was acknowledged, so the gap is this side's own loss (an older copy of
the file, or a service that came later). To refuse it would not bring the lost ones back: it would
only stop the order. The gap is not hidden: it is logged, and `missed` of the order counts it.
"""
