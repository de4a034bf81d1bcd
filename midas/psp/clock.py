"""Ping++'s clock, from the `Date` of its answers. Pure, except for the clock that it is given.

    the answer's Date - our monotonic clock half-way through the call = one offset
    the median of the offsets of the last minutes + our monotonic clock = Ping++'s clock now

In a median, single answers that were slow, or made by a machine whose clock is wrong, do not count.
An answer that is far from the others means that some clock has stepped, and nobody knows which. The
offsets before it are forgotten.
"""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from statistics import median

ANSWERS_LEAST = 5
"""How many answers are needed. The clock is unknown while there are fewer."""
MEMORY_S = 600.0
"""How long an answer counts."""
JUMP_S = 300.0
"""An answer that is further than this from the others is a step of some clock."""
ANSWERS_KEPT = 100
SPACING_S = MEMORY_S / ANSWERS_KEPT
"""Once all places are taken, answers are kept at this distance: they cover the whole memory."""
ALARM_PAUSE_S = MEMORY_S
"""How long no other alarm follows: two machines of Ping++ that disagree are one alarm."""


class PspClock:
    """Ping++'s clock by its answers. `monotonic` gives seconds that never step."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._offsets: deque[tuple[float, float]] = deque(maxlen=ANSWERS_KEPT)
        """The moment of each answer and its offset, oldest first."""
        self._usual = 0.0
        self._last: tuple[float, float] | None = None
        self._alarmed_at: float | None = None

    def record_answer(self, date: str, began: float, ended: float) -> bool:
        """Record an answer to a call that took from `began` to `ended`, monotonic seconds.

        True: it is far from the answers before it, which are forgotten; raise an alarm. A date that
        cannot be read is skipped.
        """
        seconds = _seconds(date)
        if seconds is None:
            return False
        offset = seconds - (began + ended) / 2
        self._last = ended, offset
        self._forget(ended)
        jumped = bool(self._offsets) and abs(offset - self._usual) > JUMP_S
        if jumped:
            self._offsets.clear()
        full = len(self._offsets) == ANSWERS_KEPT
        if not full or ended - self._offsets[-1][0] >= SPACING_S:
            self._offsets.append((ended, offset))
            self._usual = median(each for _, each in self._offsets)
        return jumped and self._is_news(ended)

    def now(self) -> datetime | None:
        """Ping++'s clock; None while it has fewer than five answers of the last ten minutes."""
        at = self._monotonic()
        self._forget(at)
        if len(self._offsets) < ANSWERS_LEAST:
            return None
        return datetime.fromtimestamp(at + self._usual, UTC)

    def latest(self) -> datetime | None:
        """Ping++'s clock by the last answer alone, which may be wrong; None if that is older."""
        at = self._monotonic()
        if self._last is None or self._last[0] < at - MEMORY_S:
            return None
        return datetime.fromtimestamp(at + self._last[1], UTC)

    def _forget(self, at: float) -> None:
        before = len(self._offsets)
        while self._offsets and self._offsets[0][0] < at - MEMORY_S:
            self._offsets.popleft()
        if self._offsets and len(self._offsets) < before:
            self._usual = median(each for _, each in self._offsets)

    def _is_news(self, at: float) -> bool:
        if self._alarmed_at is not None and at < self._alarmed_at + ALARM_PAUSE_S:
            return False
        self._alarmed_at = at
        return True


@lru_cache(maxsize=8)
def _seconds(date: str) -> float | None:
    """Unix seconds; half a second is added, since a Date is cut to whole ones."""
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return moment.timestamp() + 0.5 if moment.tzinfo is not None else None
