"""T4, everything at once: load, webhooks, and `kill -9` of one of each kind every second.

Two gateways share a port, two Midas share a PostgreSQL; callers charge and refund, payers pay, and
the sandbox sends its webhooks, some of them several times or late. When the killing is over
and all is up again, the order service has received exactly what the sandbox's ledger holds.

`SOAK_S` is how long it kills, in seconds; 15 unless the environment says otherwise. The full soak:

    SOAK_S=60 uv run pytest -n 0 -s tests/faults/test_webhook_soak.py

Who is on its way up is spared, so that a slow machine gets on, too. A run prints its seed;
`SOAK_SEED` repeats its choices, while the timing is the machine's.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from midas.sandbox.orders.order import Accepted
from midas.sandbox.webhook_sends import Match
from tests.faults.books import books_agree
from tests.faults.counted_orders import REPEAT
from tests.faults.processes import Harness, Keys, until
from tests.faults.webhook_crew import Crew
from tests.faults.webhook_load import Load
from tests.faults.webhook_stage import Chain

SOAK_S = float(os.environ.get("SOAK_S", "15"))
SEED = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(10**6)))
FULL_SOAK_S = 60.0
KILL_EVERY_S = 1.0
FEWEST_KILLS = SOAK_S / KILL_EVERY_S / 2
"""Of each kind. A quiet machine is at twice as many by the time that the soak is over; a busy one,
which takes seconds for every start, goes on until it has so many, for LONGEST_S at the most."""
LONGEST_S = 8 * SOAK_S
FEWEST_ORDERS = 2 * SOAK_S
"""A quiet machine makes ten times as many; a busy one goes on, as for the kills."""
ORDERS_KILLED_EVERY = 4
"""The order service has no twin: it dies with each fourth of the others."""
CALLERS = 6
EVERYTHING = 10**6
HEALING_S = 300.0
"""When the faults stop, everything comes to its end within this time (I13)."""
PAUSES_S = (0.5,) + (1.0,) * 500
"""Ping++'s schedule, a day in eight minutes."""


@pytest.fixture
async def soaked(tmp_path: Path, keys: Keys, postgres_url: str) -> AsyncIterator[Chain]:
    """All the way of a webhook, with a sandbox that does not give up within the test."""
    sends = {"webhook_pauses_s": PAUSES_S, "webhook_sends_most": len(PAUSES_S)}
    harness = Harness(tmp_path, keys, **sends)
    await harness.open()
    chain = Chain(harness, postgres_url)
    yield chain
    chain.close()
    await harness.close()


@pytest.mark.long
@pytest.mark.timeout(LONGEST_S + 3 * HEALING_S)
async def test_soak(soaked: Chain) -> None:
    """The order service ends with exactly the ledger's outcomes, each order's in sequence."""
    rng = random.Random(SEED)
    crew = Crew(soaked)
    crew.start()
    load = Load(soaked, crew.ports, rng)
    try:
        await crew.all_serve()
        await _under_load(crew, load, rng)
        await _healed(soaked, crew)
        _check_outcomes(soaked, load.order_nos)
        await books_agree(soaked.database_url, load.order_nos, soaked.harness.sandbox.lookalike)
        _check_it_was_a_soak(soaked, crew, load)
    finally:
        _print_summary(soaked, crew, load)
        await load.close()
        await crew.stop()


async def _under_load(crew: Crew, load: Load, rng: random.Random) -> None:
    """Kill one Midas and one gateway every second while callers call; then let them finish."""
    calling = asyncio.create_task(load.run(CALLERS))
    rounds, most_rounds = int(SOAK_S / KILL_EVERY_S), int(LONGEST_S / KILL_EVERY_S)
    try:
        for number in range(1, most_rounds + 1):
            is_enough = _fewest(crew) >= FEWEST_KILLS and len(load.order_nos) >= FEWEST_ORDERS
            if number > rounds and is_enough:
                break
            await asyncio.wait([calling], timeout=KILL_EVERY_S)
            assert not calling.done(), calling.result()
            crew.kill_one("midas", rng)
            crew.kill_one("gateway", rng)
            if number % ORDERS_KILLED_EVERY == 0:
                crew.kill_one("orders", rng)
        load.stop()
        async with asyncio.timeout(HEALING_S):
            await calling
    finally:
        calling.cancel()
        await asyncio.wait([calling])


async def _healed(chain: Chain, crew: Crew) -> None:
    """Wait until all are up, every webhook has come to its end, and nothing is left to announce."""
    await crew.all_serve()
    pending = Match(outcome="pending")
    async with asyncio.timeout(HEALING_S):
        for each in chain.webhooks.log.matching(pending):
            await chain.webhooks.log.until(Match(event_id=each.event_id, outcome="accepted"))
        await until(lambda: not chain.webhooks.log.totals()["pending"], "all webhooks accepted")
    assert chain.webhooks.log.totals()["given_up"] == 0
    await chain.all_delivered()


def _check_outcomes(chain: Chain, order_nos: list[str]) -> None:
    """The order service received what happened, no more, no less, and in order."""
    lookalike = chain.harness.sandbox.lookalike
    charges = lookalike.newest_charges(EVERYTHING)
    paid = [(each["id"], each["amount"]) for each in charges if each["paid"]]
    refunds = [one for each in charges for one in lookalike.refunds_of(each["id"])]
    refunded = [(each["id"], each["amount"]) for each in refunds if each["status"] == "succeeded"]
    received = chain.book.received()
    successes = [each.request.charge for each in received if each.kind == "pay_order_success"]
    backs = [each.request.refund for each in received if each.kind == "refund_success"]
    assert sorted((each.charge_id, each.amount) for each in successes) == sorted(paid)
    assert sorted((each.refund_id, each.amount) for each in backs) == sorted(refunded)
    assert not [each for each in received if each.kind == "refund_failed"]
    for each in received:
        _check_closed(each, {one["order_no"] for one in charges if one["paid"]})
    chain.assert_in_order(*order_nos)


def _check_closed(notification: Accepted, paid: set[str]) -> None:
    if notification.kind == "pay_order_closed":
        assert notification.request.charge.out_trade_no not in paid, (
            "announced as closed, and it was paid"
        )


def _check_it_was_a_soak(chain: Chain, crew: Crew, load: Load) -> None:
    """Otherwise a green run proves nothing."""
    assert _fewest(crew) >= FEWEST_KILLS
    assert crew.kills["orders"] >= FEWEST_KILLS / ORDERS_KILLED_EVERY
    assert len(load.order_nos) >= FEWEST_ORDERS
    assert any(reason != "OK" for reason in load.ends), "no caller ever called a dead Midas"
    first = [each.sends[0] for each in chain.webhooks.log.matching(Match())]
    assert not all(each.accepted for each in first), (
        "no webhook ever came to a dead gateway or Midas"
    )
    logged = _events(chain)
    assert logged["delivery_failed"] or logged[REPEAT], "no delivery ever came to a dead process"
    if SOAK_S >= FULL_SOAK_S:
        assert logged["delivery_failed"], "no delivery ever came to a dead order service"
        assert logged[REPEAT], "no delivery was ever cut off from its settlement"


def _fewest(crew: Crew) -> int:
    return min(crew.kills["midas"], crew.kills["gateway"])


def _print_summary(chain: Chain, crew: Crew, load: Load) -> None:
    received = Counter(each.kind for each in chain.book.received())
    sends = Counter(
        send.status for each in chain.webhooks.log.matching(Match()) for send in each.sends
    )
    print(f"SOAK_SEED={SEED} SOAK_S={SOAK_S:.0f}: {len(load.order_nos)} orders")
    print("killed", dict(crew.kills), "started", {each.name: each.started for each in crew.places})
    print("calls", dict(load.ends), "received", dict(received), "webhooks", dict(sends))
    print("logged", dict(_events(chain)))
    print("kills", "; ".join(crew.trace))


def _events(chain: Chain) -> Counter[str]:
    """The events in the logs of all gateways and order services, dead or alive."""
    names = (
        REPEAT, "delivery_failed", "settle_failed", "settlement_too_late",
        "lease_over_before_sending", "lease_failed",
    )  # fmt: skip
    counts: Counter[str] = Counter()
    for each in chain.harness.processes:
        if each.name.startswith(("gateway", "orders")):
            for name in names:
                counts[name] += len(each.lines(name))
            counts.update(line["verdict"] for line in each.lines("webhook"))
    return counts
