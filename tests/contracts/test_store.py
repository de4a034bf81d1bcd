"""What every store promises: SQLite, PostgreSQL and the one in memory."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from midas.charge import ChargeState
from midas.draft import Draft
from midas.payment import JournalEntry, Order
from midas.ports import ClaimedRow, DueTimes, KeyKind, KeyTaken, Listing, RowKind, Store
from midas.refund import RefundState
from midas.storage import open_store
from tests.fakes.store import MemoryStore
from tests.records import (
    NOON,
    a_charge,
    a_refund,
    changed,
    intent,
    paid,
    refund_intent,
    refunded,
    touched,
)

HOLD = timedelta(seconds=60)
BOTH = tuple(RowKind)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    if request.param == "memory":
        yield MemoryStore(clock=datetime.now(UTC))
        return
    async with await open_store(request.getfixturevalue(f"{request.param}_url")) as opened:
        yield opened


async def put(store: Store, order_no: str = "o1", **fields: Any) -> Order:
    """An order with one charge, on disk."""
    assert await store.commit(intent(order_no, **fields))
    return await store.load(order_no)


async def test_an_unknown_order_is_empty(store: Store) -> None:
    """Loading what is not there gives version 0 and nothing else; finding it gives None."""
    assert await store.load("o1") == Order("o1")
    for kind in KeyKind:
        assert await store.find(kind, "nothing") is None


async def test_what_is_committed_comes_back_as_it_was(store: Store) -> None:
    """Every field of an order survives: moments to the microsecond, text in any script, JSON."""
    moment = NOON.astimezone(timezone(timedelta(hours=8)))
    extra = {"中文": ["\u0000", "\ud800", "😀", {"deep": [1, 2.5, None, True]}], "z": 1, "a": 2}
    charge = a_charge(
        "订单1",
        subject="图书 ✓ '; DROP TABLE charges; --",
        extra=extra,
        metadata={"k" * 40: "v" * 900},
        livemode=True,
        amount=100_000_000_000,
        asked_expires_at=moment,
        due_at=NOON + timedelta(microseconds=1),
        looks=3,
        absent_since=NOON,
        answer='{"credential": {"alipay": {"orderInfo": "' + "x" * 200_000 + '"}}}',
    )
    draft = Draft(Order("订单1"))
    draft.add_charge(charge, "CREATE")
    assert await store.commit(changed(draft))
    assert await store.load("订单1") == draft.order
    assert (await store.load("订单1")).charges[0].created_at.tzinfo is not None
    assert list((await store.load("订单1")).charges[0].extra) == list(extra)


async def test_a_life_of_an_order_round_trips(store: Store) -> None:
    """Payment and refund with their journal and notifications come back exactly as decided."""
    order = await put(store)
    changes = [paid(order)]
    assert await store.commit(changes[-1])
    changes.append(refund_intent(await store.load("o1"), metadata={"为": "什么"}))
    assert await store.commit(changes[-1])
    changes.append(refunded(await store.load("o1")))
    assert await store.commit(changes[-1])
    final = await store.load("o1")
    assert (final.version, final.last_sequence) == (4, 2)
    assert final.charges == changes[0].changed_charges
    assert final.refunds == changes[2].changed_refunds
    notifications = await store.notifications("o1")
    assert notifications == [*changes[0].notifications, *changes[2].notifications]
    journal = await store.journal("o1")
    assert journal[1:] == [entry for change in changes for entry in change.journal]
    assert [type(each) for each in journal] == [JournalEntry] * 4
    assert await store.journal("o2") == []
    assert await store.notifications("o2") == []


async def test_every_key_finds_its_order(store: Store) -> None:
    """An order is found whole by each of the five kinds of key."""
    await put(store, "o1")
    await put(store, "o2")
    for order_no in ("o1", "o2"):
        assert await store.commit(paid(await store.load(order_no)))
        assert await store.commit(refund_intent(await store.load(order_no)))
        assert await store.commit(refunded(await store.load(order_no)))
    order = await store.load("o1")
    keys = {
        KeyKind.ORDER_NO: "o1",
        KeyKind.OUT_TRADE_NO: order.charges[0].out_trade_no,
        KeyKind.CHARGE_ID: order.charges[0].charge_id,
        KeyKind.REFUND_NO: order.refunds[0].refund_no,
        KeyKind.REFUND_ID: order.refunds[0].refund_id,
    }
    for kind, key in keys.items():
        assert key is not None
        assert await store.find(kind, key) == order


@pytest.mark.parametrize("key", ["a\0b", "a\ud800"], ids=["NUL", "half a pair"])
async def test_a_key_that_no_database_takes_is_nobodys(store: Store, key: str) -> None:
    """It is not found, at once, and harms none of those that are read together with it."""
    order = await put(store)
    found = asyncio.gather(store.find(KeyKind.ORDER_NO, key), store.load("o1"), store.load(key))
    assert tuple(await found) == (None, order, Order(key))


async def test_a_stale_change_writes_nothing(store: Store) -> None:
    """A change based on an older version is answered False and leaves no trace."""
    order = await put(store)
    assert await store.commit(touched(order, operator_reason="first"))
    assert not await store.commit(touched(order, operator_reason="second"))
    assert not await store.commit(intent("o1"))
    assert not await store.commit(replace(touched(order), order_no="missing"))
    now = await store.load("o1")
    assert (now.version, now.charges[0].operator_reason) == (2, "first")
    assert len(await store.journal("o1")) == 2
    assert await store.load("missing") == Order("missing")


async def test_a_version_of_another_commit_is_stale(store: Store) -> None:
    """After a failover that lost a commit, another one may have made the same version (D3)."""
    order = await put(store)
    lost = replace(order, last_change="f" * 32)
    assert not await store.commit(paid(lost))
    assert await store.load("o1") == order
    assert (await store.load("o1")).last_change == order.last_change
    change = paid(order)
    assert await store.commit(change)
    assert (await store.load("o1")).last_change == change.change_id
    assert await store.commit(refund_intent(change.after))


async def test_a_second_open_charge_is_refused(store: Store) -> None:
    """An order has one open charge at most; once the old one is superseded another one may open."""
    order = await put(store)
    assert not await store.commit(intent("o1", order))
    assert await store.load("o1") == order
    draft = Draft(order)
    draft.put(replace(order.charges[0], superseded=True), ("charge_superseded", NOON, "T"))
    draft.add_charge(a_charge("o1", created_at=NOON + HOLD), "CREATE")
    assert await store.commit(changed(draft))
    after = await store.load("o1")
    assert after == draft.order
    assert after.open_charge == after.charges[1]


async def test_rows_come_oldest_first(store: Store) -> None:
    """Charges and refunds of an order are sorted by their creation, whenever they were stored."""
    order = await put(store, created_at=NOON)
    draft = Draft(order)
    for hours in (3, -2):
        at = NOON + timedelta(hours=hours)
        draft.add_charge(a_charge("o1", created_at=at, superseded=True), "T")
        draft.add_refund(a_refund(order.charges[0], created_at=at), "T")
    assert await store.commit(changed(draft))
    after = await store.load("o1")
    assert [each.created_at.hour for each in after.charges] == [10, 12, 15]
    assert [each.created_at.hour for each in after.refunds] == [10, 15]
    assert after.refunds_of(order.charges[0].out_trade_no) == after.refunds


@pytest.mark.parametrize("column", ["out_trade_no", "charge_id", "refund_no", "refund_id"])
async def test_a_key_of_another_order_is_refused_by_name(store: Store, column: str) -> None:
    """A unique key of another order raises KeyTaken with its name, and nothing is written."""
    mine = await put(store, "mine", charge_id="ch_mine", out_trade_no="tradeMine")
    other = await put(store, "other")
    assert await store.commit(refund_intent(mine, refund_no="r_mine", refund_id="re_mine"))
    change = {
        "out_trade_no": intent("new", out_trade_no="tradeMine"),
        "charge_id": touched(other, charge_id="ch_mine"),
        "refund_no": refund_intent(other, refund_no="r_mine"),
        "refund_id": refund_intent(other, refund_id="re_mine"),
    }[column]
    before = [await store.load(name) for name in ("mine", "other", "new")]
    with pytest.raises(KeyTaken) as raised:
        await store.commit(change)
    assert raised.value.column == column
    assert [await store.load(name) for name in ("mine", "other", "new")] == before
    assert await store.journal("new") == []


@pytest.mark.parametrize("column", ["charge_id", "refund_id"])
async def test_an_id_of_pings_stands_in_one_row_of_an_order(store: Store, column: str) -> None:
    """Also within an order KeyTaken is raised if another row has it, and nothing is written."""
    order = await put(store, "o1", charge_id="ch_1")
    assert await store.commit(refund_intent(order, refund_no="r1", refund_id="re_1"))
    order = await store.load("o1")
    change = {
        "charge_id": intent("o1", order, charge_id="ch_1", superseded=True),
        "refund_id": refund_intent(order, refund_no="r2", refund_id="re_1"),
    }[column]
    with pytest.raises(KeyTaken) as raised:
        await store.commit(change)
    assert raised.value.column == column
    assert await store.load("o1") == order


async def test_neighbours_in_a_batch_do_not_harm_each_other(store: Store) -> None:
    """Of many commits at once, those that cannot be are refused one by one, the others stand."""
    await put(store, "stale")
    open_order = await put(store, "open")
    await put(store, "owner", out_trade_no="taken", charge_id="ch_taken")
    changes = [intent(f"good{n}") for n in range(40)]
    changes[7] = intent("stale")
    changes[11] = intent("thief1", out_trade_no="taken")
    changes[23] = intent("open", open_order)
    changes[31] = intent("thief2", charge_id="ch_taken")
    answers = await asyncio.gather(*map(store.commit, changes), return_exceptions=True)
    for n, answer in enumerate(answers):
        if n in (11, 31):
            assert isinstance(answer, KeyTaken)
        else:
            assert answer is (n not in (7, 23))
            assert (await store.load(changes[n].order_no)).version == 1
    assert (await store.load("thief1")).version == 0


async def test_two_of_a_batch_with_one_new_key(store: Store) -> None:
    """Of two orders that bring the same new key at once, one gets it; the other gets KeyTaken."""
    answers = await asyncio.gather(
        store.commit(intent("o1", charge_id="ch_1")),
        store.commit(intent("o2", charge_id="ch_1")),
        return_exceptions=True,
    )
    assert sorted(map(type, answers), key=str) == sorted([bool, KeyTaken], key=str)


async def test_of_many_writers_one_wins_each_version(store: Store) -> None:
    """Writers that load, decide and commit at once lose no update and leave no gap."""
    await put(store, metadata={})

    async def add_ten() -> None:
        done = 0
        while done < 10:
            order = await store.load("o1")
            looks = order.charges[0].looks + 1
            change = touched(order, looks=looks)
            notice = paid(order).notifications or ()
            if order.charges[0].state is ChargeState.SUBMITTING:
                change = replace(
                    change, notifications=notice, last_sequence=order.last_sequence + len(notice)
                )
            done += await store.commit(change)

    await asyncio.gather(*(add_ten() for _ in range(8)))
    order = await store.load("o1")
    assert (order.version, order.charges[0].looks) == (81, 80)
    sequences = [each.sequence for each in await store.notifications("o1")]
    assert sequences == list(range(1, 81))
    assert len(await store.journal("o1")) == 81


async def test_of_many_first_charges_one_opens(store: Store) -> None:
    """Callers that all want the first charge of one order get one charge between them."""
    answers = await asyncio.gather(*(store.commit(intent("o1")) for _ in range(30)))
    assert sum(answers) == 1
    assert len((await store.load("o1")).charges) == 1


async def test_a_read_sees_every_commit_that_was_answered(store: Store) -> None:
    """What was answered True before a read began is in what it returns."""

    async def writer(order_no: str) -> None:
        for version in range(1, 6):
            order = await store.load(order_no)
            assert order.version == version - 1
            change = touched(order, looks=version) if order.charges else intent(order_no)
            assert await store.commit(change)
            found = await store.find(KeyKind.ORDER_NO, order_no)
            assert found is not None
            assert found.version == version

    await asyncio.gather(*(writer(f"o{n}") for n in range(20)))


async def test_due_orders_are_claimed_earliest_first_and_held(store: Store) -> None:
    """A claim takes what is due by its time, at most so many, and not again for a while."""
    now = store.now()
    for n in (3, 1, 2):
        await put(store, f"o{n}", due_at=now - timedelta(minutes=10 - n))
    await put(store, "later", due_at=now + timedelta(hours=1))
    await put(store, "never")
    assert await store.claim_due_orders(2, HOLD) == ["o1", "o2"]
    assert await store.claim_due_orders(2, HOLD) == ["o3"]
    assert await store.claim_due_orders(2, HOLD) == []
    held = await store.load("o1")
    assert held.version == 1
    due_at = held.charges[0].due_at
    assert due_at is not None
    assert abs(due_at - (now + HOLD)) < timedelta(seconds=30)


async def test_a_hold_that_is_over_is_claimed_again(store: Store) -> None:
    """An order whose claimant did nothing comes up again."""
    await put(store, due_at=store.now() - HOLD)
    assert await store.claim_due_orders(5, timedelta(seconds=-1)) == ["o1"]
    assert await store.claim_due_orders(5, HOLD) == ["o1"]
    assert await store.claim_due_orders(5, HOLD) == []


async def test_only_what_is_unknown_or_to_be_closed_is_claimed(store: Store) -> None:
    """SUBMITTING rows and superseded PENDING charges are claimed; each order once, all its rows."""
    due = store.now() - HOLD
    for state in ChargeState:
        for superseded in (False, True):
            order_no = f"{state}-{superseded}"
            await put(store, order_no, state=state, superseded=superseded, due_at=due)
    for n, refund_state in enumerate(RefundState):
        order = await put(store, f"refund-{refund_state}", state=ChargeState.SUCCEEDED)
        draft = Draft(order)
        for each in range(2):
            refund = a_refund(
                order.charges[0], state=refund_state, due_at=due, refund_no=f"r{n}{each}"
            )
            draft.add_refund(refund, "T")
        assert await store.commit(changed(draft))
    claimed = await store.claim_due_orders(100, HOLD)
    assert sorted(claimed) == [
        "PENDING-True",
        "SUBMITTING-False",
        "SUBMITTING-True",
        "refund-SUBMITTING",
    ]
    assert await store.claim_due_orders(100, HOLD) == []


async def test_claims_at_once_share_the_work(store: Store) -> None:
    """No order is given to two claimants."""
    due = store.now() - HOLD
    await asyncio.gather(*(put(store, f"o{n}", due_at=due) for n in range(40)))
    claims = await asyncio.gather(*(store.claim_due_orders(10, HOLD) for _ in range(8)))
    claimed = [order_no for each in claims for order_no in each]
    assert len(claimed) == len(set(claimed))
    rest = await store.claim_due_orders(40, HOLD)
    assert sorted(claimed + rest) == sorted(f"o{n}" for n in range(40))


async def put_refund(store: Store, order_no: str, refund_no: str, **fields: Any) -> Order:
    """The order with one more refund, on disk."""
    order = await store.load(order_no)
    assert await store.commit(refund_intent(order, refund_no=refund_no, **fields))
    return await store.load(order_no)


async def put_due(store: Store, minutes: int) -> None:
    """A charge that is due for so many minutes, and a refund that is due for half a minute more."""
    due_at = store.now() - timedelta(minutes=minutes)
    await put(store, f"o{minutes}", out_trade_no=f"c{minutes}", due_at=due_at)
    due_at -= timedelta(seconds=30)
    await put_refund(store, f"o{minutes}", f"r{minutes}", due_at=due_at)


def keys(claimed: Sequence[ClaimedRow]) -> list[str]:
    """The rows that were claimed."""
    return [each.key for each in claimed]


async def test_due_rows_are_claimed_earliest_first(store: Store) -> None:
    """The limit counts charges and refunds together; whose look is due first comes first."""
    for minutes in (7, 9, 8):
        await put_due(store, minutes)
    later = store.now() + timedelta(hours=1)
    await put(store, "later", due_at=later)
    await put(store, "never")
    await put_refund(store, "never", "later", due_at=later)
    await put_refund(store, "never", "never")
    assert await store.claim_due_rows(BOTH, 0, HOLD) == []
    assert keys(await store.claim_due_rows(BOTH, 1, HOLD)) == ["r9"]
    assert keys(await store.claim_due_rows(BOTH, 3, HOLD)) == ["c9", "r8", "c8"]
    assert keys(await store.claim_due_rows(BOTH, 9, HOLD)) == ["r7", "c7"]
    assert await store.claim_due_rows(BOTH, 9, HOLD) == []


async def test_only_rows_of_the_kinds_that_are_named_are_claimed(store: Store) -> None:
    """The others stay due, however long they are."""
    for minutes in (9, 8):
        await put_due(store, minutes)
    assert await store.claim_due_rows((), 9, HOLD) == []
    assert keys(await store.claim_due_rows((RowKind.CHARGE,), 9, HOLD)) == ["c9", "c8"]
    assert keys(await store.claim_due_rows({RowKind.REFUND}, 1, HOLD)) == ["r9"]
    assert keys(await store.claim_due_rows(BOTH, 9, HOLD)) == ["r8"]


async def test_a_due_row_is_claimed_in_any_state(store: Store) -> None:
    """Whatever became of a charge or refund: a look that is planned is due."""
    due_at = store.now() - HOLD
    wanted = set()
    for superseded, state in itertools.product((False, True), ChargeState):
        number = f"{state}{superseded}"
        order = await put(
            store, number, out_trade_no=number, state=state, superseded=superseded, due_at=due_at
        )
        wanted.add(number)
    for refund_state in RefundState:
        number = f"r{refund_state}"
        await put_refund(store, order.order_no, number, state=refund_state, due_at=due_at)
        wanted.add(number)
    assert set(keys(await store.claim_due_rows(BOTH, 100, HOLD))) == wanted
    assert await store.claim_due_rows(BOTH, 100, HOLD) == []


async def test_a_claim_moves_due_at_and_nothing_else(store: Store) -> None:
    """Neither the version nor `looks`: a change that was decided before the claim is written."""
    now = store.now()
    due_at = now - HOLD
    await put(store, out_trade_no="c1", state=ChargeState.PENDING, looks=3, due_at=due_at)
    await put_refund(store, "o1", "r1", looks=2, absent_since=NOON, due_at=due_at - HOLD)
    before = await put_refund(store, "o1", "r2", due_at=now + timedelta(hours=1))
    refund, charge = await store.claim_due_rows(BOTH, 9, HOLD)
    assert charge == ClaimedRow(RowKind.CHARGE, "o1", "c1", due_at, charge.held_until)
    assert refund == ClaimedRow(RowKind.REFUND, "o1", "r1", due_at - HOLD, refund.held_until)
    for each in (charge, refund):
        assert abs(each.held_until - (now + HOLD)) < timedelta(seconds=30)
    held = await store.load("o1")
    rows = (
        replace(before.charge("c1"), due_at=charge.held_until),
        replace(before.refund("r1"), due_at=refund.held_until),
        before.refund("r2"),
    )
    assert (held.charge("c1"), held.refund("r1"), held.refund("r2")) == rows
    assert replace(held, charges=before.charges, refunds=before.refunds) == before
    assert len(await store.journal("o1")) == 3
    assert await store.commit(touched(before, operator_reason="decided before the claim"))


async def test_a_row_whose_hold_is_over_is_claimed_again(store: Store) -> None:
    """A claimant that did nothing, or never got its answer, keeps nobody from the row."""
    await put_due(store, 9)
    first = await store.claim_due_rows(BOTH, 9, timedelta(seconds=-1))
    again = await store.claim_due_rows(BOTH, 9, HOLD)
    assert {(each.key, each.held_until) for each in first} == {
        (each.key, each.due_at) for each in again
    }
    assert await store.claim_due_rows(BOTH, 9, HOLD) == []


async def test_a_row_that_is_released_is_due_as_before(store: Store) -> None:
    """The order is as if it had never been claimed, and only what is given back is due again."""
    for minutes in (7, 8, 9):
        await put_due(store, minutes)
    orders = [await store.load(f"o{minutes}") for minutes in (7, 8, 9)]
    claimed = await store.claim_due_rows(BOTH, 9, HOLD)
    assert len(claimed) == 6
    await store.release_rows(claimed[:4])
    assert [await store.load(f"o{minutes}") for minutes in (8, 9)] == orders[1:]
    assert await store.load("o7") != orders[0]
    again = await store.claim_due_rows(BOTH, 9, 2 * HOLD)
    assert [(each.key, each.due_at) for each in again] == [
        (each.key, each.due_at) for each in claimed[:4]
    ]
    await store.release_rows(claimed)  # somebody else's by now, but for the last two
    assert keys(await store.claim_due_rows(BOTH, 9, HOLD)) == ["r7", "c7"]
    await store.release_rows(again)
    assert [await store.load(f"o{minutes}") for minutes in (8, 9)] == orders[1:]


async def test_a_release_of_nothing_does_nothing(store: Store) -> None:
    """No row, and rows that are not there."""
    order = await put(store, due_at=store.now() - HOLD)
    await store.release_rows([])
    gone = ClaimedRow(RowKind.CHARGE, "o2", "c2", NOON, NOON + HOLD)
    await store.release_rows([gone, replace(gone, kind=RowKind.REFUND, order_no="o1")])
    assert await store.load("o1") == order


@pytest.mark.parametrize("planned", ["later", "before", "never"])
async def test_a_row_that_is_planned_anew_stays_so(store: Store, planned: str) -> None:
    """A release does not take back what was committed since the claim, on any day and hour."""
    await put_due(store, 9)
    at = {"later": store.now() + 2 * HOLD, "before": store.now() - HOLD, "never": None}[planned]
    claimed = await store.claim_due_rows(BOTH, 9, HOLD)
    order = await store.load("o9")
    draft = Draft(order)
    draft.put(replace(order.charges[0], due_at=at, looks=1))
    draft.put(replace(order.refunds[0], due_at=at, looks=1))
    change = changed(draft)
    assert await store.commit(change)
    await store.release_rows(claimed)
    assert await store.load("o9") == change.after


async def test_a_release_moves_due_at_and_nothing_else(store: Store) -> None:
    """A commit that left the look where it was is kept, and the look is due as before."""
    await put_due(store, 9)
    before = await store.load("o9")
    claimed = await store.claim_due_rows(BOTH, 9, HOLD)
    change = touched(await store.load("o9"), absent_since=NOON, looks=5)
    assert await store.commit(change)
    await store.release_rows(claimed)
    charge = replace(change.after.charges[0], due_at=before.charges[0].due_at)
    assert await store.load("o9") == replace(
        change.after, charges=(charge,), refunds=before.refunds
    )


async def test_when_looks_are_due(store: Store) -> None:
    """The longest due one and the first one that is to come, of the kinds that are named."""
    now = store.now()
    charge, refund = (RowKind.CHARGE,), (RowKind.REFUND,)
    order = await put(store, out_trade_no="c1")
    assert await store.due_times(BOTH) == await store.due_times(()) == DueTimes(None, None)
    times = [now + sign * timedelta(hours=hours) for sign in (-1, 1) for hours in (1, 2, 3)]
    (due, _, longest_due, first, _, _) = times
    await put_refund(store, "o1", "r1", due_at=due)
    assert await store.due_times(BOTH) == DueTimes(due, None)
    assert await store.due_times(charge) == DueTimes(None, None)
    order = await store.load("o1")
    assert await store.commit(touched(order, due_at=first))
    assert await store.due_times(charge) == DueTimes(None, first)
    assert await store.due_times(refund) == DueTimes(due, None)
    assert await store.due_times(BOTH) == DueTimes(due, first)
    for n, due_at in enumerate(times):
        await put(store, f"more{n}", due_at=due_at)
        await put_refund(store, "o1", f"more{n}", due_at=due_at)
    for kinds in (charge, refund, BOTH):
        assert await store.due_times(kinds) == DueTimes(longest_due, first)
    await store.claim_due_rows(BOTH, 100, HOLD)
    after = await store.due_times(BOTH)
    assert after.oldest_due_at is None
    assert after.next_due_at is not None
    assert now < after.next_due_at < first


async def test_due_times_are_exact_to_the_microsecond(store: Store) -> None:
    """They are neither rounded nor sorted as numbers without zeros at their ends."""
    second = store.now().replace(microsecond=0) - HOLD
    steps = (10, 0, -1, 1, 100_000, 9)
    times = [second + timedelta(microseconds=step) for step in steps]
    for n, due_at in enumerate(times):
        zone = timezone(timedelta(hours=n))
        await put(store, f"o{n}", out_trade_no=f"c{n}", due_at=due_at.astimezone(zone))
    assert (await store.due_times(BOTH)).oldest_due_at == second - timedelta(microseconds=1)
    claimed = await store.claim_due_rows(BOTH, 9, HOLD)
    assert keys(claimed) == ["c2", "c1", "c3", "c5", "c0", "c4"]
    assert [each.due_at for each in claimed] == sorted(times)
    first = min(each.held_until for each in claimed)
    assert await store.due_times(BOTH) == DueTimes(None, first)
    assert (await store.load(claimed[0].order_no)).charges[0].due_at == claimed[0].held_until
    await store.release_rows(claimed)
    for n, due_at in enumerate(times):
        assert (await store.load(f"o{n}")).charges[0].due_at == due_at


async def test_claims_of_rows_at_once_share_the_work(store: Store) -> None:
    """No row is given to two claimants, and none is lost."""
    due_at = store.now() - HOLD
    names = [f"{n}" for n in range(40)]
    await asyncio.gather(*(put(store, n, out_trade_no=f"c{n}", due_at=due_at) for n in names))
    await asyncio.gather(*(put_refund(store, n, f"r{n}", due_at=due_at) for n in names))
    claims = await asyncio.gather(*(store.claim_due_rows(BOTH, 10, HOLD) for _ in range(12)))
    assert max(map(len, claims)) == 10
    claimed = [key for each in claims for key in keys(each)]
    assert len(claimed) == len(set(claimed))
    claimed += keys(await store.claim_due_rows(BOTH, 80, HOLD))
    assert sorted(claimed) == sorted(kind + n for kind in "cr" for n in names)


async def test_claims_and_commits_at_once_lose_nothing(store: Store) -> None:
    """Every commit is written though the rows are claimed and given back meanwhile; none waits."""
    names = [f"{n}" for n in range(8)]
    due_at = store.now() - HOLD
    for n in names:
        await put(store, n, out_trade_no=f"c{n}", due_at=due_at)
        await put_refund(store, n, f"r{n}", due_at=due_at)
    over = asyncio.Event()

    async def commit_ten(name: str) -> None:
        for n in range(1, 11):
            order = await store.load(name)
            draft = Draft(order)
            draft.put(replace(order.charges[0], looks=n))
            draft.put(replace(order.refunds[0], looks=n))
            assert await store.commit(changed(draft))

    async def claim_and_release() -> int:
        claims = 0
        while not over.is_set():
            claimed = await store.claim_due_rows(BOTH, 5, HOLD)
            await store.claim_due_orders(1, timedelta(seconds=-1))
            await store.release_rows(claimed[::-1])
            claims += len(claimed)
            await asyncio.sleep(0)
        return claims

    claiming = [asyncio.create_task(claim_and_release()) for _ in range(3)]
    await asyncio.gather(*map(commit_ten, names))
    over.set()
    assert sum(await asyncio.gather(*claiming)) > 0
    for name in names:
        order = await store.load(name)
        assert (order.version, order.charges[0].looks, order.refunds[0].looks) == (12, 10, 10)


async def test_charges_are_listed_newest_first_page_by_page(store: Store) -> None:
    """Pages join without gap or overlap, also where many rows are of one moment."""
    for n in range(9):
        await put(store, f"o{n}", created_at=NOON + timedelta(seconds=n // 3))
    listed: list[tuple[datetime, str]] = []
    after = None
    while page := await store.list_charges(None, Listing(limit=2, after=after)):
        listed += [(each.charges[0].created_at, each.charges[0].out_trade_no) for each in page]
        after = listed[-1]
        await put(store, f"new{len(listed)}", created_at=NOON + HOLD)  # newer: on no later page
    assert len(listed) == 9
    assert all(newer > older for newer, older in pairwise(listed))


async def test_charges_are_listed_by_state_and_time(store: Store) -> None:
    """The state and the window (start in, end out) choose; each charge comes with its refunds."""
    for n in range(4):
        order = await put(store, f"o{n}", created_at=NOON + timedelta(seconds=n))
        if n % 2:
            assert await store.commit(paid(order))
            assert await store.commit(refund_intent(await store.load(f"o{n}")))
            assert await store.commit(refund_intent(await store.load(f"o{n}")))
    succeeded = await store.list_charges(ChargeState.SUCCEEDED, Listing(10))
    assert succeeded == [await store.load("o3"), await store.load("o1")]
    window = Listing(10, NOON + timedelta(seconds=1), NOON + timedelta(seconds=3))
    assert [each.order_no for each in await store.list_charges(None, window)] == ["o2", "o1"]
    assert await store.list_charges(ChargeState.REVERSED, Listing(10)) == []


async def test_a_page_holds_what_lies_between_its_bounds(store: Store) -> None:
    """Every combination of state, window and page token, where many rows are of one moment."""
    moments = [NOON + timedelta(seconds=n) for n in range(3)]
    for n, moment in enumerate(2 * moments):
        order = await put(store, f"o{n}", created_at=moment)
        if n % 4 == 0:
            assert await store.commit(paid(order))
        if n % 4 == 1:
            assert await store.commit(refund_intent(order, created_at=moment))
            assert await store.commit(refunded(await store.load(f"o{n}")))
            assert await store.commit(refund_intent(await store.load(f"o{n}"), created_at=moment))
    charges = [each.charges[0] for each in await store.list_charges(None, Listing(9))]
    refunds = await store.list_refunds(None, Listing(9))
    assert (len(charges), len(refunds)) == (6, 4)
    keys = [*((c.created_at, c.out_trade_no) for c in charges), (NOON + HOLD, "x"), (NOON, "")]
    times = (None, *moments[1:], NOON + HOLD)
    for created_from, before, after in itertools.product(times, times, (None, *keys)):
        page = Listing(9, created_from, before, after)
        for state in (None, ChargeState.SUBMITTING, ChargeState.SUCCEEDED, ChargeState.CLOSED):
            found = [each.charges[0] for each in await store.list_charges(state, page)]
            assert found == [
                each
                for each in charges
                if state in (None, each.state) and _in(page, each.created_at, each.out_trade_no)
            ], (state, page)
        for refund_state in (None, RefundState.SUCCEEDED):
            assert await store.list_refunds(refund_state, page) == [
                each
                for each in refunds
                if refund_state in (None, each.state) and _in(page, each.created_at, each.refund_no)
            ], (refund_state, page)


def _in(page: Listing, at: datetime, key: str) -> bool:
    """Whether a row is between the bounds of the page."""
    old = page.created_from is not None and at < page.created_from
    new = page.created_before is not None and at >= page.created_before
    return not old and not new and (page.after is None or (at, key) < page.after)


async def test_a_listed_order_holds_that_charge_alone(store: Store) -> None:
    """An order with two charges is listed twice, each time with one and with its own refunds."""
    order = await put(store, superseded=True)
    draft = Draft(order)
    draft.add_charge(a_charge("o1", created_at=NOON + HOLD), "T")
    draft.add_refund(a_refund(order.charges[0]), "T")
    assert await store.commit(changed(draft))
    newer, older = await store.list_charges(None, Listing(10))
    assert (newer.charges, newer.refunds) == (draft.order.charges[1:], ())
    assert (older.charges, older.refunds) == (draft.order.charges[:1], draft.order.refunds)
    assert newer.version == older.version == 2


async def test_refunds_are_listed_newest_first_page_by_page(store: Store) -> None:
    """As for charges: by (created_at, refund_no), filtered by state and time."""
    order = await put(store)
    draft = Draft(order)
    for n in range(5):
        state = RefundState.FAILED if n == 2 else RefundState.PENDING
        at = NOON + timedelta(seconds=n // 2)
        draft.add_refund(a_refund(order.charges[0], created_at=at, state=state), "T")
    assert await store.commit(changed(draft))
    wanted = sorted(draft.order.refunds, key=lambda r: (r.created_at, r.refund_no), reverse=True)
    first = await store.list_refunds(None, Listing(3))
    after = (first[-1].created_at, first[-1].refund_no)
    assert first + await store.list_refunds(None, Listing(3, after=after)) == wanted
    failed = await store.list_refunds(RefundState.FAILED, Listing(3))
    assert [each.state for each in failed] == [RefundState.FAILED]
    assert await store.list_refunds(None, Listing(3, created_from=NOON + HOLD)) == []


async def test_a_change_without_journal_is_stored(store: Store) -> None:
    """A look that is put off needs no journal entry and still counts as a version."""
    order = await put(store)
    draft = Draft(order)
    draft.put(replace(order.charges[0], due_at=NOON, looks=1))
    assert await store.commit(changed(draft))
    after = await store.load("o1")
    assert (after.version, after.charges[0].due_at, after.charges[0].looks) == (2, NOON, 1)
    assert len(await store.journal("o1")) == 1


async def test_the_clock_is_about_now_and_the_store_alive(store: Store) -> None:
    """`now` is an aware moment near the machine's, here where both are one; `check` is content."""
    assert abs(store.now() - datetime.now(UTC)) < timedelta(seconds=60)
    assert store.now().utcoffset() == timedelta(0)
    await store.check()
