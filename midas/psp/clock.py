"""Ping++'s clock, as the `Date` of its answers tells it. Pure, but for the clock that it is given.

    what Date said - what our monotonic clock said half-way through the call = one offset
    the median of the offsets of the last minutes + our monotonic clock = Ping++'s clock now

A median keeps single answers that were slow, or made by a machine whose clock is wrong, from
counting. An answer that is far from the others says that some clock has stepped, and nobody knows
which: what was heard before is forgotten.
"""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from statistics import median

ANSWERS_LEAST = 5
"""Fewer tell nothing."""
MEMORY_S = 600.0
"""How long an answer counts."""
JUMP_S = 300.0
"""An answer that is further than this from the others is a step of some clock."""
ANSWERS_KEPT = 100
SPACING_S = MEMORY_S / ANSWERS_KEPT
"""Once so many are kept, the next one is kept so much later: they reach over all of the memory."""
ALARM_PAUSE_S = MEMORY_S
"""Two machines of Ping++ that disagree are one alarm, not one for each answer."""


class PspClock:
    """What Ping++'s answers say of its clock. `monotonic` gives seconds that never step."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._heard: deque[tuple[float, float]] = deque(maxlen=ANSWERS_KEPT)
        """When, and the offset then; oldest first."""
        self._usual = 0.0
        self._last: tuple[float, float] | None = None
        self._alarmed_at: float | None = None

    def heard(self, date: str, began: float, ended: float) -> bool:
        """Take note of an answer to a call that took from `began` to `ended`, monotonic seconds.

        True: it is far from the answers before it, which are forgotten; somebody has to be told. A
        date that cannot be read is passed over.
        """
        told = _seconds(date)
        if told is None:
            return False
        offset = told - (began + ended) / 2
        self._last = ended, offset
        self._forget(ended)
        jumped = bool(self._heard) and abs(offset - self._usual) > JUMP_S
        if jumped:
            self._heard.clear()
        full = len(self._heard) == ANSWERS_KEPT
        if not full or ended - self._heard[-1][0] >= SPACING_S:
            self._heard.append((ended, offset))
            self._usual = median(each for _, each in self._heard)
        return jumped and self._is_news(ended)

    def now(self) -> datetime | None:
        """Ping++'s clock; None while fewer than five answers of the last ten minutes tell it."""
        at = self._monotonic()
        self._forget(at)
        if len(self._heard) < ANSWERS_LEAST:
            return None
        return datetime.fromtimestamp(at + self._usual, UTC)

    def latest(self) -> datetime | None:
        """The same by the last answer alone, if that is not older; one answer may be wrong."""
        at = self._monotonic()
        if self._last is None or self._last[0] < at - MEMORY_S:
            return None
        return datetime.fromtimestamp(at + self._last[1], UTC)

    def _forget(self, at: float) -> None:
        before = len(self._heard)
        while self._heard and self._heard[0][0] < at - MEMORY_S:
            self._heard.popleft()
        if self._heard and len(self._heard) < before:
            self._usual = median(each for _, each in self._heard)

    def _is_news(self, at: float) -> bool:
        if self._alarmed_at is not None and at < self._alarmed_at + ALARM_PAUSE_S:
            return False
        self._alarmed_at = at
        return True


@lru_cache(maxsize=8)
def _seconds(date: str) -> float | None:
    """Unix seconds; half a second is added, since a Date is cut to whole ones."""
    try:
        told = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return told.timestamp() + 0.5 if told.tzinfo is not None else None
