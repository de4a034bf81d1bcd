"""The bytes that leave the sandbox, right ones and broken ones."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web

from midas.sandbox.errors import Json
from midas.sandbox.faults import Fault

JSON_TYPE = "application/json;charset=utf-8"
HTML_TYPE = "text/html"
SIGNATURE_HEADER = "X-Pingplusplus-Signature"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
ERROR_PAGE = b"<html>\r\n<head><title>Bad Gateway</title></head>\r\n<body></body>\r\n</html>\r\n"
NOT_JSON = b'{"id": "ch_'


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send; `cut_at` is the body byte after which the connection is reset."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    signed: bool = True
    forged: bool = False
    cut_at: int | None = None


def broken_answer(
    fault: Fault, status: int, content: Json, encode: Callable[[Json], bytes]
) -> Answer:
    """The answer as the fault leaves it; the request was handled, except for `status`."""
    match fault.kind:
        case "status" | "status_after":
            return _other_status(fault, encode)
        case "truncate":
            return Answer(status, encode(content), cut_at=fault.parameters["bytes"])
        case "garbage":
            return Answer(200, NOT_JSON, signed=False)
        case "wrong_object":
            return Answer(200, encode(_another_object()))
        case "alter":
            return Answer(status, encode(_altered(content, fault.parameters["fields"])))
        case "empty_list":
            return Answer(status, encode(_lagging(content)))
        case "wrong_signature":
            return Answer(status, encode(content), forged=True)
        case _:
            raise AssertionError(f"{fault.kind} has no answer")


async def send(
    request: web.Request, answer: Answer, signature: str | None, now: float
) -> web.StreamResponse:
    """Send it, with the signature if it is a signed one. `now` is the sandbox's own clock."""
    headers = {"Content-Type": answer.content_type, "Cache-Control": "no-cache, no-store"}
    headers["Date"] = formatdate(now, usegmt=True)
    if answer.signed and signature is not None:
        headers[SIGNATURE_HEADER] = signature
    if answer.cut_at is not None:
        return await _send_part(request, answer, headers)
    return web.Response(status=answer.status, body=answer.body, headers=headers)


def reset(request: web.Request) -> web.StreamResponse:
    """Drop the connection with a TCP reset; what is returned reaches nobody."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        transport.abort()
    return web.Response()


async def _send_part(
    request: web.Request, answer: Answer, headers: dict[str, str]
) -> web.StreamResponse:
    if request.transport is None:
        return web.Response()
    reason = HTTPStatus(answer.status).phrase
    lines = [f"HTTP/1.1 {answer.status} {reason}", f"Content-Length: {len(answer.body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    request.transport.write(head + answer.body[: answer.cut_at])
    # Lets the event loop hand the bytes to the kernel before the reset overtakes them.
    await asyncio.sleep(0)
    return reset(request)


def _other_status(fault: Fault, encode: Callable[[Json], bytes]) -> Answer:
    status, body = fault.parameters["code"], fault.parameters["body"]
    if body == "html":
        return Answer(status, ERROR_PAGE, HTML_TYPE, signed=False)
    if body == "empty":
        return Answer(status, b"", signed=False)
    error = {"type": "api_error", "message": f"服务暂时不可用 ({status})"}
    return Answer(status, encode({"error": {**error, **fault.parameters["error"]}}))


def _another_object() -> Json:
    return {
        "id": "tr_000000000000000000000000",
        "object": "transfer",
        "type": "b2c",
        "created": 0,
        "livemode": False,
        "status": "pending",
        "amount": 1,
    }


def _lagging(content: Json) -> Json:
    if content.get("object") != "list":
        return content
    return {**content, "data": [], "has_more": False}


def _altered(content: Json, fields: Json) -> Json:
    if content.get("object") == "list":
        return {**content, "data": [{**item, **fields} for item in content["data"]]}
    return {**content, **fields}
