"""What became of each webhook: every send, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from midas.sandbox.errors import Json
from midas.sandbox.forgery import compact
from midas.sandbox.signing import Keyring, SigningKey

DELIVERIES_KEPT = 10_000
Outcome = Literal["pending", "accepted", "given_up"]


class Message:
    """The bytes of one event, and their signature as long as the key stays the same."""

    __slots__ = ("_key", "_signature", "body")

    def __init__(self, event: Json) -> None:
        self.body = compact(event)
        self._key: SigningKey | None = None
        self._signature = ""

    def signature(self, keys: Keyring) -> str:
        """`X-Pingplusplus-Signature` by the key in use now."""
        if self._key is not keys.current:
            self._key = keys.current
            self._signature = self._key.sign(self.body)
        return self._signature


@dataclass(frozen=True, slots=True)
class Send:
    """One send: when, by the sandbox's clock, and what came back.

    `status` is None when no answer came; `error` then says why.
    """

    at: float
    status: int | None
    error: str | None
    fault: str | None

    @property
    def accepted(self) -> bool:
        """Whether this send ended the webhook: any 2xx does."""
        return self.status is not None and 200 <= self.status <= 299


@dataclass(slots=True, eq=False)
class Delivery:
    """One event on its way to one URL. `due` is the planned moment of the next send."""

    seq: int
    event_id: str
    type: str
    order_no: str | None
    channel: str | None
    url: str
    message: Message
    due: float
    outcome: Outcome = "pending"
    sends: list[Send] = field(default_factory=list)
    behind: Literal["order", "any"] | None = None
    """If set, it is held back until a later event of the order, or any later one, was received."""
    then: list[Delivery] = field(default_factory=list)
    """The deliveries that begin when this one has ended."""
    ready_at: float = 0.0
    """The moment since which it could have been sent, in monotonic seconds."""

    def waits_behind(self, other: Delivery) -> bool:
        """Whether the receipt of the other one lets this one go."""
        if other.url != self.url or other.seq <= self.seq:
            return False
        return self.behind == "any" or other.order_no == self.order_no

    def to_json(self) -> Json:
        """The delivery as the control API shows it."""
        return {
            "seq": self.seq,
            "event_id": self.event_id,
            "type": self.type,
            "order_no": self.order_no,
            "url": self.url,
            "outcome": self.outcome,
            "next_send_at": self.due if self.outcome == "pending" else None,
            "sends": [
                {"at": s.at, "status": s.status, "error": s.error, "fault": s.fault}
                for s in self.sends
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which deliveries are meant; None is any. `sends` is a least number of sends."""

    event_id: str | None = None
    type: str | None = None
    order_no: str | None = None
    url: str | None = None
    outcome: Outcome | None = None
    sends: int = 0

    def fits(self, delivery: Delivery) -> bool:
        """Whether this delivery, as it is now, is meant."""
        return (
            self.event_id in (None, delivery.event_id)
            and self.type in (None, delivery.type)
            and self.order_no in (None, delivery.order_no)
            and self.url in (None, delivery.url)
            and self.outcome in (None, delivery.outcome)
            and len(delivery.sends) >= self.sends
        )


class DeliveryLog:
    """The newest deliveries, oldest first, and totals by outcome of all since the start."""

    def __init__(self) -> None:
        self._kept: deque[Delivery] = deque(maxlen=DELIVERIES_KEPT)
        self._waiters: set[_Waiter] = set()
        self._totals: Counter[Outcome] = Counter()

    def add(self, delivery: Delivery) -> None:
        """Add a new delivery."""
        self._kept.append(delivery)
        self._totals["pending"] += 1
        self._offer(delivery)

    def changed(self, delivery: Delivery, outcome: Outcome = "pending") -> None:
        """Note that it was sent once more, and what its outcome is now."""
        self._totals[delivery.outcome] -= 1
        self._totals[outcome] += 1
        delivery.outcome = outcome
        self._offer(delivery)

    def matching(self, match: Match) -> list[Delivery]:
        """Those that are still kept and fit, oldest first."""
        return [delivery for delivery in self._kept if match.fits(delivery)]

    def totals(self) -> dict[str, int]:
        """How many are pending, were accepted, and were given up."""
        outcomes: tuple[Outcome, ...] = ("pending", "accepted", "given_up")
        return {outcome: self._totals[outcome] for outcome in outcomes}

    def clear(self) -> None:
        """Forget all deliveries. Whoever waits for some goes on waiting."""
        self._kept.clear()
        self._totals.clear()

    async def until(self, match: Match, count: int = 1) -> list[Delivery]:
        """Wait until `count` deliveries fit. Returns them, in the order in which each came to fit.

        This may wait for ever, so put a timeout around it.
        """
        waiter = _Waiter(match.fits, count)
        for delivery in self._kept:
            waiter.offer(delivery)
        with self._registered(waiter):
            await waiter.enough.wait()
        return list(waiter.found)

    @contextmanager
    def _registered(self, waiter: _Waiter) -> Iterator[None]:
        self._waiters.add(waiter)
        try:
            yield
        finally:
            self._waiters.discard(waiter)

    def _offer(self, delivery: Delivery) -> None:
        for waiter in self._waiters:
            waiter.offer(delivery)


class _Waiter:
    def __init__(self, fits: Callable[[Delivery], bool], count: int) -> None:
        self._fits = fits
        self._count = count
        self.found: dict[Delivery, None] = {}
        self.enough = asyncio.Event()
        self._check()

    def offer(self, delivery: Delivery) -> None:
        if self._fits(delivery):
            self.found[delivery] = None
            self._check()

    def _check(self) -> None:
        if len(self.found) >= self._count:
            self.enough.set()
