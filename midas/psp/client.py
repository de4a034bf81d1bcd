"""The `Psp` port over real connections to Ping++."""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from midas.charge import Charge, ChargeFacts, ChargeTerms
from midas.errors import FieldViolation
from midas.event import PspEvent, UnreadableEvent
from midas.ports import ChargePage, Done, NotDone, RefundPage, Refusal, Unknown, Verdict
from midas.psp import channels, event_reader, facts, sdk
from midas.psp.breaker import Breaker, Gate
from midas.psp.channel_rules import charge_violations, refund_violations
from midas.psp.clock import PspClock
from midas.psp.options import PspOptions
from midas.psp.signing import Signer, Verifier
from midas.psp.strict_json import Unreadable
from midas.psp.transport import Answer, Sent, Transport, Wire
from midas.psp.verdicts import Health, health, judge
from midas.refund import REFUND_NO_KEY, Refund, RefundFacts

PAGE_SIZE = 100
"""The most that Ping++ gives at once (pingpp.md section 1)."""

_Read = TypeVar("_Read")

_log = logging.getLogger(__name__)


class PingppClient:
    """One Ping++ account. Use it as an async context manager, or `open` and `close` it.

    `transport` stands in for the connections, for example in tests. `monotonic` stands in for the
    clock by which Ping++'s clock is measured.

    Raises SettingsError if a key of the options cannot be read as one.
    """

    def __init__(
        self,
        options: PspOptions,
        transport: Wire | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        signer = None if options.private_key is None else Signer(options.private_key)
        self._options = options
        self._requestor = sdk.Requestor(
            options.api_key, options.api_base, signer.sign if signer else None
        )
        self._verifier = Verifier(options.public_keys)
        self._transport = transport or Transport(
            options.connect_timeout, options.concurrent_calls, options.answer_bytes
        )
        self._breaker = Breaker(options.breaker)
        self._gate = Gate(self._breaker, options.concurrent_flows)
        self._monotonic = monotonic
        self._clock = PspClock(monotonic)

    async def open(self) -> None:
        """Get ready to call; nothing is sent."""
        await self._transport.open()

    async def close(self) -> None:
        """Close all connections. Calls under way end as Unknown."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"PingppClient({self._options!r})"

    @property
    def app_id(self) -> str:
        """The Ping++ application that charges belong to."""
        return self._options.app_id

    @property
    def livemode(self) -> bool:
        """Whether real money moves: the API key decides it."""
        return self._options.livemode

    @property
    def total_timeout(self) -> timedelta:
        """The longest that one call can take."""
        return self._options.total_timeout

    @property
    def breaker(self) -> Breaker:
        """The circuit breaker, for readiness and metrics."""
        return self._breaker

    def now(self) -> datetime | None:
        """Ping++'s clock; None while too few of its answers of the last minutes have a date."""
        return self._clock.now()

    def latest_now(self) -> datetime | None:
        """Ping++'s clock by its last answer alone."""
        return self._clock.latest()

    def admit(self) -> AbstractAsyncContextManager[None]:
        """A place for one flow. Raises PspUnavailable or Overloaded before anything happens."""
        return self._gate.admit()

    def check_charge(self, terms: ChargeTerms) -> Sequence[FieldViolation]:
        """All that Ping++ would not accept of these terms. No I/O."""
        return charge_violations(terms, livemode=self.livemode)

    def check_refund(self, channel: str, refund: Refund) -> Sequence[FieldViolation]:
        """All that Ping++ would not accept of this refund. No I/O."""
        return refund_violations(channel, refund, livemode=self.livemode)

    def read_event(self, body: bytes) -> PspEvent | UnreadableEvent:
        """The event in a webhook's body. No I/O."""
        try:
            return event_reader.read_event(body)
        except Unreadable as why:
            return UnreadableEvent(str(why))

    def is_same_event(self, one: bytes, other: bytes) -> bool:
        """Whether two bodies are the same event, though their bytes differ. No I/O."""
        return event_reader.is_same_event(one, other)

    def can_reverse(self, channel: str) -> bool:
        """Whether an unpaid charge of this channel can be closed."""
        known = channels.find(channel)
        return known is not None and known.reversible

    def gives_back(self, channel: str) -> bool:
        """Whether the reversal of a paid charge gives the money back."""
        known = channels.find(channel)
        return known is not None and known.gives_back

    def pays_at_create(self, channel: str) -> bool:
        """Whether the create call itself takes the money."""
        known = channels.find(channel)
        return known is None or known.pays_at_create

    def repost_window(self, channel: str) -> timedelta:
        """How long identical terms give back the same charge. 0: never."""
        known = channels.find(channel)
        return timedelta(0) if known is None else known.repost_window

    async def create_charge(
        self, charge: Charge, timeout: timedelta | None = None
    ) -> Verdict[ChargeFacts]:
        """POST the charge. Unknown: it may be there, and on some channels be paid already."""
        return await self._call(
            "post",
            sdk.charges_path(),
            _charge_body(charge),
            facts.read_charge,
            timeout,
            pays_at_create=self.pays_at_create(charge.channel),
        )

    async def retrieve_charge(
        self, charge_id: str, timeout: timedelta | None = None
    ) -> Verdict[ChargeFacts]:
        """GET one charge with its newest refunds."""
        if not _is_id(charge_id):
            return _NO_SUCH_ID
        path = sdk.charge_path(charge_id)
        verdict = await self._call("get", path, {}, facts.read_charge, timeout)
        return _if_same_charge(charge_id, verdict)

    async def list_charges(
        self,
        created_from: datetime,
        created_to: datetime,
        channel: str | None = None,
        after: str | None = None,
        timeout: timedelta | None = None,
    ) -> Verdict[ChargePage]:
        """GET one page of at most 100 charges made between two times, both ends included."""
        query = {
            "app": {"id": self.app_id},
            "created": {"gte": int(created_from.timestamp()), "lte": int(created_to.timestamp())},
            "limit": PAGE_SIZE,
            "channel": channel,
            "starting_after": after,
        }
        return await self._call("get", sdk.charges_path(), query, facts.read_charge_page, timeout)

    async def reverse_charge(
        self, charge_id: str, timeout: timedelta | None = None
    ) -> Verdict[ChargeFacts]:
        """POST the reversal. Done carries the charge; read its `reversed`."""
        if not _is_id(charge_id):
            return _NO_SUCH_ID
        path = sdk.reverse_path(charge_id)
        verdict = await self._call("post", path, {}, facts.read_charge, timeout)
        return _if_same_charge(charge_id, verdict)

    async def create_refund(
        self, refund: Refund, timeout: timedelta | None = None
    ) -> Verdict[RefundFacts]:
        """POST the refund. Unknown: it may be there; never send it again because of that."""
        if not _is_id(refund.charge_id):
            return _NO_SUCH_ID
        path = sdk.refunds_path(refund.charge_id)
        return await self._call("post", path, _refund_body(refund), facts.read_refund, timeout)

    async def retrieve_refund(
        self, charge_id: str, refund_id: str, timeout: timedelta | None = None
    ) -> Verdict[RefundFacts]:
        """GET one refund; Ping++ asks the channel."""
        if not (_is_id(charge_id) and _is_id(refund_id)):
            return _NO_SUCH_ID
        path = sdk.refund_path(charge_id, refund_id)
        verdict = await self._call("get", path, {}, facts.read_refund, timeout)
        if isinstance(verdict, Done) and verdict.answer.refund_id != refund_id:
            return _OTHER_OBJECT
        return verdict

    async def list_refunds(
        self, charge_id: str, after: str | None = None, timeout: timedelta | None = None
    ) -> Verdict[RefundPage]:
        """GET one page of at most 100 refunds of a charge, newest first."""
        if not _is_id(charge_id):
            return _NO_SUCH_ID
        query = {"limit": PAGE_SIZE, "starting_after": after}
        path = sdk.refunds_path(charge_id)
        return await self._call("get", path, query, facts.read_refund_page, timeout)

    async def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any],
        read: facts.Reader[_Read],
        timeout: timedelta | None,
        *,
        pays_at_create: bool = False,
    ) -> Verdict[_Read]:
        limit = self.total_timeout if timeout is None else min(timeout, self.total_timeout)
        try:
            request = self._requestor.prepare(method, path, params)
        except (TypeError, ValueError, RecursionError):
            return NotDone(Refusal.REFUSED, message="the request cannot be written as JSON")
        began, asked_at = time.monotonic(), self._monotonic()
        sent = await self._transport.send(request, limit)
        verdict = judge(sent, read, self._requestor, self._verifier, pays_at_create=pays_at_create)
        self._note(health(verdict, hurried=limit < self._options.connect_timeout), began)
        self._record_clock(sent, verdict, asked_at)
        return verdict

    def _record_clock(self, sent: Sent, verdict: Verdict[Any], asked_at: float) -> None:
        """Record the date of an answer that could be read: any other need not be Ping++'s."""
        if isinstance(verdict, Unknown) or not isinstance(sent, Answer):
            return
        if self._clock.record_answer(sent.date, asked_at, self._monotonic()):
            _log.error("psp_clock_jumped")

    def _note(self, sign: Health, began: float) -> None:
        if sign is Health.GOOD:
            self._breaker.succeeded()
        elif sign is Health.BAD:
            self._breaker.failed(began)


_ID = re.compile(r"[A-Za-z0-9_]{1,64}")
_NO_SUCH_ID = NotDone(Refusal.NOT_FOUND, param="id", message="not an id of Ping++")
_OTHER_OBJECT = Unknown("other_object")


def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def _if_same_charge(charge_id: str, verdict: Verdict[ChargeFacts]) -> Verdict[ChargeFacts]:
    if isinstance(verdict, Done) and verdict.answer.charge_id != charge_id:
        return _OTHER_OBJECT
    return verdict


def _charge_body(charge: Charge) -> dict[str, Any]:
    body: dict[str, Any] = {
        "order_no": charge.out_trade_no,
        "app": {"id": charge.app_id},
        "channel": charge.channel,
        "amount": charge.amount,
        "currency": charge.currency,
        "client_ip": charge.client_ip,
        "subject": charge.subject,
        "body": charge.body,
        "extra": dict(charge.extra),
    }
    if charge.metadata:
        body["metadata"] = dict(charge.metadata)
    if charge.asked_expires_at is not None:
        body["time_expire"] = int(charge.asked_expires_at.timestamp())
    return body


def _refund_body(refund: Refund) -> dict[str, Any]:
    body: dict[str, Any] = {
        "amount": refund.amount,
        "description": refund.description,
        "metadata": {**refund.metadata, REFUND_NO_KEY: refund.refund_no},
    }
    if refund.funding_source is not None:
        body["funding_source"] = refund.funding_source.value
    return body
