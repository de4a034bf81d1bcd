"""Changes that come together share a commit, and none waits for others that do not come."""

import asyncio
from datetime import timedelta

from midas.storage.commits import Commits
from tests.records import intent
from tests.storage.faulty import Scripted, database_at

FOR_EVER = timedelta(hours=1)
AT_ONCE = timedelta(0)


def _commits(url: str, delay: timedelta) -> tuple[Commits, Scripted]:
    database = Scripted(database_at(url))
    return Commits(database, delay=delay), database


def _start(commits: Commits, *orders: str) -> list["asyncio.Task[bool]"]:
    return [asyncio.create_task(commits.commit(intent(each))) for each in orders]


async def test_changes_share_commits(database_url: str) -> None:
    """What comes while a commit is under way is one commit, too."""
    commits, database = _commits(database_url, AT_ONCE)
    tasks = _start(commits, "first")
    await database.writing.wait()
    tasks += _start(commits, *(f"o{n}" for n in range(50)))
    assert await asyncio.gather(*tasks) == [True] * 51
    assert database.writes == 2
    await commits.close()
    await database.close()


async def test_a_lone_change_waits_for_nobody(database_url: str) -> None:
    """Neither the first one nor those that follow one by one."""
    commits, database = _commits(database_url, FOR_EVER)
    for n in range(3):
        assert await asyncio.gather(*_start(commits, f"a{n}", f"b{n}", f"c{n}")) == [True] * 3
    assert database.writes == 3
    await commits.close()
    await database.close()


async def test_after_several_others_are_waited_for(database_url: str) -> None:
    """They share the next commit, and it goes on at once when enough are there."""
    commits, database = _commits(database_url, FOR_EVER)
    assert await asyncio.gather(*_start(commits, *"abcd")) == [True] * 4
    early = _start(commits, *"efghijk")
    for _ in range(20):
        await asyncio.sleep(0)  # the writer would have taken them by now
    assert database.writes == 1
    assert await asyncio.gather(*early, *_start(commits, "l")) == [True] * 8
    assert database.writes == 2
    await commits.close()
    await database.close()


async def test_those_who_do_not_come_are_waited_for_in_vain(database_url: str) -> None:
    """For the delay, and no longer."""
    commits, database = _commits(database_url, timedelta(milliseconds=1))
    assert await asyncio.gather(*_start(commits, *"abcd")) == [True] * 4
    assert await asyncio.gather(*_start(commits, "e")) == [True]
    await commits.close()
    await database.close()


async def test_closing_waits_for_nobody(database_url: str) -> None:
    """What was committed is written, though fewer are there than the last time."""
    commits, database = _commits(database_url, FOR_EVER)
    assert await asyncio.gather(*_start(commits, *"abcd")) == [True] * 4
    last = _start(commits, "e")
    await asyncio.sleep(0)
    await commits.close()
    assert await asyncio.gather(*last) == [True]
    await database.close()
