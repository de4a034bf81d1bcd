"""T1 of declined bar codes: what the payer may do at each step, beside what may go wrong there."""

import asyncio

import pytest

from midas.charge import Charge, ChargeState
from tests.faults import scenarios
from tests.faults.chooser import Odometer
from tests.faults.crash import COMMIT_WAYS
from tests.faults.scenarios import BAR_CODE, Story, play
from tests.faults.world import POST_WAYS

LONG = pytest.mark.long
CALLS, WRITES = ("payer", "POST", "GET"), ("payer", "commit")
LISTED = {"reversed", "given back", "paid after all"}
HIDDEN = {"given up", "paid after all", "late money", "confirmed after all was over"}
DECLINED_RUNS = [
    pytest.param(scenarios.declined_and_listed, CALLS, 2, LISTED, id="listed-calls"),
    pytest.param(scenarios.declined_and_listed, WRITES, 1, LISTED, id="listed-writes"),
    pytest.param(
        scenarios.declined_and_listed, WRITES, 2, LISTED, id="listed-writes-2", marks=LONG
    ),
    pytest.param(scenarios.declined_and_not_listed, CALLS, 2, HIDDEN, id="hidden-calls"),
    pytest.param(scenarios.declined_and_not_listed, WRITES, 1, HIDDEN, id="hidden-writes"),
]
"""The story of a declined bar code, the calls that go wrong, how many, and what must come of it."""


@pytest.mark.parametrize(("story", "only", "most_faults", "ends"), DECLINED_RUNS)
def test_every_schedule_of_a_declined_bar_code(
    story: Story, only: tuple[str, ...], most_faults: int, ends: set[str]
) -> None:
    """The payer confirms before, between and after each step, and one call goes wrong beside that.

    No money is lost, none is taken twice unflagged, what is given back is announced (I1, I3, I5).
    """
    reached_faults: set[tuple[str, str]] = set()
    reached: set[str] = set()

    async def walk() -> None:
        for chooser in Odometer(most_faults, only=only):
            world = await play(chooser, story, BAR_CODE)
            reached_faults.update(chooser.faults)
            reached.update(world.reached, map(_end, (await world.order()).charges))

    asyncio.run(walk())
    confirmed = {
        (f"payer {moment}", way)
        for moment in ("before GET", "after GET", "after POST")
        for way in scenarios.PAYER_WAYS[1:]
    }
    wrong = {"POST": _bad("POST charges", POST_WAYS), "commit": _bad("commit", COMMIT_WAYS)}
    for where in set(only) & set(wrong):
        assert wrong[where] <= reached_faults
    assert confirmed <= reached_faults, confirmed - reached_faults
    assert ends <= reached, ends - reached


def _end(charge: Charge) -> str:
    """What became of it, in short."""
    if charge.state is ChargeState.SUCCEEDED:
        return "paid after all" if charge.extra == BAR_CODE.extra else "paid"
    ends = {ChargeState.CLOSED: "reversed", ChargeState.REVERSED: "given back"}
    return ends.get(charge.state, "given up")


def _bad(where: str, ways: tuple[str, ...]) -> set[tuple[str, str]]:
    return {(where, way) for way in ways[1:]}
