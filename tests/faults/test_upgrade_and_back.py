"""T4: the schema is changed under a Midas that serves, and the version before comes back."""

from pathlib import Path
from typing import Any

import pytest

from midas.storage import migrate, tables
from midas.storage.schema import SCHEMA
from midas.v1 import charge_pb2, event_service_pb2, refund_pb2
from midas.v1 import payment_service_pb2 as pb
from midas.v1.event_service_pb2_grpc import EventServiceStub
from tests.faults.books import books_agree
from tests.faults.logged import LoggedProcess
from tests.faults.processes import NOT_SERVING, SERVING, Harness, Midas, eventually
from tests.storage.faulty import database_at
from tests.storage.newer import Newer, Older
from tests.storage.test_schema import OLDEST

COLUMN_EVERYWHERE = "\n".join(
    f'op.add_column("{table}", sa.Column("of_later", sa.Text(), nullable=True))'
    for table in tables.metadata.tables
)
INDEX = 'build_index("charges_of_later", "charges", ["subject"], where="amount > 100")'


@pytest.fixture
async def url(blank_postgres_url: str) -> str:
    """A database as this Midas makes it."""
    assert await migrate(blank_postgres_url) == ("", SCHEMA)
    return blank_postgres_url


async def test_old_code_goes_on_after_an_additive_migration_and_starts_again(
    harness: Harness, url: str, tmp_path: Path
) -> None:
    """Another column in every table and another index: nothing ends, and the way back is open."""
    old = await harness.serve(url, name="old")
    await everything(harness, old, "before")
    newer = Newer(tmp_path)
    newer.add(f"{INDEX}\n{COLUMN_EVERYWHERE}", oldest=SCHEMA)
    await migrated(harness, newer, url)
    await looked_at_the_newer_schema(url)
    await old.health(SERVING)
    await everything(harness, old, "after")
    assert await old.stop() == 0
    assert old.lines("ready")
    assert not old.lines("not_ready")
    again = await harness.serve(url, name="old again")
    await again.logged("ready")
    await everything(harness, again, "back")
    await books_agree(url, ["before", "after", "back"], harness.sandbox.lookalike)


async def test_code_of_the_oldest_schema_goes_on_after_the_newest_migration(
    harness: Harness, blank_postgres_url: str, tmp_path: Path
) -> None:
    """It works beside this Midas, is stopped, and starts again: the way back is open (D10)."""
    url, older = blank_postgres_url, Older(tmp_path, OLDEST)
    await migrated(harness, older, url)
    old = await harness.serve(url, *older.program("serve"), name="old")
    await everything(harness, old, "before")
    assert await migrate(url) == (OLDEST, SCHEMA)
    await looked_at_the_newer_schema(url)
    await old.health(SERVING)
    new = await harness.serve(url, name="new")
    await everything(harness, old, "after")
    await everything(harness, new, "beside")
    assert await old.stop() == 0
    assert not old.lines("not_ready")
    assert await new.stop() == 0
    again = await harness.serve(url, *older.program("serve"), name="old again")
    await again.logged("ready")
    await everything(harness, again, "back")
    await books_agree(url, ["before", "after", "beside", "back"], harness.sandbox.lookalike)


async def test_old_code_ends_where_it_may_not_go_on_and_logs_why(
    harness: Harness, url: str, tmp_path: Path
) -> None:
    """NOT_SERVING with both schemas in the log; a start is refused with what to do; and that helps.

    Nothing but `oldest` forbids the old code to go on.
    """
    old = await harness.serve(url, name="old")
    newer = Newer(tmp_path)
    newer.add(COLUMN_EVERYWHERE, oldest=SCHEMA)
    found = newer.add("pass")
    await migrated(harness, newer, url)
    line = await old.logged("not_ready")
    wanted = {"reason": "SCHEMA_REFUSED", "schema": found, "schema_known": SCHEMA}
    assert line.items() >= (wanted | {"schema_oldest": found, "level": "error"}).items()
    await old.health(NOT_SERVING)
    refused = await harness.launch(url, name="refused")
    assert await refused.ended() == 2
    printed = [each for each in refused.log if each.startswith("midas: ")]
    assert len(printed) == 1, refused.log
    assert f"it knows schema {SCHEMA}, and schema {found} is for those" in printed[0]
    assert "deploy the newer version" in printed[0]
    new = await harness.serve(url, *newer.program("serve"), name="new")
    assert (await new.charge("new")).charge.state == charge_pb2.CHARGE_STATE_PENDING


async def everything(harness: Harness, midas: Midas, order_no: str) -> None:
    """What a Midas does for an order, so that every statement is executed."""
    await harness.paid(midas, order_no)
    shown = await midas.query(order_no, refresh=True)
    assert shown.charges[0].state == charge_pb2.CHARGE_STATE_SUCCEEDED
    refund = (await midas.refund(f"r-{order_no}", order_no)).refund
    assert refund.state == refund_pb2.REFUND_STATE_SUCCEEDED
    charges = await midas.stub.ListCharges(pb.ListChargesRequest())
    assert order_no in [each.order_no for each in charges.charges]
    refunds = await midas.stub.ListRefunds(pb.ListRefundsRequest())
    assert f"r-{order_no}" in [each.refund_no for each in refunds.refunds]
    polled = await midas.stub.PollPending(pb.PollPendingRequest())
    assert (polled.examined, polled.more_due) == (0, False)
    events = EventServiceStub(midas.channel)
    body = f"of {order_no}".encode()
    for outcome in (
        event_service_pb2.EVENT_OUTCOME_IGNORED,
        event_service_pb2.EVENT_OUTCOME_DUPLICATE,
    ):
        request = event_service_pb2.RecordEventRequest(body=body, unreadable="NO_JSON")
        assert (await events.RecordEvent(request)).outcome == outcome
    assert await delivered(events) == [(order_no, 1), (order_no, 2)]


async def delivered(events: Any) -> list[tuple[str, int]]:
    """All that is due, acknowledged."""
    acknowledged: list[tuple[str, int]] = []
    while leases := (
        await events.LeaseNotifications(event_service_pb2.LeaseNotificationsRequest())
    ).notifications:
        settled = event_service_pb2.SettleNotificationsRequest()
        for each in leases:
            acknowledged.append((each.notification.order_no, each.notification.sequence))
            settled.settlements.add(
                order_no=each.notification.order_no,
                lease_token=each.lease_token,
                sequence=each.notification.sequence,
                outcome=event_service_pb2.DELIVERY_OUTCOME_DELIVERED,
            )
        assert all((await events.SettleNotifications(settled)).applied)
    return acknowledged


async def migrated(harness: Harness, newer: Newer, url: str) -> None:
    """`midas migrate` of the newer version, as a process."""
    environment = harness.settings(url)
    process = await harness.spawn(LoggedProcess, newer.program("migrate"), environment, "migrate")
    assert await process.ended() == 0, process.log


async def looked_at_the_newer_schema(url: str) -> None:
    """Wait until readiness has looked at it, twice: then its first result has become known."""
    database = database_at(url)
    since = (await database.fetch("SELECT clock_timestamp()"))[0][0]
    for _ in range(2):
        rows = await eventually(
            lambda after=since: database.fetch(_LOOKS, (after,)),  # type: ignore[misc]
            lambda rows: rows[0][0],
        )
        since = rows[0][0]
    await database.close()


_LOOKS = (
    "SELECT max(query_start) FROM pg_stat_activity WHERE datname = current_database()"
    " AND query LIKE '%FROM schema_compatibility%' AND pid <> pg_backend_pid()"
    " AND query_start > $1"
)
