"""Brings events to Midas: one at once, and those that come meanwhile together in the next call.

After a call of several the next one waits a moment for more (`midas.runtime.gathering`): Ping++
sends the next webhooks when it has the answers to these.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from grpc import StatusCode

from midas.runtime.gathering import Gathering
from midas.v1 import event_service_pb2 as events
from webhook_gateway.calls import UNEXPECTED, UNREADABLE, CallFailed, answer_of

if TYPE_CHECKING:
    from midas.v1.event_service_pb2_grpc import EventServiceAsyncStub

CALLS = 1
"""How many calls are under way while Midas is quick. The fewer there are, the more events share
one."""
QUICK_S = 0.05
"""How many seconds events wait for the calls under way before another call may begin."""
CALLS_MOST = 32
"""How many calls are under way at most when Midas is slow, for example with a locked database."""
TOGETHER = 64
"""The most events in one call, as the contract says."""
TOGETHER_BYTES = 192 * 1024
"""The most bytes of their bodies, so that the call stays below the contract's 256 KiB."""

EVENT_ID_REUSED = "EVENT_ID_REUSED"


class _Waiting(NamedTuple):
    request: events.RecordEventRequest
    answer: "asyncio.Future[events.RecordEventResponse]"


class Recorder:
    """Records events. The caller bounds how many are under way."""

    def __init__(self, stub: "EventServiceAsyncStub", timeout_s: float) -> None:
        """`timeout_s` is for one call. An event may have to wait for an earlier call, too."""
        self._one = stub.RecordEvent
        self._several = stub.RecordEvents
        self._timeout_s = timeout_s
        self._calls = 0
        """How many calls are under way, or held back to let the next one gather."""
        self._gathering = Gathering()
        self._waiting: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._patience: asyncio.TimerHandle | None = None
        self._one_by_one = False

    async def record(self, request: events.RecordEventRequest) -> events.RecordEventResponse:
        """The event is on disk when this returns.

        Raises CallFailed: ALREADY_EXISTS and INVALID_ARGUMENT mean that it never will be; after any
        other code it may be or not.
        """
        if self._calls >= CALLS:
            return await self._queued(request)
        self._calls += 1
        try:
            return await answer_of(self._one, request, self._timeout_s)
        finally:
            self._calls -= 1
            self._go_on()

    async def _queued(self, request: events.RecordEventRequest) -> events.RecordEventResponse:
        loop = asyncio.get_running_loop()
        waiting = _Waiting(request, loop.create_future())
        self._waiting.append(waiting)
        self._gathering.came(len(self._waiting))
        if self._patience is None:
            self._patience = loop.call_later(QUICK_S, self._impatient)
        return await waiting.answer

    def _impatient(self) -> None:
        self._patience = None
        self._go_on(CALLS_MOST)
        if self._waiting:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(QUICK_S, self._impatient)

    def _go_on(self, most: int = CALLS) -> None:
        if self._waiting and self._calls < most:
            self._calls += 1
            task = asyncio.create_task(self._send(self._take()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, batch: list[_Waiting]) -> None:
        results: list[events.RecordEventResponse | CallFailed] = [CallFailed(UNEXPECTED)]
        results *= len(batch)
        try:
            results = await self._results(batch)
        except CallFailed as failed:
            results = [failed] * len(batch)
        finally:
            try:
                _hand_out(batch, results)
                await self._gather(len(batch))
            finally:
                self._calls -= 1
                self._go_on()

    async def _gather(self, last: int) -> None:
        """Let the next call gather, unless Midas is slow: then calls overlap anyhow."""
        if self._calls <= CALLS:
            await self._gathering.wait(last, len(self._waiting))

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        room = TOGETHER_BYTES
        while self._waiting and len(batch) < TOGETHER:
            room -= len(self._waiting[0].request.body)
            if room < 0 and batch:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _results(
        self, batch: list[_Waiting]
    ) -> list[events.RecordEventResponse | CallFailed]:
        if len(batch) == 1:
            return [await answer_of(self._one, batch[0].request, self._timeout_s)]
        if self._one_by_one:
            return list(await asyncio.gather(*(self._alone(each) for each in batch)))
        request = events.RecordEventsRequest(events=[each.request for each in batch])
        try:
            answer = await answer_of(self._several, request, self._timeout_s)
        except CallFailed as failed:
            if failed.code != StatusCode.UNIMPLEMENTED.name:
                raise
            self._one_by_one = True  # an older Midas, in the middle of an upgrade
            return await self._results(batch)
        if len(answer.results) != len(batch):
            raise CallFailed(UNREADABLE)
        return [_result(each) for each in answer.results]

    async def _alone(self, waiting: _Waiting) -> events.RecordEventResponse | CallFailed:
        try:
            return await answer_of(self._one, waiting.request, self._timeout_s)
        except CallFailed as failed:
            return failed


def _hand_out(
    batch: list[_Waiting], results: list[events.RecordEventResponse | CallFailed]
) -> None:
    for each, result in zip(batch, results, strict=True):
        if each.answer.done():
            continue  # its sender is gone
        if isinstance(result, CallFailed):
            each.answer.set_exception(CallFailed(result.code))
        else:
            each.answer.set_result(result)


def _result(given: events.RecordEventResult) -> events.RecordEventResponse | CallFailed:
    if given.HasField("recorded"):
        return given.recorded
    if given.error.permanent:
        reused = given.error.reason == EVENT_ID_REUSED
        code = StatusCode.ALREADY_EXISTS if reused else StatusCode.INVALID_ARGUMENT
        return CallFailed(code.name)
    return CallFailed(StatusCode.UNAVAILABLE.name)
