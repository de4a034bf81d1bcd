"""The control API: what a test or an operator does to the order service from another process.

| request                           | answer                                                       |
|-----------------------------------|--------------------------------------------------------------|
| GET  /_orders/state               | how many notifications were accepted; whether it is up       |
| GET  /_orders/order?order_no=     | what is known of the order (`midas.sandbox.orders.order`)    |
| GET  /_orders/received            | every accepted notification in order of arrival; ?order_no=  |
| GET, POST, DELETE /_orders/faults | one fault or a list of them (`midas.sandbox.orders.faults`)  |
| POST /_orders/down, /_orders/up   | close the gRPC port, and open it again                       |

Answers are JSON. The status is 409, with `{"error": "<sentence>"}`, when the control makes no
sense, and 400 when it cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web
from google.protobuf.json_format import MessageToDict

from midas.sandbox.errors import ControlError, Json

if TYPE_CHECKING:
    from midas.sandbox.orders.book import OrderBook
    from midas.sandbox.orders.faults import OrderFaults
    from midas.sandbox.orders.order import Accepted

PREFIX = "/_orders"


class Controlled(Protocol):
    """What the control API works on: a sample order service that can go down and come up."""

    target: str
    book: OrderBook
    faults: OrderFaults

    @property
    def is_up(self) -> bool:
        """Whether it accepts calls."""

    async def come_up(self) -> None:
        """Accept calls, on the same port as before."""

    async def go_down(self) -> None:
        """Close the port and drop the calls under way."""


Handler = Callable[[web.Request, Any], Awaitable[Json]]


def application(server: Controlled) -> web.Application:
    """The control API of this server."""
    controls = _Controls(server)
    serving = web.Application()
    for method, path, handler in (
        ("GET", "/state", controls.state),
        ("GET", "/order", controls.order),
        ("GET", "/received", controls.received),
        ("GET", "/faults", controls.faults),
        ("POST", "/faults", controls.add_faults),
        ("DELETE", "/faults", controls.clear_faults),
        ("POST", "/down", controls.down),
        ("POST", "/up", controls.up),
    ):
        serving.router.add_route(method, PREFIX + path, _serving(handler))
    return serving


def to_json(accepted: Accepted) -> Json:
    """One accepted notification as JSON."""
    return {
        "position": accepted.position,
        "kind": accepted.kind,
        "order_no": accepted.order_no,
        "sequence": accepted.sequence,
        "request": MessageToDict(accepted.request, preserving_proto_field_name=True),
    }


def _serving(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
            return _json(await handler(request, json.loads(body) if body else {}))
        except ControlError as error:
            return _json({"error": str(error)}, 409)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            return _json({"error": f"cannot read this request: {error}"}, 400)

    return serve


def _json(content: Json, status: int = 200) -> web.Response:
    return web.json_response(
        content, status=status, dumps=lambda value: json.dumps(value, ensure_ascii=False)
    )


class _Controls:
    def __init__(self, server: Controlled) -> None:
        self._server = server

    async def state(self, _: web.Request, __: Json) -> Json:
        return {"target": self._server.target, "up": self._server.is_up, **self._counts()}

    async def order(self, request: web.Request, _: Json) -> Json:
        return self._server.book.order(request.query["order_no"]).to_json()

    async def received(self, request: web.Request, _: Json) -> Json:
        found = self._server.book.received(request.query.get("order_no"))
        return {"received": [to_json(each) for each in found]}

    async def faults(self, _: web.Request, __: Json) -> Json:
        return {"faults": self._server.faults.to_json()}

    async def add_faults(self, _: web.Request, sent: Json | list[Json]) -> Json:
        described = sent if isinstance(sent, list) else [sent]
        return {"faults": [self._server.faults.add(one).to_json() for one in described]}

    async def clear_faults(self, _: web.Request, __: Json) -> Json:
        self._server.faults.clear()
        return {"faults": []}

    async def down(self, request: web.Request, sent: Json) -> Json:
        await self._server.go_down()
        return await self.state(request, sent)

    async def up(self, request: web.Request, sent: Json) -> Json:
        await self._server.come_up()
        return await self.state(request, sent)

    def _counts(self) -> Json:
        found = self._server.book.received()
        return {"accepted": len(found), "orders": len({each.order_no for each in found})}
