"""When each webhook is sent next, by the sandbox's clock: also when somebody moves the clock."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterator

from midas.sandbox.clock import SandboxClock
from midas.sandbox.webhook_sends import Delivery


class Schedule:
    """Deliveries by `due`. Time that the clock was moved over is not waited for."""

    def __init__(self, clock: SandboxClock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Delivery]] = []
        self._ready: asyncio.Queue[Delivery] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        clock.watch(self._catch_up)

    def start(self) -> None:
        """Let deliveries become ready in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._on_time()

    def stop(self) -> None:
        """Let nothing become ready any more. What waits goes on waiting."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()

    def add(self, delivery: Delivery) -> None:
        """Hand it out when its `due` comes. If it is added again, only its new `due` counts."""
        if self._loop is not None and delivery.due <= self._clock.now():
            self._hand_out(delivery)
            return
        heapq.heappush(self._heap, (delivery.due, delivery.seq, delivery))
        if self._heap[0][2] is delivery:
            self._set_timer()

    def again(self, delivery: Delivery) -> None:
        """Take back what was handed out but not sent."""
        self._ready.put_nowait(delivery)

    async def take(self) -> Delivery:
        """The next one that is due, as soon as there is one."""
        return await self._ready.get()

    @property
    def anything_due(self) -> bool:
        """Whether one is ready to be taken."""
        return not self._ready.empty()

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()
        while not self._ready.empty():
            self._ready.get_nowait()

    def _catch_up(self) -> None:
        """Hand out what a moved clock made due. It keeps its `due`, from which repeats count."""
        if self._loop is None:
            return
        for delivery in self._due():
            self._hand_out(delivery)
        self._set_timer()

    def _on_time(self) -> None:
        """Hand out what is due. The timer is a little late, so the next pauses count from now."""
        for delivery in self._due():
            delivery.due = self._clock.now()
            self._hand_out(delivery)
        self._set_timer()

    def _due(self) -> Iterator[Delivery]:
        while self._heap and self._heap[0][0] <= self._clock.now():
            due, _, delivery = heapq.heappop(self._heap)
            if due == delivery.due and delivery.outcome == "pending":
                yield delivery

    def _hand_out(self, delivery: Delivery) -> None:
        delivery.ready_at = time.monotonic()
        self._ready.put_nowait(delivery)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap and self._loop is not None:
            wait_s = self._clock.to_real(self._heap[0][0] - self._clock.now())
            self._timer = self._loop.call_later(max(0.0, wait_s), self._on_time)
