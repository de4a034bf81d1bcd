"""How far Ping++'s clock may be from the database's, and when that is not known (R6)."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from midas import limits
from midas.flows.skew import Skew

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WIDE, KEPT, STEP = limits.CLOCK_SKEW, limits.CLOCK_SKEW_KEPT, limits.CLOCK_STEP
SECOND = timedelta(seconds=1)


def steady(seconds: float = 10, at: datetime = NOON) -> Skew:
    """Ping++ is so many seconds ahead, for a while from then on."""
    skew = Skew()
    for n in range(5):
        now = at + n * SECOND
        skew.note(now + timedelta(seconds=seconds), now)
    return skew


def reach(skew: Skew, written_at: datetime) -> tuple[timedelta, timedelta]:
    """How much earlier and later than this Ping++ may date it."""
    first, last = skew.dated(written_at)
    return first - written_at, last - written_at


def test_without_a_reading_the_window_is_wide() -> None:
    """Ping++'s clock is not known yet, or not any more."""
    skew = Skew()
    assert reach(skew, NOON) == (-WIDE, WIDE)
    skew = steady()
    skew.note(None, NOON + 60 * SECOND)
    assert reach(skew, NOON) == (-WIDE, WIDE)


@pytest.mark.parametrize("seconds", [0, 10, -200, 299])
def test_a_measured_skew_is_followed_with_a_minute_on_each_side(seconds: float) -> None:
    """Whatever it is, as long as it stays."""
    ahead = timedelta(seconds=seconds)
    assert reach(steady(seconds), NOON + SECOND) == (ahead - KEPT, ahead + KEPT)


def test_less_than_a_step_widens_it_by_as_much() -> None:
    """The charge was written before or after the clock was set: both are looked through."""
    skew = steady(0)
    skew.note(NOON + 300 * SECOND, NOON + 100 * SECOND)
    assert reach(skew, NOON) == (-KEPT, 200 * SECOND + KEPT)


def test_what_was_written_before_the_first_reading_is_looked_for_widely() -> None:
    """Nobody in this process knows how the clocks stood then. Around either of them, too."""
    skew = steady(200)
    assert reach(skew, NOON - SECOND) == (-WIDE, 200 * SECOND + WIDE)


@pytest.mark.parametrize("stepped", ["psp", "store forward", "store back"])
def test_a_step_is_an_alarm_and_makes_it_wide(
    stepped: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: for all that was written before it, by any clock. What is written later is measured.

    A database whose clock steps back shows times a second time; those are taken for the first.
    """
    skew = steady(0)
    step = STEP / 2 + 2 * SECOND
    ahead, now = {
        "psp": (step, NOON + 60 * SECOND),
        "store forward": (-step, NOON + 60 * SECOND + step),
        "store back": (step, NOON + 60 * SECOND - step),
    }[stepped]
    skew.note(now - ahead, now)
    assert not caplog.records
    skew.note(now + ahead, now)
    assert [(each.message, each.levelno) for each in caplog.records] == [
        ("clock_skew", logging.ERROR)
    ]
    latest = max(now, NOON + 4 * SECOND)
    first, last = reach(skew, latest - SECOND)
    assert first <= -WIDE
    assert last >= WIDE
    skew.note(now + ahead + 10 * SECOND, now + 10 * SECOND)
    assert reach(skew, latest + SECOND) == (ahead - KEPT, ahead + KEPT)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("seconds", [301, -301, 86_400])
def test_clocks_that_are_far_apart_are_one_alarm_and_not_believed(
    seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Which of them is wrong is not known; what Ping++ says now is looked through as well."""
    skew = steady(seconds)
    ahead = timedelta(seconds=seconds)
    assert [each.message for each in caplog.records] == ["clock_skew"]
    least, most = min(ahead, 0 * SECOND), max(ahead, 0 * SECOND)
    assert reach(skew, NOON + 5 * SECOND) == (least - WIDE, most + WIDE)
