"""How long a batch waits for company."""

import asyncio
from datetime import timedelta

from midas.runtime.gathering import MODEST, SIBLINGS, Gathering

FOR_EVER = timedelta(hours=1)
NO_TIME = timedelta(0)


async def held_back(gathering: Gathering, last: int, waiting: int) -> "asyncio.Task[None] | None":
    """The wait, if there is one."""
    task = asyncio.create_task(gathering.wait(last, waiting))
    await asyncio.sleep(0)
    if not task.done():
        return task
    await task
    return None


async def test_few_wait_for_nobody() -> None:
    """Neither the first batch nor one after a small one."""
    gathering = Gathering(FOR_EVER)
    for last in range(SIBLINGS):
        assert await held_back(gathering, last, 0) is None


async def test_twice_as_many_are_hoped_for() -> None:
    """And it goes on at once when they are there."""
    gathering = Gathering(FOR_EVER)
    assert await held_back(gathering, 4, 8) is None
    held = await held_back(gathering, 4, 2)
    assert held is not None
    gathering.came(7)
    await asyncio.sleep(0)
    assert not held.done()
    gathering.came(8)
    await held


async def test_after_a_hope_in_vain_the_size_of_the_last_will_do() -> None:
    """For a while; then it is tried anew."""
    gathering = Gathering(NO_TIME)
    await gathering.wait(4, 4)
    for _ in range(MODEST):
        assert await held_back(gathering, 4, 4) is None
    held = await held_back(gathering, 4, 4)
    assert held is not None
    await held


async def test_company_keeps_the_hope_up() -> None:
    """Not as many as hoped for came, but some: the next batch waits for twice as many again."""
    gathering = Gathering(timedelta(milliseconds=1))
    held = await held_back(gathering, 4, 4)
    assert held is not None
    gathering.came(5)
    await held
    held = await held_back(gathering, 5, 9)
    assert held is not None
    await held


async def test_those_who_do_not_come_are_waited_for_in_vain() -> None:
    """The time ends it, and so does whoever wants to end."""
    await Gathering(timedelta(milliseconds=1)).wait(4, 1)
    gathering = Gathering(FOR_EVER)
    held = await held_back(gathering, 4, 1)
    assert held is not None
    gathering.stop()
    await held
