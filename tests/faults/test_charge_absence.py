"""A charge that Ping++ does not show yet may still be made: directed stories for T2's machine."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from midas.charge import ChargeState, ChargeTerms
from tests.faults.machine_checks import check_settled
from tests.faults.machine_choices import OFFERS
from tests.faults.machine_ports import Fault, Plan
from tests.faults.machine_stage import SqliteStage
from tests.faults.machine_world import World

TERMS = replace(OFFERS["qr"], order_no="A")
BAR_CODE = replace(OFFERS["bar code"], order_no="A")


@pytest.fixture
async def world(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[World]:
    """One Midas on a SQLite file."""
    world = await World.open(SqliteStage(sqlite_template, tmp_path))
    yield world
    await world.close()


async def charge(world: World, *faults: Fault, terms: ChargeTerms = TERMS) -> None:
    """The caller asks for a charge, which goes wrong."""
    await world.ask(lambda payments: payments.charge(terms), plan=Plan(faults))


async def resolve(world: World, after_s: float, *faults: Fault) -> None:
    """After a while Midas looks for what it does not know."""
    world.clock.pass_time(after_s)
    await world.ask(lambda payments: payments.resolve_due(), plan=Plan(faults))


async def finish(world: World) -> None:
    """All is healed; the books must agree."""
    await world.settle()
    await world.refresh()
    await check_settled(world)


async def test_found_although_made_by_a_later_post(world: World) -> None:
    """A charge that only a later post made is looked for where it is, not where the first was."""
    await charge(world, Fault("POST", "lost_request"))
    await resolve(world, 400, Fault("POST", "lost_response"))
    await resolve(world, 6800)
    await resolve(world, 60)
    (order, _) = await world.orders()
    assert order.charges[0].state is ChargeState.PENDING
    await finish(world)


async def test_a_refused_repetition_proves_nothing_about_a_late_request(world: World) -> None:
    """The first request is still on its way when the second one is turned down."""
    await charge(world, Fault("POST", "late_request"))
    await resolve(world, 40, Fault("POST", "turned_down"))
    world.late_requests_arrive()
    await finish(world)


async def test_a_refused_repetition_and_a_list_that_lags(world: World) -> None:
    """The charge is there, its repetition is turned down, and the list does not show it yet."""
    await charge(world, Fault("POST", "lost_response"))
    await resolve(world, 40, Fault("POST", "turned_down"), Fault("GET", "lagging"))
    await finish(world)


async def test_a_later_post_may_be_late_too(world: World) -> None:
    """Absence counts from the last post that was not answered, not from the first one."""
    await charge(world, Fault("POST", "lost_request"))
    await resolve(world, 7000, Fault("POST", "late_request"))
    await resolve(world, 300)
    await resolve(world, 60)
    world.late_requests_arrive()
    await finish(world)


async def test_money_that_a_late_request_took(world: World) -> None:
    """A bar code is charged minutes after Midas gave the request up: the payment is found."""
    await charge(world, Fault("POST", "late_request"), terms=BAR_CODE)
    await resolve(world, 400)
    world.late_requests_arrive()
    await finish(world)
    (order, _) = await world.orders()
    assert order.charges[0].state is ChargeState.SUCCEEDED
