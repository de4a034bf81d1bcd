"""The look-alike over HTTP: authentication, signatures, faults, and the answers' exact bytes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import hashlib
import hmac
import json
import re
from typing import Self
from urllib.parse import parse_qsl

from aiohttp import web

from midas.sandbox import control, pages, webhook_control
from midas.sandbox.answers import Answer, broken_answer, reset, send
from midas.sandbox.clock import SandboxClock
from midas.sandbox.errors import (
    ApiError,
    Json,
    SandboxError,
    bad_api_key,
    bad_signature,
    no_signature,
)
from midas.sandbox.faults import Fault, FaultList, Target
from midas.sandbox.ledger import Lookalike
from midas.sandbox.options import SandboxOptions
from midas.sandbox.request_log import LoggedRequest, RequestLog
from midas.sandbox.signing import Keyring, RequestVerifier
from midas.sandbox.webhooks import Webhooks

REQUEST_BYTES_MOST = 1024 * 1024
KEEPALIVE_S = 75.0
SHUTDOWN_S = 1.0
_CHARGE_PATH = re.compile("/v1/charges/([^/]+)")


class SandboxServer:
    """A sandbox with sockets; its parts may be used directly from the same event loop.

    They are `lookalike` (engine, controls, ledger), `webhooks`, `faults`, `requests`, `clock`,
    `keys`, `url` and `public_key_pem` (what answers and events verify with).
    """

    def __init__(self, options: SandboxOptions | None = None) -> None:
        self.options = options or SandboxOptions()
        self.clock = SandboxClock(self.options.time_scale)
        self.keys = Keyring(self.options.signing_private_key, self.options.public_key_path)
        merchant_key = self.options.merchant_public_key
        strict = self.options.strict
        self._verifier = RequestVerifier(merchant_key, strict=strict) if merchant_key else None
        self.faults = FaultList()
        self.requests = RequestLog()
        self.lookalike = Lookalike(
            self.options.app_id,
            self.options.livemode,
            self.clock.now,
            self.options.rng_seed,
            ledger_path=self.options.ledger_path,
            wx_reverse_after_s=self.options.wx_reverse_after_s,
            refund_description_required=self.options.refund_description_required,
            strict=strict,
        )
        if self.lookalike.ledger.entries:
            self.clock.not_before(self.lookalike.ledger.entries[-1].time)
        self.webhooks = Webhooks(self.lookalike, self.clock, self.keys, self.faults, self.options)
        self.lookalike.on_event = self.webhooks.announce
        self.url = ""
        self._port = self.options.port
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()

    @property
    def public_key_pem(self) -> str:
        """The public half of the key that answers are signed with."""
        return self.keys.current.public_pem

    def sign(self, body: bytes) -> str:
        """`X-Pingplusplus-Signature` of these bytes, by the key in use now."""
        return self.keys.current.sign(body)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> str:
        """Listen and return the base URL; `SandboxError` when the address cannot be used."""
        self.keys.write_current()
        self._stopping.clear()
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=SHUTDOWN_S,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self.options.host, self._port, reuse_address=True).start()
        except OSError as error:
            await runner.cleanup()
            raise _cannot_listen(self.options.host, self._port, error) from error
        self._runner = runner
        self._port = runner.addresses[0][1]
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        self.url = self.lookalike.public_url = f"http://{host}:{self._port}"
        await self.webhooks.start()
        return self.url

    async def go_down(self) -> None:
        """Stop listening and sending, drop all connections; `start` comes back on the same port."""
        self._stopping.set()
        try:
            await self.webhooks.stop()
        finally:
            if self._runner is not None:
                await self._runner.cleanup()
                self._runner = None

    async def stop(self) -> None:
        """Go down for good and close the ledger, whose entries stay readable."""
        await self.go_down()
        self.lookalike.close()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=REQUEST_BYTES_MOST)
        application.router.add_route("*", "/v1/{path:.*}", self._serve)
        control.add_routes(application, self)
        webhook_control.add_routes(application, self)
        pages.add_routes(application, self.lookalike)
        return application

    # One request --------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        logged = self._note(request, body)
        taken = self.faults.take(
            Target(logged.method, logged.path, logged.order_no, logged.channel)
        )
        logged.faults = tuple(fault.kind for fault in taken)
        if await self._goes_down_within(self.options.latency_s + _delay(taken, "before")):
            return reset(request)
        fault = next((fault for fault in taken if fault.kind != "delay"), None)
        if fault is not None and fault.kind in ("lose_request", "stall", "status"):
            return await self._without_handling(request, fault, logged)
        status, answer = self._handle(request, body)
        logged.handled = True
        logged.charge_id = _charge_id(answer) or logged.charge_id
        if await self._goes_down_within(_delay(taken, "after")):
            return reset(request)
        return await self._reply(request, logged, status, answer, fault)

    async def _without_handling(
        self, request: web.Request, fault: Fault, logged: LoggedRequest
    ) -> web.StreamResponse:
        if fault.kind == "status":
            answer = broken_answer(fault, 500, {}, self._encode)
            return await self._send(request, logged, answer)
        if fault.kind == "stall":
            await self._stopping.wait()
        return reset(request)

    async def _reply(
        self,
        request: web.Request,
        logged: LoggedRequest,
        status: int,
        content: Json,
        fault: Fault | None,
    ) -> web.StreamResponse:
        if fault is None:
            answer = Answer(status, self._encode(content))
        elif fault.kind == "lose_response":
            return reset(request)
        else:
            answer = broken_answer(fault, status, content, self._encode)
        return await self._send(request, logged, answer)

    async def _send(
        self, request: web.Request, logged: LoggedRequest, answer: Answer
    ) -> web.StreamResponse:
        logged.status = answer.status
        logged.answer_sha256 = hashlib.sha256(answer.body).hexdigest()
        return await send(request, answer, self._signature(answer), self.clock.now())

    def _handle(self, request: web.Request, body: bytes) -> tuple[int, Json]:
        try:
            self._authenticate(request)
            self._check_signature(request, body)
        except ApiError as error:
            return error.status, error.envelope()
        query = parse_qsl(request.raw_path.partition("?")[2], keep_blank_values=True)
        return self.lookalike.handle(request.method, request.path, query, body)

    def _authenticate(self, request: web.Request) -> None:
        key = _sent_key(request.headers.get("Authorization", ""))
        if not hmac.compare_digest(key.encode(), self.options.key().encode()):
            raise bad_api_key(key)

    def _check_signature(self, request: web.Request, body: bytes) -> None:
        if self._verifier is None:
            return
        signature = request.headers.get("Pingplusplus-Signature", "")
        if not signature:
            raise no_signature()
        timestamp = request.headers.get("Pingplusplus-Request-Timestamp", "")
        if not self._verifier.accepts(body, request.raw_path, timestamp, signature):
            raise bad_signature()

    def _signature(self, answer: Answer) -> str | None:
        if not self.options.sign_answers:
            return None
        # A forged signature is over other bytes: it is valid base64 and has the right length.
        return self.sign(answer.body + b" " if answer.forged else answer.body)

    def _note(self, request: web.Request, body: bytes) -> LoggedRequest:
        order_no, channel, charge_id = self._subject(request, body)
        logged = self.requests.add(
            time=self.clock.now(),
            method=request.method,
            path=request.path,
            query=request.raw_path.partition("?")[2],
            order_no=order_no,
            channel=channel,
            body=body,
        )
        logged.charge_id = charge_id
        return logged

    def _subject(
        self, request: web.Request, body: bytes
    ) -> tuple[str | None, str | None, str | None]:
        """order_no, channel and charge id of the charge that this request is about."""
        named = _CHARGE_PATH.match(request.path)
        if named:
            charge = self.lookalike.find(named[1])
            if charge is not None:
                return charge["order_no"], charge["channel"], charge["id"]
            return None, None, named[1]
        try:
            sent = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            return None, None, None
        if not isinstance(sent, dict):
            return None, None, None
        return _text(sent.get("order_no")), _text(sent.get("channel")), None

    def _encode(self, content: Json) -> bytes:
        if self.options.compact_json:
            return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        return json.dumps(content, ensure_ascii=False, indent=4).encode()

    async def _goes_down_within(self, seconds: float) -> bool:
        """Wait that long. Returns True at once if the sandbox goes down meanwhile."""
        if seconds <= 0:
            return False
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True


def _delay(taken: list[Fault], when: str) -> float:
    delays = [fault.parameters for fault in taken if fault.kind == "delay"]
    return float(sum(delay["seconds"] for delay in delays if delay["when"] == when))


def _sent_key(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def _charge_id(answer: Json) -> str | None:
    if answer.get("object") == "charge":
        return _text(answer.get("id"))
    return _text(answer.get("charge"))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _cannot_listen(host: str, port: int, error: OSError) -> SandboxError:
    if error.errno == errno.EADDRINUSE:
        return SandboxError(
            f"port {port} on {host} is in use: stop what listens there, choose another port, "
            "or 0 for a free one"
        )
    return SandboxError(f"cannot listen on {host} port {port}: {error.strerror or error}")
