"""Webhooks: every event to every URL, signed, and again until it is accepted (pingpp.md section 5).

    server.webhooks.urls = ("http://127.0.0.1:6013/pingpp/webhooks",)
    server.lookalike.pay(charge["id"])
    await server.webhooks.log.until(Match(type="charge.succeeded", outcome="accepted"))

The first send follows at once, the others after Ping++'s pauses, each counted from the planned
moment of the send before and what that one took. So a clock that is moved forward by a day brings
all the sends of that day, one after the other. A repeated webhook has the same bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from midas.sandbox.clock import SandboxClock
from midas.sandbox.errors import ControlError, Json
from midas.sandbox.faults import Fault, FaultList
from midas.sandbox.forgery import FORGERIES, Post, compact, forged, signed
from midas.sandbox.ledger import Lookalike
from midas.sandbox.options import SandboxOptions
from midas.sandbox.plan import Planner, target_of
from midas.sandbox.posting import TIMEOUT_LEAST_S, Poster, Reply
from midas.sandbox.schedule import Schedule
from midas.sandbox.signing import Keyring
from midas.sandbox.webhook_sends import Delivery, DeliveryLog, Outcome, Send

URLS_MOST = 20
COPIES_MOST = 1000


class Webhooks:
    """Sends beside the API, with a bounded number of requests under way.

    What the ledger owes from an earlier run is sent as soon as `start` is called; its sends are
    counted anew.
    """

    def __init__(
        self,
        lookalike: Lookalike,
        clock: SandboxClock,
        keys: Keyring,
        faults: FaultList,
        options: SandboxOptions,
    ) -> None:
        self.log = DeliveryLog()
        self._lookalike = lookalike
        self._clock = clock
        self._keys = keys
        self._faults = faults
        self._pauses_s = options.webhook_pauses_s
        self._sends_most = min(options.webhook_sends_most, len(options.webhook_pauses_s) + 1)
        if options.webhook_concurrency < 1:
            raise ControlError("webhook_concurrency must be at least 1, or nothing is ever sent")
        self._workers_most = options.webhook_concurrency
        timeout_s = options.webhook_timeout_s
        scaled_s = max(clock.to_real(timeout_s), min(timeout_s, TIMEOUT_LEAST_S))
        self._poster = Poster(scaled_s, options.webhook_concurrency)
        self._schedule = Schedule(clock)
        self._planner = Planner(faults, lookalike.find, clock.now)
        self._held: list[Delivery] = []
        self._under_way: set[Delivery] = set()
        self._quiet = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self.urls = options.webhook_urls
        for event_id, url in lookalike.owed_webhooks:
            self._begin(self._planner.plain(lookalike.events[event_id], url))

    @property
    def urls(self) -> tuple[str, ...]:
        """Where new events go. Deliveries that have begun keep their URL."""
        return self._lookalike.webhook_urls

    @urls.setter
    def urls(self, urls: Sequence[str]) -> None:
        for url in urls:
            _check_url(url)
        if len(urls) > URLS_MOST:
            raise ControlError(f"at most {URLS_MOST} webhook URLs")
        self._lookalike.webhook_urls = tuple(dict.fromkeys(urls))

    def announce(self, event: Json) -> None:
        """Plan the webhooks of a new event. Returns at once and never fails."""
        for delivery in self._planner.of_event(event, self.urls) if self.urls else ():
            self._begin(delivery)

    async def start(self) -> None:
        """Begin to send."""
        self._poster.open()
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._workers_most)]
        self._schedule.start()

    async def stop(self) -> None:
        """Stop sending. What was not accepted stays owed; `start` goes on with it."""
        self._schedule.stop()
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.cancel()
        ends = await asyncio.gather(*workers, return_exceptions=True)
        await self._poster.close()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def quiet(self) -> None:
        """Return when nothing is being sent and nothing is due. Repeats to come do not count."""
        while self._under_way or self._schedule.anything_due:
            self._quiet.clear()
            await self._quiet.wait()

    def clear(self) -> None:
        """Forget all deliveries; the URLs stay."""
        self._schedule.clear()
        self._held.clear()
        self._under_way.clear()
        self.log.clear()
        self._quiet.set()

    # What the dashboard does --------------------------------------------------------------

    async def resend(self, event_id: str, how: str | None = None, times: int = 1) -> list[Reply]:
        """Send an event again, now, once or `times` at once; the schedule does not change.

        `how` is a name in `midas.sandbox.forgery`, for a forged copy.
        """
        event = self._lookalike.events.get(event_id)
        if event is None:
            raise ControlError(f"there is no event {event_id}")
        return await self.send(event, how, times)

    async def send(self, event: Json, how: str | None = None, times: int = 1) -> list[Reply]:
        """Send any event to every URL, `times` at once, never repeated: as the test tool does."""
        if how is not None and how not in FORGERIES:
            raise ControlError(f"how must be one of {', '.join(FORGERIES)}")
        if type(times) is not int or not 1 <= times <= COPIES_MOST:
            raise ControlError(f"times must be a whole number from 1 to {COPIES_MOST}")
        if not self.urls:
            raise ControlError("there is no webhook URL to send to; set one first")
        body = compact(event)
        right = signed(body, self._keys.current.sign(body))
        post = right if how is None else forged(how, body, self._keys)
        sends = [self._poster.send(url, post) for url in self.urls for _ in range(times)]
        return await asyncio.gather(*sends)

    # One send -----------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            delivery = await self._schedule.take()
            self._under_way.add(delivery)
            try:
                await self._send(delivery)
            except asyncio.CancelledError:
                if delivery in self._under_way:
                    self._schedule.again(delivery)
                raise
            finally:
                self._under_way.discard(delivery)
                self._quiet.set()

    async def _send(self, delivery: Delivery) -> None:
        taken = self._faults.take(target_of(delivery, "send"))
        fault = taken[0] if taken else None
        at = self._clock.now()
        reply = await self._carry(delivery, fault)
        if delivery not in self._under_way:
            return  # Forgotten by `clear` meanwhile.
        kind = fault.kind if fault is not None else None
        delivery.sends.append(Send(at, reply.status, reply.error, kind))
        self._conclude(delivery)
        if reply.status is not None or kind == "webhook_lose_answer":
            self._let_go_behind(delivery)

    async def _carry(self, delivery: Delivery, fault: Fault | None) -> Reply:
        if fault is None:
            return await self._poster.send(delivery.url, self._post(delivery))
        match fault.kind:
            case "webhook_drop":
                return Reply(None, "lost on its way")
            case "webhook_lose_answer":
                reply = await self._poster.send(delivery.url, self._post(delivery))
                return Reply(None, f"the answer was lost: {reply.status or reply.error}")
            case "webhook_forge":
                how = fault.parameters["how"]
                post = forged(how, delivery.message.body, self._keys)
                return await self._poster.send(delivery.url, post)
            case _:
                raise AssertionError(f"{fault.kind} is no fault of a send")

    def _post(self, delivery: Delivery) -> Post:
        return signed(delivery.message.body, delivery.message.signature(self._keys))

    def _conclude(self, delivery: Delivery) -> None:
        sends = len(delivery.sends)
        if delivery.sends[-1].accepted:
            self._settle(delivery, "accepted")
        elif sends >= self._sends_most:
            self._settle(delivery, "given_up")
        else:
            took_s = self._clock.from_real(time.monotonic() - delivery.ready_at)
            delivery.due += took_s + self._pauses_s[sends - 1]
            self.log.changed(delivery)
            self._schedule.add(delivery)

    def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        self._lookalike.settle_webhook(delivery.event_id, delivery.url, outcome)
        self.log.changed(delivery, outcome)
        for later in delivery.then:
            later.due = self._clock.now()
            self._begin(later)

    def _begin(self, delivery: Delivery) -> None:
        if delivery.behind is not None:
            self._held.append(delivery)
        self.log.add(delivery)
        self._schedule.add(delivery)

    def _let_go_behind(self, received: Delivery) -> None:
        if not self._held:
            return
        freed = [one for one in self._held if not one.sends and one.waits_behind(received)]
        self._held = [one for one in self._held if not one.sends and one not in freed]
        for one in freed:
            one.due = self._clock.now()
            self._schedule.add(one)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except (ValueError, TypeError, AttributeError):
        right = False
    if not right:
        raise ControlError(f"{url!r} is not an http or https URL")
