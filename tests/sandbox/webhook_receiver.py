"""A merchant's webhook endpoint that checks signatures by itself and answers as the test sets."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections import deque
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

SIGNATURE = "X-Pingplusplus-Signature"


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    body: bytes
    headers: list[tuple[str, str]]
    connection: object

    @property
    def event(self) -> dict[str, Any]:
        """The event inside."""
        event: dict[str, Any] = json.loads(self.body)
        return event

    @property
    def about(self) -> dict[str, Any]:
        """The charge or refund inside the event."""
        about: dict[str, Any] = self.event["data"]["object"]
        return about

    def header(self, name: str) -> list[str]:
        """Every value of this header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def verifies(self, public_pem: str) -> bool:
        """Whether it carries one signature, and that is right for these bytes."""
        key = load_pem_public_key(public_pem.encode())
        assert isinstance(key, rsa.RSAPublicKey)
        signatures = self.header(SIGNATURE)
        if len(signatures) != 1:
            return False
        try:
            raw = base64.b64decode(signatures[0], validate=True)
            key.verify(raw, self.body, padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, binascii.Error):
            return False
        return True


class Receiver:
    """Keeps every request; answers the statuses of `answers` in turn, then `status` for ever."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: deque[int] = deque()
        self.status = 200
        self.open = asyncio.Event()
        """While it is not set, requests wait for their answer."""
        self.open.set()
        self.at_once = 0
        self.most_at_once = 0
        self.url = ""
        self._arrived = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(application, auto_decompress=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/pingpp/webhooks"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def arrivals(self, count: int) -> list[Received]:
        """The requests so far, once there are this many, answered or not."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            assert request.transport is not None
            connection = request.transport.get_extra_info("peername")
            headers = list(request.headers.items())
            await self._note(Received(request.path, body, headers, connection))
            await self.open.wait()
        finally:
            self.at_once -= 1
        status = self.answers.popleft() if self.answers else self.status
        there = {"Location": "/elsewhere"} if 300 <= status < 400 else {}
        return web.Response(status=status, headers=there)

    async def _note(self, received: Received) -> None:
        async with self._arrived:
            self.received.append(received)
            self._arrived.notify_all()
