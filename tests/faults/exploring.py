"""Every schedule of a story, and the story of the one that broke a promise.

A failure shows what happened, step by step, what all three ledgers hold at the end, and one line
that plays it again. It does not show the thousands of log lines of the schedules that went well.
"""

import logging
import traceback
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import pytest

from midas.charge import ChargeTerms
from tests.faults import event_scenarios, scenarios
from tests.faults.chooser import Chooser, Odometer
from tests.faults.conservation import EVERYTHING
from tests.faults.scenarios import ALIPAY, APP, BAR_CODE, QR_CODE, TERMS, Story, play, play_in
from tests.faults.world import World

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

OFFERS = {each.channel: each for each in (TERMS, ALIPAY, APP, BAR_CODE, QR_CODE)}
WHOLE = (0, 1)
"""The share that is all of it."""
EVERY_CALL = ("",)
ODD_CALLS = ("GET", "POST")
"""Where faults are put in when the answers are odd: nowhere but at Ping++."""
NO_FAULT = "-"
"""The schedule in which all goes well."""


def runs(
    stories: Iterable[tuple[Story, ChargeTerms, int, int]],
) -> Iterator["ParameterSet"]:
    """Parameters `story, terms, most_faults, share` for each story, offer, faults and shares.

    With shares the whole walk is long: it is left to .ci/run, in so many tests, and one fault less
    is walked with at every run.
    """
    for story, terms, faults, shares in stories:
        name = f"{story.__name__}-{terms.channel}"
        yield pytest.param(story, terms, faults - bool(shares), WHOLE, id=name)
        for share in range(shares):
            named = f"{name}-{faults}-share{share}"
            marks = pytest.mark.long
            yield pytest.param(story, terms, faults, (share, shares), id=named, marks=marks)


async def explore(
    story: Story,
    terms: ChargeTerms,
    most_faults: int,
    *,
    loses: int = 0,
    share: tuple[int, int] = WHOLE,
    odd: bool = False,
) -> AsyncIterator[tuple[Chooser, World]]:
    """Play the story under every schedule, or a share of them. The first bad one fails the test.

    `share` is (number, of how many); together they are all schedules. `odd`: as `play` has it.
    """
    for chooser in Odometer(most_faults, *share, only=ODD_CALLS if odd else EVERY_CALL):
        broken = ""
        try:
            with _logging_off():
                world = await play(chooser, story, terms, loses=loses, odd=odd)
        except Exception:
            with _logging_off():
                broken = await described(story, terms, chooser.digits, loses=loses, odd=odd)
        if broken:  # outside of the except block, or that exception would be printed, too
            pytest.fail(broken, pytrace=False)
        yield chooser, world


async def described(
    story: Story,
    terms: ChargeTerms,
    digits: Sequence[int],
    *,
    loses: int = 0,
    odd: bool = False,
) -> str:
    """Play one schedule. The text is what happened, its end, and how to play it again."""
    chooser = Chooser(digits, len(digits), ODD_CALLS if odd else EVERY_CALL)
    world = World(chooser, terms, loses=loses)
    try:
        await play_in(world, story, odd=odd)
        outcome = "all promises are kept"
    except Exception as broken:
        outcome = _what_broke(broken)
    return "\n".join(
        [
            outcome,
            *_steps(chooser, loses),
            *await _ledgers(world),
            *_again(story, terms, digits, loses, odd=odd),
        ]
    )


def story_of(name: str) -> Story:
    """The story of this name."""
    found: Story = getattr(scenarios, name, None) or getattr(event_scenarios, name)
    return found


def _what_broke(broken: Exception) -> str:
    """The check that failed, and where in the tests or the product."""
    ours = [each for each in traceback.extract_tb(broken.__traceback__) if each.line]
    where = f"{ours[-1].filename}:{ours[-1].lineno} ({ours[-1].name})" if ours else ""
    words = str(broken).partition("\nassert ")[0] or type(broken).__name__
    kind = "" if isinstance(broken, AssertionError) else f"{type(broken).__qualname__}: "
    return f"{kind}{words}\n  at {where}"


def _steps(chooser: Chooser, loses: int) -> Iterator[str]:
    yield f"What happened{f', while commit number {loses} was lost' if loses else ''}:"
    for (where, way, digit), again in groupby(
        (*step, digit) for step, digit in zip(chooser.trace, chooser.digits, strict=True)
    ):
        times = len(list(again))
        often = f", {times} times" if times > 1 else ""
        yield f"  {where}: {way}{often}{'   <-- fault' if digit else ''}"
    yield "  then all was healed"


async def _ledgers(world: World) -> list[str]:
    order = await world.order()
    lines = ["Ping++ holds:"]
    for shown in world.lookalike.newest_charges(EVERYTHING):
        lines.append(
            f"  charge {_only(shown, 'order_no', 'id', 'channel', 'amount', 'paid', 'reversed')}"
        )
        lines += [
            f"    refund {_only(each, 'id', 'amount', 'status', 'metadata')}"
            for each in world.lookalike.refunds_of(shown["id"])
        ]
    lines.append(f"Midas holds: {order.order_no}, version {order.version}")
    for charge in order.charges:
        marks = ("superseded", "late", "duplicate_payment", "operator_reason")
        lines.append(
            f"  charge {charge.out_trade_no} {charge.charge_id} {charge.channel} {charge.amount}"
            f" {charge.state}{_marks(charge, marks)}"
        )
    for refund in order.refunds:
        lines.append(
            f"  refund {refund.refund_no} {refund.refund_id} {refund.amount}"
            f" {refund.state}{_marks(refund, ('operator_reason',))}"
        )
    lines.append("The order service received:")
    for received in world.orders.received.get(order.order_no, ()):
        about = received.refund_no or received.out_trade_no
        lines.append(f"  #{received.sequence} {received.kind} {about} {received.amount}")
    return lines


def _only(shown: dict[str, Any], *names: str) -> str:
    return " ".join(f"{name}={shown[name]}" for name in names if shown.get(name) not in (None, {}))


def _marks(row: object, names: Sequence[str]) -> str:
    marked = ((name, getattr(row, name, None)) for name in names)
    return "".join(f" {name}={value}" for name, value in marked if value)


def _again(
    story: Story, terms: ChargeTerms, digits: Sequence[int], loses: int, *, odd: bool
) -> Iterator[str]:
    lost = f" {loses}" if loses or odd else ""
    lost += " odd" if odd else ""
    name = getattr(story, "__name__", story)
    yield "Once more, with the log:"
    yield f"  uv run python -m tests.faults.replay {name} {terms.channel} {written(digits)}{lost}"


def written(digits: Sequence[int]) -> str:
    """A schedule as text: for each fault how many calls went well before it, and its way."""
    faults = [place for place, digit in enumerate(digits) if digit]
    befores = [place - before - 1 for before, place in pairwise([-1, *faults])]
    words = [f"{well}:{digits[place]}" for well, place in zip(befores, faults, strict=True)]
    return ",".join(words) or NO_FAULT


def read(schedule: str) -> list[int]:
    """The digits of a schedule, from the text that `written` makes."""
    digits: list[int] = []
    for fault in schedule.split(",") if schedule != NO_FAULT else ():
        well, way = fault.split(":")
        digits += [0] * int(well) + [int(way)]
    return digits


@contextmanager
def _logging_off() -> Iterator[None]:
    """Log nothing: a schedule that fails can be played again with its log."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
