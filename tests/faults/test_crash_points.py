"""T1: every crash point and every lost message, at most two at a time.

Of a charge and a refund, and of Ping++'s webhooks and the notifications of the order service.
"""

import asyncio

import pytest

from midas.charge import ChargeTerms
from tests.faults import event_scenarios, scenarios
from tests.faults.chooser import Chooser
from tests.faults.crash import COMMIT_WAYS, READ_WAYS
from tests.faults.event_ports import ORDER_WAYS, WEBHOOK_WAYS
from tests.faults.exploring import WHOLE, explore, runs
from tests.faults.scenarios import ALIPAY, APP, BAR_CODE, QR_CODE, TERMS, Story, play
from tests.faults.world import GET_WAYS, ODD_ANSWERS, POST_WAYS, World

RUNS: list[tuple[Story, ChargeTerms, int, int]] = [
    (scenarios.charge_and_pay, TERMS, 2, 0),
    (scenarios.charge_and_pay, ALIPAY, 2, 0),
    (scenarios.charge_and_pay, BAR_CODE, 2, 0),
    (scenarios.pay_then_ask, TERMS, 2, 0),
    (scenarios.change_the_channel, TERMS, 2, 1),
    (scenarios.change_the_channel_and_back, ALIPAY, 2, 2),
    (scenarios.pay_while_changing, TERMS, 2, 0),
    (scenarios.paid_while_taken_back, QR_CODE, 2, 1),
    (scenarios.resolved_while_in_flight, APP, 1, 0),
    (scenarios.refund_once, TERMS, 2, 0),
    (scenarios.refund_in_two_parts, TERMS, 1, 0),
]
"""The story, the faults, and in how many long tests it is walked; 0: at every run.

More than ten seconds is for .ci/run, and more than thirty for several tests.
"""
LEAST_RUNS = {1: 45, 2: 800}


@pytest.mark.parametrize(("story", "terms", "most_faults", "share"), list(runs(RUNS)))
def test_every_schedule(
    story: Story, terms: ChargeTerms, most_faults: int, share: tuple[int, int]
) -> None:
    """Under every schedule of faults the books agree once all has settled (I1-I5, I7, I8, I13)."""
    reached: set[tuple[str, str]] = set()
    walked = 0

    async def walk() -> None:
        nonlocal walked
        async for chooser, _ in explore(story, terms, most_faults, share=share):
            reached.update(chooser.faults)
            walked += 1

    asyncio.run(walk())
    assert walked >= LEAST_RUNS[most_faults]
    if share == WHOLE:
        _assert_sometimes(reached, story)


ODD_RUNS: list[tuple[Story, ChargeTerms, int, int]] = [
    (scenarios.charge_and_pay, ALIPAY, 3, 1),
    (scenarios.charge_and_pay, BAR_CODE, 3, 1),
    (scenarios.pay_then_ask, TERMS, 3, 1),
    (scenarios.change_the_channel, TERMS, 3, 1),
    (scenarios.pay_while_changing, TERMS, 3, 1),
    (scenarios.refund_once, TERMS, 3, 1),
    (scenarios.refund_in_two_parts, TERMS, 2, 1),
]


@pytest.mark.parametrize(("story", "terms", "most_faults", "share"), list(runs(ODD_RUNS)))
def test_every_schedule_of_odd_answers(
    story: Story, terms: ChargeTerms, most_faults: int, share: tuple[int, int]
) -> None:
    """404, a list or a picture that lags, another account's answer, 401: nothing is called over.

    Once all is healed no person is needed any more.
    """
    reached: set[str] = set()

    async def walk() -> None:
        async for chooser, world in explore(story, terms, most_faults, share=share, odd=True):
            reached.update(way for where, way in chooser.faults if where.startswith("GET"))
            order = await world.order()
            reasons = [each.operator_reason for each in order.charges if each.operator_reason]
            assert not reasons, (reasons, chooser.faults)

    asyncio.run(walk())
    assert reached == set(ODD_ANSWERS)


def _bad(where: str, ways: tuple[str, ...]) -> set[tuple[str, str]]:
    return {(where, way) for way in ways[1:]}


OBSERVED = _bad("webhook", WEBHOOK_WAYS) | _bad("commit event", COMMIT_WAYS)
"""O1-O4: between the webhook and its 2xx."""
WAITED = _bad("record_event", COMMIT_WAYS) | _bad("claim_events", COMMIT_WAYS)
ANNOUNCED = (
    _bad("lease", COMMIT_WAYS) | _bad("order", ORDER_WAYS) | _bad("settle", COMMIT_WAYS)
)  # fmt: skip
"""A1-A4: between the lease and its settlement."""
APPLIED = WAITED | _bad("commit applied", COMMIT_WAYS)
ASKED = _bad("GET ch_1002", GET_WAYS)

EVENT_RUNS: list[tuple[Story, ChargeTerms, set[tuple[str, str]], set[str]]] = [
    (
        event_scenarios.paid_and_announced,
        TERMS,
        OBSERVED | ANNOUNCED | _bad("find", READ_WAYS),
        {"lease stolen", "notified twice"},
    ),
    (event_scenarios.paid_and_given_back, TERMS, ANNOUNCED, {"lease stolen", "notified twice"}),
    (
        event_scenarios.paid_before_we_know,
        BAR_CODE,
        OBSERVED | _bad("POST charges", POST_WAYS) | _bad("commit", COMMIT_WAYS),
        {"webhook before our own commit"},
    ),
    (event_scenarios.refund_before_payment, TERMS, OBSERVED | APPLIED, {"notified twice"}),
    (event_scenarios.refund_without_payment, TERMS, APPLIED | ASKED, {"notified twice"}),
    (event_scenarios.paid_too_late, TERMS, OBSERVED | ANNOUNCED, {"late money", "lease stolen"}),
    (
        event_scenarios.refund_confirmed,
        TERMS,
        OBSERVED | ANNOUNCED,
        {"lease stolen", "notified twice"},
    ),
]
"""The story, and the faults and paths that it must have reached."""
LEAST_EVENT_RUNS = 400


@pytest.mark.parametrize(
    ("story", "terms", "faults", "paths"),
    EVENT_RUNS,
    ids=[story.__name__ for story, *_ in EVENT_RUNS],
)
def test_every_schedule_of_events(
    story: Story, terms: ChargeTerms, faults: set[tuple[str, str]], paths: set[str]
) -> None:
    """Under every schedule webhooks alone bring all three ledgers to agree (I3, I7-I9, I11, I13).

    The order service receives each message once, in order, and all of them; a refused order alone
    stands still.
    """
    reached_faults: set[tuple[str, str]] = set()
    reached_paths: set[str] = set()
    walked = 0

    async def walk() -> None:
        nonlocal walked
        async for chooser, world in explore(story, terms, 2):
            reached_faults.update(chooser.faults)
            reached_paths.update(world.reached)
            walked += 1

    asyncio.run(walk())
    assert walked >= LEAST_EVENT_RUNS
    assert faults <= reached_faults, faults - reached_faults
    assert paths <= reached_paths, paths - reached_paths


async def test_o1_the_order_service_is_down_for_a_day() -> None:
    """Nothing is given up after any number of attempts, and all of it arrives in order (I8)."""
    world = await play(healthy(), event_scenarios.down_for_a_day)
    assert [each.sequence for each in world.orders.received[TERMS.order_no]] == [1, 2]


LOSSES: list[tuple[Story, ChargeTerms, int, int]] = [
    (scenarios.charge_and_pay, TERMS, 1, 0),
    (scenarios.charge_and_pay, ALIPAY, 1, 0),
    # One more fault, and nobody remembers a bar code that was paid within the call: see
    # docs/decisions.md on what a failover lost.
    (scenarios.charge_and_pay, BAR_CODE, 0, 0),
    (scenarios.pay_then_ask, TERMS, 1, 0),
    (scenarios.pay_then_ask, ALIPAY, 1, 0),
    (scenarios.ask_again_soon, TERMS, 1, 0),
    (scenarios.ask_again_soon, ALIPAY, 1, 0),
    (scenarios.change_the_channel, TERMS, 0, 0),
    (scenarios.change_the_channel_and_back, ALIPAY, 0, 0),
    (scenarios.pay_while_changing, TERMS, 0, 0),
    (scenarios.refund_once, TERMS, 2, 8),
    (scenarios.refund_once, ALIPAY, 1, 0),
    (scenarios.refund_in_two_parts, TERMS, 0, 0),
    (event_scenarios.paid_and_announced, TERMS, 0, 0),
]
"""The story, the faults beside the lost commit, and in how many long tests it is walked."""


@pytest.mark.parametrize(("story", "terms", "most_faults", "share"), list(runs(LOSSES)))
def test_a_failover_may_lose_any_commit(
    story: Story, terms: ChargeTerms, most_faults: int, share: tuple[int, int]
) -> None:
    """Each commit in turn is lost after it was answered, and the process goes on (D3, I1-I3)."""

    async def walk(loses: int) -> bool:
        lost = False
        async for _, world in explore(story, terms, most_faults, loses=loses, share=share):
            lost |= world.failed_over
        return lost

    async def walk_all() -> int:
        loses = 1
        while await walk(loses):
            loses += 1
        return loses - 1

    assert asyncio.run(walk_all()) >= 2


OTHERS_WORDS: list[dict[str, object]] = [
    {"amount": 1},
    {"currency": "usd"},
    {"app": "app_2", "amount": 1},
    {"livemode": True, "currency": "usd"},
    {"order_no": "T0000000000000000009"},
]


@pytest.mark.parametrize("changes", OTHERS_WORDS, ids=lambda changes: next(iter(changes)))
async def test_another_ones_payment_is_not_believed(changes: dict[str, object]) -> None:
    """Another amount, currency or number than was asked for is quarantined (P11).

    Another app or mode alone is the answer to a wrong key: see `test_missing.py`.
    """
    world = World(healthy(), TERMS)
    await scenarios.quarantined(world, changes)


async def test_paid_at_the_last_moment() -> None:
    """Ping++ is asked before an expired charge is closed, and the payment found."""
    await scenarios.paid_at_the_last_moment(World(healthy(), TERMS))


async def test_caller_goes_away() -> None:
    """A caller that hangs up in the middle of the call to Ping++ loses nothing."""
    await scenarios.caller_goes_away(World(healthy(), TERMS))


def healthy() -> Chooser:
    """Nothing goes wrong."""
    return Chooser((), most_faults=0)


def _assert_sometimes(reached: set[tuple[str, str]], story: Story) -> None:
    """A green run proves nothing unless it reached each kind of fault where it matters."""
    bad_commits = {("commit", way) for way in COMMIT_WAYS[1:]}
    is_refund = story.__name__.startswith("refund")
    post = "POST refunds" if is_refund else "POST charges"
    bad_posts = {(post, way) for way in POST_WAYS[1:]}
    assert bad_commits | bad_posts <= reached
    if story is scenarios.refund_once:
        assert {("GET refunds", way) for way in GET_WAYS[1:]} <= reached
