"""SQLite's clock does not step with the machine's (R6)."""

import itertools
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from midas.charge import ChargeState
from midas.lease import DeliveryOutcome, Settlement
from midas.ports import RowKind
from midas.refund import RefundState
from midas.schedule import POLL_LONGEST
from midas.storage import open_store, steady
from midas.storage.steady import SLEW, SteadyClock
from midas.storage.store import SqlStore
from tests.records import intent, paid, refund_intent

HOUR = 3600.0
DAY = 24 * HOUR
LOOK = POLL_LONGEST
"""The longest time between two looks, which no start makes shorter."""


class Machine:
    """A machine whose clock can be set."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.up = 50.0

    def pass_time(self, seconds: float) -> None:
        """All clocks go on."""
        self.wall += seconds
        self.up += seconds

    def clock(self) -> SteadyClock:
        """The clock of a process."""
        return SteadyClock(lambda: self.wall, lambda: self.up)


def seconds(clock: SteadyClock) -> float:
    """Its time in seconds."""
    return clock.now().timestamp()


def test_it_goes_with_the_machines_clock() -> None:
    """While nobody sets that, there is no difference."""
    machine = Machine()
    clock = machine.clock()
    for _ in range(100):
        machine.pass_time(0.7)
        assert seconds(clock) == pytest.approx(machine.wall, abs=1e-5)


@pytest.mark.parametrize("step", [HOUR, -HOUR, 2 * DAY, -2 * DAY])
def test_it_does_not_step(step: float) -> None:
    """A step of the machine's clock hastens nothing by more than a twentieth, and repeats none."""
    machine = Machine()
    clock = machine.clock()
    machine.wall += step
    begun = seconds(clock)
    assert begun == 1_000_000.0
    shown = [begun]
    for _ in range(90):
        machine.pass_time(10)
        shown.append(seconds(clock))
    gone = [later - earlier for earlier, later in itertools.pairwise(shown)]
    assert all(10 * (1 - SLEW) - 1e-4 <= each <= 10 * (1 + SLEW) + 1e-4 for each in gone)
    assert (shown[-1] - begun > 900) is (step > 0)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_it_closes_the_gap(step: float) -> None:
    """A clock that was wrong when the process began, and was set right, is followed in time."""
    machine = Machine()
    clock = machine.clock()
    machine.wall += step
    for _ in range(25):
        machine.pass_time(HOUR)
        clock.now()
    assert seconds(clock) == pytest.approx(machine.wall, abs=1e-3)


def test_a_step_is_worth_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, for the person who runs the machine."""
    caplog.set_level(logging.WARNING)
    machine = Machine()
    clock = machine.clock()
    machine.wall += HOUR
    clock.now()
    clock.now()
    (line,) = caplog.records
    assert (line.message, line.__dict__["seconds"]) == ("clock_stepped", HOUR)


async def pay(store: SqlStore) -> None:
    """An order with a notification, and with a charge that nobody knows the outcome of."""
    due_at = store.now()
    assert await store.commit(intent("o1"))
    assert await store.commit(paid(await store.load("o1")))
    assert await store.commit(intent("o1", await store.load("o1"), due_at=due_at))


@pytest.mark.parametrize("step", [2 * DAY, -2 * DAY])
async def test_the_store_does_not_step(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """Neither what is written, nor what its SQL compares, steps with the machine (R6)."""
    machine = Machine()
    monkeypatch.setattr(steady, "CLOCK", machine.clock())
    async with await open_store(f"sqlite:///{sqlite_path}") as store:
        assert store.now() == datetime.fromtimestamp(machine.wall, UTC)
        await pay(store)
        hold = timedelta(seconds=30)
        (lease,) = await store.lease_notifications(9, hold)
        machine.wall += step
        assert await store.lease_notifications(9, hold) == []
        machine.pass_time(33)
        (again,) = await store.lease_notifications(9, hold)
        assert again.notification == lease.notification
        retry = Settlement(again.token, "o1", 1, DeliveryOutcome.RETRY)
        assert await store.settle_notifications([retry]) == [True]
        machine.pass_time(3)
        assert len(await store.lease_notifications(9, hold)) == 1


async def test_leases_of_a_clock_that_was_ahead(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set back while Midas is down: what was held or planned comes up all the same."""
    machine = Machine()
    url = f"sqlite:///{sqlite_path}"
    monkeypatch.setattr(steady, "CLOCK", machine.clock())
    hold = timedelta(seconds=30)
    async with await open_store(url) as store:
        await pay(store)
        assert await store.claim_due_orders(9, hold) == ["o1"]
        assert len(await store.lease_notifications(9, hold)) == 1
    machine.wall -= 2 * DAY
    monkeypatch.setattr(steady, "CLOCK", machine.clock())
    async with await open_store(url) as store:
        assert await store.claim_due_orders(9, hold) == ["o1"]
        assert len(await store.lease_notifications(9, hold)) == 1
        assert await store.claim_due_orders(9, hold) == []


async def test_looks_of_a_clock_that_was_ahead(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for rows in any state that PollPending has claimed, and for what is planned."""
    machine = Machine()
    url = f"sqlite:///{sqlite_path}"
    monkeypatch.setattr(steady, "CLOCK", machine.clock())
    kinds = tuple(RowKind)
    async with await open_store(url) as store:
        due_at = store.now()
        pending = intent("o1", out_trade_no="c1", state=ChargeState.PENDING, due_at=due_at)
        assert await store.commit(pending)
        fields = {"state": RefundState.PENDING, "due_at": due_at + 2 * LOOK}
        assert await store.commit(refund_intent(pending.after, refund_no="r1", **fields))
        (claimed,) = await store.claim_due_rows(kinds, 9, LOOK)
        assert (claimed.key, claimed.due_at) == ("c1", due_at)
    machine.wall -= 2 * DAY
    monkeypatch.setattr(steady, "CLOCK", machine.clock())
    async with await open_store(url) as store:
        looked_at = {each.key for each in await store.claim_due_rows(kinds, 9, LOOK)}
        assert looked_at == {"c1", "r1"}
        assert await store.claim_due_rows(kinds, 9, LOOK) == []
    machine.pass_time(1)
    async with await open_store(url) as store:
        assert await store.claim_due_rows(kinds, 9, LOOK) == []
