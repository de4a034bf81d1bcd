"""T1: every crash point and every lost message of a charge and a refund, at most two at a time."""

import asyncio
from collections.abc import Iterator

import pytest

from midas.charge import ChargeTerms
from tests.faults import scenarios
from tests.faults.chooser import Chooser, Odometer
from tests.faults.scenarios import ALIPAY, BAR_CODE, TERMS, Story, play
from tests.faults.world import COMMIT_WAYS, GET_WAYS, POST_WAYS, World

RUNS: list[tuple[Story, ChargeTerms, int]] = [
    (scenarios.charge_and_pay, TERMS, 2),
    (scenarios.charge_and_pay, ALIPAY, 2),
    (scenarios.charge_and_pay, BAR_CODE, 2),
    (scenarios.pay_then_ask, TERMS, 2),
    (scenarios.change_the_channel, TERMS, 2),
    (scenarios.pay_while_changing, TERMS, 2),
    (scenarios.refund_once, TERMS, 2),
    (scenarios.refund_in_two_parts, TERMS, 1),
]

LEAST_RUNS = {1: 50, 2: 800}


def names() -> Iterator[str]:
    """What pytest calls each run."""
    for story, terms, _ in RUNS:
        yield f"{story.__name__}-{terms.channel}"


@pytest.mark.parametrize(("story", "terms", "most_faults"), RUNS, ids=list(names()))
def test_every_schedule(story: Story, terms: ChargeTerms, most_faults: int) -> None:
    """Under every schedule of faults the books agree once all has settled (I1-I5, I7, I8, I13)."""
    met = set()
    runs = 0

    async def explore() -> None:
        nonlocal runs
        for chooser in Odometer(most_faults):
            await play(chooser, story, terms)
            met.update(chooser.faults)
            runs += 1

    asyncio.run(explore())
    assert runs >= LEAST_RUNS[most_faults]
    if most_faults > 1:
        _assert_sometimes(met, story)


OTHERS_WORDS: list[dict[str, object]] = [
    {"amount": 1},
    {"currency": "usd"},
    {"app": "app_2"},
    {"livemode": True},
    {"order_no": "T0000000000000000009"},
]


@pytest.mark.parametrize("changes", OTHERS_WORDS, ids=lambda changes: next(iter(changes)))
async def test_another_ones_payment_is_not_believed(changes: dict[str, object]) -> None:
    """Another amount, currency, app, mode or number than was asked for is quarantined (P11)."""
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


def _assert_sometimes(met: set[tuple[str, str]], story: Story) -> None:
    """A green run proves nothing unless each kind of fault was met where it matters."""
    bad_commits = {("commit", way) for way in COMMIT_WAYS[1:]}
    is_refund = story.__name__.startswith("refund")
    post = "POST refunds" if is_refund else "POST charges"
    bad_posts = {(post, way) for way in POST_WAYS[1:]}
    assert bad_commits | bad_posts <= met
    if is_refund:
        assert {("GET refunds", way) for way in GET_WAYS[1:]} <= met
