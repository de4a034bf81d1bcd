"""Events that come while others are on their way to Midas share a call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from grpc import aio

from midas.runtime.gathering import SIBLINGS, Gathering
from midas.v1 import event_service_pb2 as events
from midas.v1.event_service_pb2_grpc import EventServiceStub
from tests.gateway.events_double import EventsDouble, Fails, served
from tests.patience import PATIENCE_S
from webhook_gateway import recorder as product
from webhook_gateway.calls import CallFailed
from webhook_gateway.recorder import Recorder


class Counting(EventsDouble):
    """Counts calls; each waits until `open` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.open = asyncio.Event()
        self.begun = asyncio.Condition()

    async def RecordEvent(self, request: Any, context: Any) -> Any:  # noqa: N802
        """One."""
        await self._begin(1)
        return await super().RecordEvent(request, context)

    async def RecordEvents(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Several."""
        await self._begin(len(request.events))
        return await super().RecordEvents(request, context)

    async def calls(self, count: int) -> None:
        """Wait until so many calls have begun."""
        async with asyncio.timeout(PATIENCE_S), self.begun:
            await self.begun.wait_for(lambda: len(self.sizes) >= count)

    async def _begin(self, size: int) -> None:
        async with self.begun:
            self.sizes.append(size)
            self.begun.notify_all()
        await self.open.wait()


@asynccontextmanager
async def staged(timeout_s: float = PATIENCE_S) -> AsyncIterator[tuple[Recorder, Counting]]:
    """A recorder before the double."""
    midas = Counting()
    async with served(midas) as port, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Recorder(EventServiceStub(channel), timeout_s), midas


def an_event(number: int, size: int = 10) -> events.RecordEventRequest:
    """One that differs from the others."""
    return events.RecordEventRequest(body=f"{number:06}".encode().ljust(size, b"."))


def begin(
    recorder: Recorder, requests: list[events.RecordEventRequest]
) -> "list[asyncio.Task[events.RecordEventResponse]]":
    """Record all of them at once."""
    return [asyncio.create_task(recorder.record(each)) for each in requests]


async def test_what_waits_goes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is under way; the eleven that come meanwhile are one more when it ends."""
    monkeypatch.setattr(product, "QUICK_S", PATIENCE_S)
    async with staged() as (recorder, midas):
        waiting = begin(recorder, [an_event(n) for n in range(12)])
        await midas.calls(product.CALLS)
        midas.open.set()
        await asyncio.gather(*waiting)
    assert midas.sizes[0] == 1
    assert sum(midas.sizes) == 12
    assert max(midas.sizes) == 11
    assert len({each.body for each in midas.recorded}) == 12


async def test_nobody_waits_long_for_slow_calls() -> None:
    """When Midas does not answer the first call, the others leave all the same."""
    async with staged() as (recorder, midas):
        waiting = begin(recorder, [an_event(n) for n in range(6)])
        await midas.calls(2)
        assert sum(midas.sizes) == 6
        midas.open.set()
        await asyncio.gather(*waiting)


async def test_after_a_call_of_several_the_next_ones_gather(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that were answered send the next at about the same time: again in one call."""
    monkeypatch.setattr(product, "QUICK_S", PATIENCE_S)
    monkeypatch.setattr(product, "Gathering", partial(Gathering, timedelta(hours=1)))
    async with staged() as (recorder, midas):
        waiting = begin(recorder, [an_event(n) for n in range(1 + SIBLINGS)])
        await midas.calls(1)
        midas.open.set()
        await asyncio.gather(*waiting)
        for number in range(2 * SIBLINGS):
            waiting += begin(recorder, [an_event(100 + number)])
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S / 2):  # they do not go for having waited long
            await asyncio.gather(*waiting)
    assert midas.sizes == [1, SIBLINGS, 2 * SIBLINGS]


async def test_those_that_gather_do_not_wait_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long company is hoped for, events leave after QUICK_S; and so do later ones."""
    monkeypatch.setattr(product, "Gathering", partial(Gathering, timedelta(hours=1)))
    async with staged() as (recorder, midas):
        waiting = begin(recorder, [an_event(n) for n in range(1 + SIBLINGS)])
        midas.open.set()
        await asyncio.gather(*waiting)
        for number in range(3):
            async with asyncio.timeout(PATIENCE_S):
                await recorder.record(an_event(100 + number))


async def test_calls_are_bounded_in_number_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 events and 192 KiB at most; a larger number is more calls."""
    monkeypatch.setattr(product, "QUICK_S", PATIENCE_S)
    async with staged() as (recorder, midas):
        midas.open.set()
        many = begin(recorder, [an_event(n) for n in range(200)])
        await asyncio.gather(*many)
        assert max(midas.sizes) == product.TOGETHER
        midas.sizes.clear()
        large = begin(recorder, [an_event(n, 60_000) for n in range(20)])
        await asyncio.gather(*large)
    assert max(midas.sizes) == product.TOGETHER_BYTES // 60_000


async def test_each_gets_its_own_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is refused, and one that could not be written, do not spoil the others."""
    monkeypatch.setattr(product, "QUICK_S", PATIENCE_S)
    codes = {3: "ALREADY_EXISTS", 5: "UNAVAILABLE", 7: "INVALID_ARGUMENT"}

    async def script(request: events.RecordEventRequest) -> events.RecordEventResponse:
        number = int(request.body[:6])
        if number in codes:
            raise Fails(grpc.StatusCode[codes[number]])
        return events.RecordEventResponse(event_id=str(number))

    async with staged() as (recorder, midas):
        midas.script = script
        waiting = begin(recorder, [an_event(n) for n in range(12)])
        await midas.calls(product.CALLS)
        midas.open.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
    for number, result in enumerate(results):
        if number in codes:
            assert isinstance(result, CallFailed)
            assert result.code == codes[number]
        else:
            assert isinstance(result, events.RecordEventResponse)
            assert result.event_id == str(number)


async def test_a_failed_call_fails_for_all_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Midas does not answer in time: every event of the call may be recorded or not."""
    monkeypatch.setattr(product, "QUICK_S", PATIENCE_S)
    async with staged(timeout_s=0.2) as (recorder, _):
        waiting = begin(recorder, [an_event(n) for n in range(6)])
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {each.code for each in results if isinstance(each, CallFailed)} == {"DEADLINE_EXCEEDED"}
    assert len(results) == 6


async def test_a_sender_that_goes_away_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its event is recorded all the same, and the others get their answers."""
    monkeypatch.setattr(product, "QUICK_S", PATIENCE_S)
    async with staged() as (recorder, midas):
        waiting = begin(recorder, [an_event(n) for n in range(6)])
        await midas.calls(product.CALLS)
        waiting[4].cancel()
        midas.open.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(each, events.RecordEventResponse) for each in results] == [
        *([True] * 4),
        False,
        True,
    ]
    assert len(midas.recorded) == 6


class Older(Counting):
    """A Midas of before RecordEvents."""

    async def RecordEvents(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Not there yet."""
        self.sizes.append(0)
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")


async def test_an_older_midas_gets_them_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of an upgrade nothing is refused, and Midas is asked for RecordEvents once."""
    monkeypatch.setattr(product, "QUICK_S", PATIENCE_S)
    midas = Older()
    midas.open.set()
    async with served(midas) as port, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        recorder = Recorder(EventServiceStub(channel), PATIENCE_S)
        for _ in range(2):
            await asyncio.gather(*begin(recorder, [an_event(n) for n in range(12)]))
    assert len(midas.recorded) == 24
    assert midas.sizes.count(0) == 1
