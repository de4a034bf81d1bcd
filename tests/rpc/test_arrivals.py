"""Calls without their message, and calls that go on: how much of Midas they can hold."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from midas.rpc.arrivals import Arrivals, NoMessage, NotArrived, Shares


class WithoutMessage:
    """A call whose message comes when the test sets it."""

    def __init__(self) -> None:
        self.message: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def read(self) -> object:
        """As grpc reads it."""
        return await self.message


async def waiting(
    arrivals: Arrivals, count: int
) -> tuple[list[WithoutMessage], list[asyncio.Task[bytes]]]:
    """So many calls that wait."""
    calls: list[Any] = [WithoutMessage() for _ in range(count)]
    tasks = [asyncio.create_task(arrivals.message(each)) for each in calls]
    await asyncio.sleep(0)
    return calls, tasks


async def test_a_message_is_handed_on() -> None:
    """Its sender is no longer counted."""
    arrivals = Arrivals(10)
    (call,), (task,) = await waiting(arrivals, 1)
    assert len(arrivals) == 1
    call.message.set_result(b"x")
    assert await task == b"x"
    assert len(arrivals) == 0


async def test_an_end_without_a_message_is_an_error_of_its_own() -> None:
    """It is the caller's doing, not a lack of room."""
    arrivals = Arrivals(10)
    (call,), (task,) = await waiting(arrivals, 1)
    call.message.set_result(None)
    with pytest.raises(NoMessage):
        await task


async def test_a_message_that_never_comes_is_waited_for_no_longer() -> None:
    """Two sweeps end it, and then nothing is left, no timer either."""
    arrivals = Arrivals(10, sweep_s=0.01)
    _, (task,) = await waiting(arrivals, 1)
    with pytest.raises(NotArrived):
        await task
    assert len(arrivals) == 0
    assert arrivals._timer is None


async def test_the_first_sweep_spares_it() -> None:
    """A process that was held up for long makes one sweep at once, and must not end good calls."""
    arrivals = Arrivals(10, sweep_s=1000)
    (call,), (task,) = await waiting(arrivals, 1)
    arrivals._sweep()
    await asyncio.sleep(0)
    call.message.set_result(b"x")
    assert await task == b"x"


async def test_where_too_many_wait_the_oldest_goes() -> None:
    """A caller who sends headers alone ends his own calls; one who sends messages gets through."""
    arrivals = Arrivals(3)
    old, old_tasks = await waiting(arrivals, 3)
    (good,), (task,) = await waiting(arrivals, 1)
    with pytest.raises(NotArrived):
        await old_tasks[0]
    good.message.set_result(b"x")
    assert await task == b"x"
    assert [each.done() for each in old_tasks] == [True, False, False]
    for each in old[1:]:
        each.message.set_result(b"")
    await asyncio.gather(*old_tasks[1:])


async def test_a_caller_that_goes_is_not_taken_for_one_that_was_ended() -> None:
    """The task of a caller that went away is cancelled by grpc, which needs that error."""
    arrivals = Arrivals(3)
    _, (task,) = await waiting(arrivals, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(arrivals) == 0


async def test_all_can_be_ended() -> None:
    """The end of a drain does so."""
    arrivals = Arrivals(3)
    _, tasks = await waiting(arrivals, 2)
    assert arrivals.end_all() == set(tasks)
    for each in tasks:
        with pytest.raises(NotArrived):
            await each


class Displaced(Exception):
    """Ended for another."""


@asynccontextmanager
async def held(
    shares: Shares, holder: str, connection: str = ""
) -> AsyncIterator[asyncio.Task[None]]:
    """A task that keeps a place until it is displaced."""

    async def keep() -> None:
        with shares.place((holder, connection or holder), Displaced()):
            await asyncio.Event().wait()

    task = asyncio.create_task(keep())
    await asyncio.sleep(0)
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_greedy_one_makes_room() -> None:
    """The oldest call of the caller with most is ended: not the very first, never the newcomer."""
    shares = Shares(4)
    async with (
        held(shares, "modest") as modest,
        held(shares, "greedy") as first,
        held(shares, "greedy") as second,
        held(shares, "greedy") as third,
        held(shares, "newcomer") as newcomer,
    ):
        with pytest.raises(Displaced):
            await first
        assert not any(each.done() for each in (modest, second, third, newcomer))
        assert len(shares) == 4
    assert len(shares) == 0


async def test_the_first_place_on_a_connection_is_its_own() -> None:
    """Even if its caller has most of all: the calls that make room are those beyond one each."""
    shares = Shares(6)
    async with (
        held(shares, "many", "a") as one,
        held(shares, "many", "b") as two,
        held(shares, "many", "c") as three,
        held(shares, "greedy") as first,
        held(shares, "greedy") as second,
        held(shares, "modest") as modest,
    ):
        async with held(shares, "many", "d") as four:
            with pytest.raises(Displaced):
                await first
            places = (one, two, three, four, second, modest)
            assert not any(each.done() for each in places)
        async with held(shares, "many", "a") as fifth, held(shares, "other") as other:
            with pytest.raises(Displaced):
                await one  # of his the oldest, on the only connection with more than its own
            places = (two, three, fifth, second, modest, other)
            assert not any(each.done() for each in places)
    assert len(shares) == 0
    assert (shares._held, shares._shared) == ({}, {})


async def test_more_connections_give_no_caller_more() -> None:
    """All calls of a caller count that he has beyond one on each connection."""
    shares = Shares(9)
    async with AsyncExitStack() as stack:
        modest = [await stack.enter_async_context(held(shares, "modest")) for _ in range(3)]
        greedy = [
            await stack.enter_async_context(held(shares, "greedy", connection))
            for connection in ("a", "a", "b", "b", "c", "c")
        ]
        async with held(shares, "newcomer") as newcomer:
            with pytest.raises(Displaced):
                await greedy[4]
            assert not any(each.done() for each in (*modest, *greedy[:4], greedy[5], newcomer))


async def test_who_takes_all_displaces_himself_alone() -> None:
    """Nine tenths of all places, and still the others keep theirs."""
    shares = Shares(10)
    async with held(shares, "modest") as modest:
        for _ in range(100):
            async with held(shares, "greedy"):
                pass
        greedy = [held(shares, "greedy") for _ in range(50)]
        tasks = [await each.__aenter__() for each in greedy]
        await asyncio.sleep(0)
        assert not modest.done()
        assert sum(not each.done() for each in tasks) == 9
        for each in greedy:
            await each.__aexit__(None, None, None)


async def test_of_one_address_the_busiest_connection_makes_room() -> None:
    """Behind a proxy all callers have its address."""
    shares = Shares(3)
    async with (
        held(shares, "proxy", "modest") as modest,
        held(shares, "proxy", "greedy") as first,
        held(shares, "proxy", "greedy") as second,
        held(shares, "proxy", "newcomer") as newcomer,
    ):
        with pytest.raises(Displaced):
            await first
        assert not any(each.done() for each in (modest, second, newcomer))
