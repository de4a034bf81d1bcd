"""Ping++'s clock by its answers."""

from datetime import UTC, datetime, timedelta
from email.utils import formatdate

import pytest

from midas.psp.clock import ALARM_PAUSE_S, ANSWERS_KEPT, ANSWERS_LEAST, JUMP_S, MEMORY_S, PspClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


class ClockBench:
    """A clock of Ping++, and ours that never steps, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 50.0
        self.ahead = NOON - self.seconds
        self.clock = PspClock(lambda: self.seconds)

    def answer(self, wrong_s: float = 0.0, took_s: float = 0.0, pause_s: float = 1.0) -> bool:
        """One answer after a pause, made in the middle of its call by a clock that may be wrong."""
        self.seconds += pause_s + took_s
        made_at = self.seconds - took_s / 2 + self.ahead + wrong_s
        return self.clock.record_answer(
            formatdate(made_at, usegmt=True), self.seconds - took_s, self.seconds
        )

    def error_s(self) -> float:
        """How far the clock is from the truth."""
        now = self.clock.now()
        assert now is not None
        return now.timestamp() - (self.seconds + self.ahead)


def test_the_last_answer_alone() -> None:
    """One answer is enough for `latest`, even if it is far from the others; an old one is not."""
    seconds = 1000.0
    clock = PspClock(lambda: seconds)
    assert clock.latest() is None
    clock.record_answer("Sun, 01 Mar 2026 12:00:00 GMT", 999.0, 1000.0)
    clock.record_answer("Sun, 01 Mar 2026 10:00:00 GMT", 999.0, 1000.0)
    seconds = 1060.0
    latest = clock.latest()
    assert latest is not None
    assert abs(latest - datetime(2026, 3, 1, 10, 1, tzinfo=UTC)) < timedelta(seconds=2)
    assert clock.now() is None
    seconds = 1601.0
    assert clock.latest() is None


def test_the_time_is_known_from_five_answers_on() -> None:
    """With fewer it is unknown. Then it goes on by a clock that never steps."""
    bench = ClockBench()
    for _ in range(ANSWERS_LEAST - 1):
        assert not bench.answer()
        assert bench.clock.now() is None
    bench.answer()
    bench.seconds += 123
    assert abs(bench.error_s()) <= 1


def test_answers_are_forgotten_after_ten_minutes() -> None:
    """Only the answers of the last ten minutes count."""
    bench = ClockBench()
    for _ in range(ANSWERS_LEAST):
        bench.answer()
    bench.seconds += MEMORY_S - ANSWERS_LEAST
    assert bench.clock.now() is not None
    bench.seconds += ANSWERS_LEAST + 1
    assert bench.clock.now() is None


def test_the_median_counts_and_single_answers_do_not() -> None:
    """Two of five that are minutes wrong move nothing; neither does a slow call."""
    bench = ClockBench()
    for wrong_s in (0, 200, 0, -200, 0):
        assert not bench.answer(wrong_s)
    assert abs(bench.error_s()) <= 1
    bench.answer(took_s=28)
    assert abs(bench.error_s()) <= 1


@pytest.mark.parametrize("jump_s", [JUMP_S + 2, -JUMP_S - 2, 86_400])
def test_a_jump_raises_one_alarm_and_clears_the_offsets(jump_s: float) -> None:
    """Nobody knows which clock stepped, so the time is not known until five answers agree again."""
    bench = ClockBench()
    for _ in range(ANSWERS_LEAST):
        bench.answer()
    bench.ahead += jump_s
    assert bench.answer()
    assert bench.clock.now() is None
    for _ in range(ANSWERS_LEAST - 1):
        assert not bench.answer()
    assert abs(bench.error_s()) <= 1


def test_less_than_a_jump_is_followed_quietly() -> None:
    """Clocks are set by minutes."""
    bench = ClockBench()
    for _ in range(ANSWERS_LEAST):
        bench.answer()
    bench.ahead += JUMP_S - 2
    for _ in range(ANSWERS_LEAST + 1):
        assert not bench.answer()
    assert abs(bench.error_s()) <= 1


def test_two_machines_that_disagree_never_give_a_time_and_alarm_once_in_ten_minutes() -> None:
    """A log that is full of one line hides the others."""
    bench = ClockBench()
    alarms = 0
    for n in range(600):
        alarms += bench.answer(wrong_s=1000 * (n % 2))
        assert n < ANSWERS_LEAST or bench.clock.now() is None
    assert alarms == 1
    bench.seconds += ALARM_PAUSE_S
    bench.answer()
    assert bench.answer(wrong_s=1000)


def test_many_answers_are_kept_so_that_they_reach_over_ten_minutes() -> None:
    """A thousand answers in a second that are wrong do not outvote the minutes before."""
    bench = ClockBench()
    for _ in range(1000):
        bench.answer()
    for _ in range(5 * ANSWERS_KEPT):
        bench.answer(wrong_s=200, pause_s=0.001)
    assert abs(bench.error_s()) <= 1


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Mar 2026 12:00:00 GMT", "0" * 10_000])
def test_what_is_no_date_is_passed_over(date: str) -> None:
    """A bad date does not break the call that it answers."""
    bench = ClockBench()
    for _ in range(ANSWERS_LEAST):
        bench.answer()
    assert not bench.clock.record_answer(date, bench.seconds, bench.seconds)
    assert abs(bench.error_s()) <= 1
