"""Midas warns where a failover may lose commits (reliability.md section 6)."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from midas.storage import open_store
from midas.storage.faults import NotWritten
from midas.storage.replication import REMIND_S, Replication, ReplicationWatch
from tests.postgres import PostgresServer

RISKS = [
    ((0, 0, "", "on"), ""),
    ((0, 0, "node2", "on"), ""),
    ((1, 0, "", "on"), "no_synchronous_replica"),
    ((0, 1, "", "on"), "no_synchronous_replica"),
    ((2, 2, "  ", "on"), "no_synchronous_replica"),
    ((2, 2, '"node2"', "on"), ""),
    ((2, 2, '"node2"', "remote_write"), ""),
    ((2, 2, '"node2"', "remote_apply"), ""),
    ((2, 2, '"node2"', "local"), "synchronous_commit_local"),
    ((0, 0, "", "local"), ""),
    ((0, 0, "", "off"), "synchronous_commit_off"),
    ((2, 2, '"node2"', "off"), "synchronous_commit_off"),
]


@pytest.mark.parametrize(("shown", "risk"), RISKS)
def test_what_may_lose_commits(shown: tuple[int, int, str, str], risk: str) -> None:
    """Replicas of which none has to confirm a commit, and commits that wait for nothing."""
    assert Replication(*shown).risk == risk


async def test_the_warning_comes_once_and_again_while_the_risk_lasts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the start, when it changes, each hour, when it is over; a failed look logs nothing."""
    caplog.set_level(logging.INFO)
    bad, good = (1, 0, "", "on"), (1, 0, "node2", "on")
    clock = 0.0
    now: Any = bad

    async def fetch(_: str) -> Sequence[Any]:
        if isinstance(now, Exception):
            raise now
        return [now]

    watch = ReplicationWatch(fetch, lambda: clock)
    logged = []
    for clock, now in (  # noqa: B007 - both are read by what the watch was given
        (1.0, bad),
        (2.0, bad),
        (REMIND_S, NotWritten("away")),
        (REMIND_S + 1, bad),
        (REMIND_S + 2, bad),
        (REMIND_S + 3, good),
        (REMIND_S + 4, good),
        (REMIND_S + 5, (1, 0, "node2", "local")),
    ):
        await watch.look()
        logged.append([each.message for each in caplog.records])
        caplog.clear()
    warned, over = ["failover_may_lose_commits"], ["failover_loses_no_commits"]
    assert logged == [warned, [], [], warned, [], over, [], warned]


async def test_an_ordinary_role_can_read_it(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A slot is enough to know of a replica, also while it is away; no privilege is needed."""
    postgres.sql("CREATE ROLE ordinary LOGIN")
    postgres.sql("SELECT pg_create_physical_replication_slot('replica')")
    name = postgres_url.rpartition("/")[2]
    postgres.sql("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO ordinary", name)
    try:
        async with await open_store(postgres_url.replace("postgres@", "ordinary@")) as store:
            assert len(store.background) == 1
            watch = ReplicationWatch(store._database.fetch)
            await watch.look()
            (line,) = caplog.records
            assert (line.message, vars(line)["reason"]) == (
                "failover_may_lose_commits",
                "no_synchronous_replica",
            )
            caplog.clear()
            postgres.sql("SELECT pg_drop_replication_slot('replica')")
            await watch.look()
            assert caplog.records == []
    finally:
        postgres.sql("DROP OWNED BY ordinary", name)
        postgres.sql("DROP ROLE ordinary")


async def test_sqlite_has_nothing_to_watch(sqlite_url: str) -> None:
    """There is one file."""
    async with await open_store(sqlite_url) as store:
        assert store.background == ()
