"""Turns within a process: who waits for whom, and what a commit does that others overtake."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from midas import limits
from midas.charge import ChargeState, ObservedBy
from midas.draft import Draft
from midas.errors import StorageUnavailable
from midas.flows.commit import commit
from midas.flows.keyed_locks import KeyedLocks
from midas.flows.payment_calls import Payments
from midas.payment import Change
from midas.ports import Store
from midas.sandbox.ledger import Lookalike
from tests.event_stage import states
from tests.fakes.psp import DirectWire, client_over
from tests.fakes.store import MemoryStore
from tests.faults.scenarios import TERMS
from tests.faults.world import TOTAL_TIMEOUT
from tests.records import changed, intent


async def _others() -> None:
    """Everybody who can go on does."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_each_waits_for_those_before() -> None:
    """One at a time for a key, in the order in which they came; other keys are not concerned."""
    turns = KeyedLocks()
    log: list[tuple[str, object]] = []

    async def take(name: str, key: str = "o1") -> None:
        async with turns.of(key) as waited:
            log.append((name, waited))
            await _others()
            log.append((name, "ends"))

    await asyncio.gather(take("a"), take("b"), take("c"), take("x", "o2"))
    ends = "ends"
    assert [each for each in log if each[0] != "x"] == [
        *(("a", False), ("a", ends)),
        *(("b", True), ("b", ends)),
        *(("c", True), ("c", ends)),
    ]
    assert log.index(("x", False)) < log.index(("a", ends))
    assert turns._waiting == {}


@pytest.mark.parametrize("when", ["while it waits", "as its turn comes"])
async def test_one_that_is_cancelled_keeps_nobody(when: str) -> None:
    """A caller that goes away leaves the line, also if its turn has just been handed to it."""
    turns = KeyedLocks()
    gate = asyncio.Event()
    done: list[str] = []

    async def take(name: str) -> None:
        async with turns.of("o1"):
            await gate.wait()
            done.append(name)
        if name == "a":
            second.cancel()  # its turn has been handed to it, and it has not gone on yet

    first, second, third = (asyncio.create_task(take(name)) for name in "abc")
    await _others()
    if when == "while it waits":
        second.cancel()
        await _others()
    gate.set()
    await asyncio.wait([first, second, third])
    assert (second.cancelled(), done) == (True, ["a", "c"])
    assert turns._waiting == {}


class _Away(MemoryStore):
    """A database that is away: each commit waits for the end of its patience, and fails."""

    def __init__(self) -> None:
        super().__init__()
        self.trying = 0
        self.patience_ends = asyncio.Event()

    async def commit(self, change: Change) -> bool:
        self.trying += 1
        await self.patience_ends.wait()
        raise StorageUnavailable


async def test_a_database_that_is_away_makes_no_line_of_patiences() -> None:
    """Whoever waited while the first one tried in vain tries next, all of them at once."""
    store = _Away()
    ports = _payments(store).ports
    store.disk.orders["o1"] = order = intent("o1").after
    changes = [asyncio.create_task(commit(ports, order, _journal)) for _ in range(50)]
    await _others()
    assert store.trying == 1
    store.patience_ends.set()
    store.patience_ends = asyncio.Event()
    await _others()
    assert store.trying == 50
    store.patience_ends.set()
    raised = await asyncio.gather(*changes, return_exceptions=True)
    assert {type(each) for each in raised} == {StorageUnavailable}
    assert ports.commits._waiting == {}


class _Overtaken(MemoryStore):
    """Another process writes to the order just before each commit of this one, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__(clock=datetime.now(UTC))
        self.times = times

    async def commit(self, change: Change) -> bool:
        if self.times:
            self.times -= 1
            draft = Draft(await self.load(change.order_no))
            _journal(draft)
            assert await super().commit(changed(draft))
        return await super().commit(change)


class _Pauses:
    """A clock that keeps how long it was waited for."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        await asyncio.sleep(0)

    def monotonic(self) -> float:
        return 0


async def test_a_change_that_is_overtaken_steps_out_of_step() -> None:
    """It is decided anew, the first time at once, then after random pauses, a hundred times."""
    store, clock = _Overtaken(100), _Pauses()
    assert await MemoryStore.commit(store, intent("o1"))
    ports = _payments(store, clock).ports
    after = await commit(ports, await store.load("o1"), _journal)
    assert after.version == 102
    assert len(clock.slept_s) == 99
    assert len(set(clock.slept_s)) > 90
    assert max(clock.slept_s) <= limits.CONFLICT_PAUSE_MAX_MS / 1000


async def test_a_charge_is_not_refused_because_others_write_to_its_order() -> None:
    """Nothing stands in its way, so its outcome is not called unknown before it was even sent."""
    store = _Overtaken(0)
    payments = _payments(store)
    made = await payments.charge(TERMS)
    closed = changed(_closed(Draft(made.order)))
    assert await store.commit(closed)
    store.times = 20
    again = await payments.charge(TERMS)
    assert states(again.order) == ["CLOSED", "PENDING"]


def _payments(store: Store, clock: _Pauses | None = None) -> Payments:
    psp = client_over(DirectWire(Lookalike("app_1")), "app_1", TOTAL_TIMEOUT)
    return Payments(store, psp, clock or _Pauses())


def _journal(draft: Draft) -> None:
    """A change that does no harm."""
    charge = draft.base.charges[0]
    draft.put(charge, ("charge_seen", charge.created_at, ObservedBy.QUERY))


def _closed(draft: Draft) -> Draft:
    charge = draft.base.charges[0]
    closed = replace(charge, state=ChargeState.CLOSED)
    draft.put(closed, ("charge_closed", charge.created_at, ObservedBy.QUERY))
    return draft
