"""Every statement finds its rows by an index, however many others there are.

Each is looked at three times: planned while the tables were empty, planned anew without statistics
(as after a restore), and with statistics. One plan serves all values, as in production.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from midas.charge import ChargeState
from midas.event import EventRecord, EventStanding
from midas.lease import DeliveryOutcome, Settlement
from midas.payment import Order
from midas.ports import ClaimedRow, KeyKind, Listing, RowKind
from midas.refund import RefundState
from midas.storage.engine import parse, sqlite_engine
from midas.storage.faults import InDoubt
from midas.storage.rows import Row
from midas.storage.sqlite import SqliteDatabase
from midas.storage.store import SqlStore
from tests.postgres import PostgresServer
from tests.records import a_charge, intent, paid, refund_intent, touched
from tests.storage.faulty import Scripted
from tests.storage.many_rows import ROWS, fill, key
from tests.storage.plans import Explaining, Plan
from tests.storage.test_table_writes import an_event

LIMIT = 10
HOLD = timedelta(seconds=60)
BOTH = (RowKind.CHARGE, RowKind.REFUND)
MOST_BLOCKS = 1000
"""Of 8 KiB each, for one statement. The tables have thousands."""

_WRITTEN = itertools.count(ROWS // 2)
"""An order for each commit."""

Use = Callable[[SqlStore, int], Awaitable[Any]]


def _order(n: int) -> Order:
    charge = a_charge(
        key("o", n), out_trade_no=key("n", n), charge_id=key("ch_", n), state=ChargeState.PENDING
    )
    return Order(key("o", n), 1, 1, (charge,), (), key("c", n))


def _event(n: int, **fields: Any) -> EventRecord:
    return replace(an_event(key("o", n), 1, **fields), event_id=key("evt_", n))


async def _settle(store: SqlStore, n: int) -> None:
    outcomes = (DeliveryOutcome.DELIVERED, DeliveryOutcome.RETRY, DeliveryOutcome.REFUSED)
    await store.settle_notifications(
        [Settlement("t", key("o", n + k), 1, outcome) for k, outcome in enumerate(outcomes)]
    )


async def _release(store: SqlStore, n: int) -> None:
    at, claim = datetime(2020, 1, 1, tzinfo=UTC), datetime(2130, 1, 1, tzinfo=UTC)
    wanted = [(RowKind.CHARGE, "n"), (RowKind.REFUND, "r")]
    await store.release_rows(
        [
            ClaimedRow(kind, key("o", n + k), key(prefix, n + k), at, claim)
            for kind, prefix in wanted
            for k in range(LIMIT)
        ]
    )


async def _lost(store: SqlStore, n: int) -> None:
    database = store._database
    store._commits._database = Scripted(database, ("after", InDoubt("lost")))
    assert await store.commit(intent(f"lost{n}"))
    store._commits._database = database


OF_ORDER = {"orders_pkey", "charges_order_no", "refunds_out_trade_no"}
CHANGED = {"orders_pkey", "charges_pkey", "charges_order_no"}
"""By its key or by its order's: either finds a handful of rows."""
USES: dict[str, tuple[Use, set[str]]] = {
    "load": (lambda store, n: store.load(key("o", n)), OF_ORDER),
    "find by out_trade_no": (
        lambda store, n: store.find(KeyKind.OUT_TRADE_NO, key("n", n)),
        OF_ORDER | {"charges_pkey"},
    ),
    "find by charge_id": (
        lambda store, n: store.find(KeyKind.CHARGE_ID, key("ch_", n)),
        OF_ORDER | {"charges_charge_id"},
    ),
    "find by refund_no": (
        lambda store, n: store.find(KeyKind.REFUND_NO, key("r", n)),
        OF_ORDER | {"refunds_pkey"},
    ),
    "find by refund_id": (
        lambda store, n: store.find(KeyKind.REFUND_ID, key("re_", n)),
        OF_ORDER | {"refunds_refund_id"},
    ),
    "load many": (
        lambda store, n: asyncio.gather(*(store.load(key("o", n + k)) for k in range(LIMIT))),
        OF_ORDER,
    ),
    "journal": (lambda store, n: store.journal(key("o", n)), {"journal_pkey"}),
    "notifications": (lambda store, n: store.notifications(key("o", n)), {"notifications_pkey"}),
    "event": (lambda store, n: store.event(key("evt_", n)), {"events_pkey"}),
    "record event": (lambda store, n: store.record_event(_event(ROWS + n)), set()),
    "claim events": (
        lambda store, _: store.claim_events(LIMIT, HOLD),
        {"events_due", "events_pkey"},
    ),
    "claim orders": (
        lambda store, _: store.claim_due_orders(LIMIT, HOLD),
        {"charges_claimable", "refunds_claimable", "charges_order_no", "refunds_order_no"}
        | {"orders_pkey"},
    ),
    "claim rows": (
        lambda store, _: store.claim_due_rows(BOTH, LIMIT, HOLD),
        {"charges_due", "refunds_due", "charges_pkey", "refunds_pkey"},
    ),
    "claim charges": (
        lambda store, _: store.claim_due_rows(BOTH[:1], LIMIT, HOLD),
        {"charges_due", "charges_pkey"},
    ),
    "claim refunds": (
        lambda store, _: store.claim_due_rows(BOTH[1:], LIMIT, HOLD),
        {"refunds_due", "refunds_pkey"},
    ),
    "release rows": (_release, {"charges_pkey", "refunds_pkey"}),
    "due times": (lambda store, _: store.due_times(BOTH), {"charges_due", "refunds_due"}),
    "lease": (
        lambda store, _: store.lease_notifications(LIMIT, HOLD),
        {"orders_undelivered", "notifications_pkey"} | OF_ORDER,
    ),
    "settle": (_settle, {"orders_pkey", "notifications_pkey"}),
    "backlog": (
        lambda store, _: store.backlog(),
        {"orders_undelivered", "orders_parked", "notifications_pkey"},
    ),
    "commit an intent": (lambda store, n: store.commit(intent(f"new{n}")), {"orders_pkey"}),
    "commit many intents": (
        lambda store, n: asyncio.gather(*(store.commit(intent(f"new{n}_{k}")) for k in range(9))),
        {"orders_pkey"},
    ),
    "commit a change": (
        lambda store, n: store.commit(touched(_order(n), looks=1)),
        CHANGED,
    ),
    "commit a payment": (
        lambda store, n: store.commit(paid(_order(n))),
        CHANGED,
    ),
    "commit a refund": (
        lambda store, n: store.commit(refund_intent(_order(n))),
        {"orders_pkey"},
    ),
    "commit a payment by an event": (
        lambda store, n: store.commit(replace(paid(_order(n)), new_events=(_event(ROWS + n),))),
        CHANGED,
    ),
    "commit an event that waited": (
        lambda store, n: store.commit(
            replace(
                touched(_order(n), looks=1),
                changed_events=(_event(n, standing=EventStanding.APPLIED, due_at=None),),
            )
        ),
        CHANGED | {"events_pkey", "events_order_no"},
    ),
    "commit again": (_lost, {"orders_pkey", "journal_pkey"}),
}
"""What the store is asked, and the indexes that may answer it."""


def _at(part: float) -> datetime:
    return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=30 * int(ROWS * part))


async def _charges(state: ChargeState | None, page: Listing, store: SqlStore, _: int) -> None:
    await store.list_charges(state, page)


async def _refunds(state: RefundState | None, page: Listing, store: SqlStore, _: int) -> None:
    await store.list_refunds(state, page)


def _pages() -> Iterator[tuple[str, Use, set[str]]]:
    """Every combination of state and bounds, for charges and for refunds."""
    bounds: tuple[dict[str, Any], ...] = (
        {"created_from": _at(0.001)},
        {"created_before": _at(0.999)},
        {"after": (_at(0.9), "x")},
    )
    for count in range(4):
        for some in itertools.combinations(bounds, count):
            chosen = {name: value for each in some for name, value in each.items()}
            page = Listing(LIMIT, **chosen)
            for charge_state in (None, *ChargeState):
                yield (
                    f"charges {charge_state or 'of all states'} {' '.join(chosen)}",
                    partial(_charges, charge_state, page),
                    {"charges_state_newest" if charge_state else "charges_newest"}
                    | {"orders_pkey", "refunds_out_trade_no"},
                )
            for refund_state in (None, *RefundState):
                yield (
                    f"refunds {refund_state or 'of all states'} {' '.join(chosen)}",
                    partial(_refunds, refund_state, page),
                    {"refunds_state_newest" if refund_state else "refunds_newest"},
                )


async def test_every_statement_finds_its_rows_by_an_index(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """By those that are named above and no others, and with few pages read."""
    name = postgres_url.rpartition("/")[2]
    database = Explaining(postgres_url)
    async with SqlStore(database) as store:
        await _use_all(store, database)
        fill(postgres, name)
        wrong = await _wrong(store, database, "planned while empty")
        await database.forget_plans()
        wrong += await _wrong(store, database, "without statistics")
        postgres.sql("ANALYZE", name)
        await database.forget_plans()
        wrong += await _wrong(store, database, "with statistics")
    assert not wrong, "\n".join(wrong)


async def test_every_page_is_a_piece_of_an_index_on_sqlite(sqlite_url: str) -> None:
    """It is read in its order, from one bound to the other."""

    class Explained(SqliteDatabase):
        async def fetch(self, sql: str, parameters: tuple[Any, ...] = ()) -> Sequence[Row]:
            steps = await super().fetch(f"EXPLAIN QUERY PLAN {sql}", parameters)
            self.plan = [str(step[3]) for step in steps]
            return await super().fetch(sql, parameters)

    database = Explained(sqlite_engine(parse(sqlite_url)))
    async with SqlStore(database) as store:
        for label, use, indexes in _pages():
            await use(store, 0)
            (index,) = (each for each in indexes if each.endswith("newest"))
            (step,) = (each for each in database.plan if index in each)
            bounded = "of all states" not in label or not label.endswith(" ")
            assert step.startswith("SEARCH") if bounded else step.startswith("SCAN"), label
            assert database.plan.count("USE TEMP B-TREE FOR ORDER BY") <= ("charges" in label)


async def _use_all(store: SqlStore, database: Explaining) -> dict[str, tuple[list[Plan], set[str]]]:
    """The plans of everything that the store is asked, and the indexes that they should use."""
    found: dict[str, tuple[list[Plan], set[str]]] = {}
    listed = ((label, (use, indexes)) for label, use, indexes in _pages())
    for label, (use, indexes) in (*USES.items(), *listed):
        database.plans.clear()
        await use(store, next(_WRITTEN))
        found[label] = list(database.plans), indexes
    return found


async def _wrong(store: SqlStore, database: Explaining, when: str) -> list[str]:
    wrong = []
    for label, (plans, wanted) in (await _use_all(store, database)).items():
        used = set().union(*(plan.indexes() for plan in plans))
        whole = set().union(*(plan.read_whole() for plan in plans))
        blocks = max(plan.blocks() for plan in plans)
        if used - wanted or whole or blocks > MOST_BLOCKS:
            wrong.append(f"{when}: {label}: {blocks} blocks, {sorted(used)}, whole: {whole}")
    return wrong
