"""In place of Ping++: answers every POST of a charge with a well-formed charge, and nothing else.

It is as cheap as it can be, so that it is never the limit. `--hold-ms` makes each answer wait, and
each answer has in `held_us` how long it really waited.
"""

import argparse
import asyncio
import itertools
import json
import time
from typing import cast

import uvloop

from tests.benchmarks.child import serve_at

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_numbers = itertools.count(10**23)


class Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection, without pipelining."""

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        """Answer once the request is whole."""
        self._unread += data
        head, end, rest = self._unread.partition(_END)
        if not end:
            return
        length = _content_length(head)
        if len(rest) < length:
            return
        self._unread = rest[length:]
        charge = _charge(json.loads(rest[:length]))
        arrived = time.perf_counter()
        if self._hold_s:
            self._loop.call_later(self._hold_s, self._answer, charge, arrived)
        else:
            self._answer(charge, arrived)

    def _answer(self, charge: dict[str, object], arrived: float) -> None:
        charge["held_us"] = round((time.perf_counter() - arrived) * 1e6)
        body = json.dumps(charge, ensure_ascii=False, separators=(",", ":")).encode()
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)


def _content_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.index(_LENGTH) + len(_LENGTH)
    return int(lower[start:].split(b"\r\n", 1)[0])


def _charge(asked: dict[str, object]) -> dict[str, object]:
    """The shape of pingpp.md section 2, in the order of fields of a recorded answer."""
    charge_id = f"ch_{next(_numbers)}"
    now = int(time.time())
    app = asked["app"]
    channel = str(asked["channel"])
    return {
        "id": charge_id,
        "object": "charge",
        "created": now,
        "livemode": False,
        "paid": False,
        "refunded": False,
        "reversed": False,
        "app": app["id"] if isinstance(app, dict) else app,
        "channel": channel,
        "order_no": asked["order_no"],
        "client_ip": asked["client_ip"],
        "amount": asked["amount"],
        "amount_settle": asked["amount"],
        "currency": asked["currency"],
        "subject": asked["subject"],
        "body": asked["body"],
        "extra": asked.get("extra", {}),
        "time_paid": None,
        "time_expire": asked.get("time_expire", now + 7200),
        "time_settle": None,
        "transaction_no": None,
        "refunds": {
            "object": "list",
            "url": f"/v1/charges/{charge_id}/refunds",
            "has_more": False,
            "data": [],
        },
        "amount_refunded": 0,
        "failure_code": None,
        "failure_msg": None,
        "metadata": asked.get("metadata", {}),
        "credential": {
            "object": "credential",
            channel: f"weixin://wxpay/bizpayurl?pr={charge_id[-7:]}",
        },
        "description": None,
    }


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hold-ms", type=float, default=0)
    hold_s = parser.parse_args().hold_ms / 1000
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(hold_s), "127.0.0.1", 0, backlog=512
    )
    await serve_at(server.sockets[0].getsockname()[1])


if __name__ == "__main__":
    uvloop.run(_main())
