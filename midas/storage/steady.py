"""The machine's clock without its steps. It serves SQLite, which has no clock of its own.

A clock that is set forward would end a payer's time, a settle window or a lease too early. A clock
that is set back would keep what is due waiting.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from math import copysign

_log = logging.getLogger(__name__)

SLEW = 1 / 20
"""How much faster or slower it runs while it differs from the machine's clock."""
APART_S = 60.0
"""A larger difference of the two clocks is logged."""


_since_boot: Callable[[], float] = time.monotonic
"""Seconds that never step; on Linux they go on while the machine is asleep."""
if hasattr(time, "CLOCK_BOOTTIME"):
    _since_boot = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class SteadyClock:
    """Begins with the machine's clock, goes on evenly, and never back.

    Where the two differ later it closes the gap slowly: a correction of an hour takes 20 hours.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = _since_boot,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._read_at = steady()
        self._shown = wall()
        self._apart = False
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The time. Any thread may ask for it."""
        return datetime.fromtimestamp(self._seconds(), UTC)

    def _seconds(self) -> float:
        with self._lock:
            read_at = self._steady()
            passed = read_at - self._read_at
            self._read_at = read_at
            shown = self._shown + passed
            gap = self._wall() - shown
            most = passed * SLEW
            shown += gap if -most <= gap <= most else copysign(most, gap)
            self._shown = shown
            apart = not -APART_S <= gap <= APART_S
            stepped, self._apart = apart and not self._apart, apart
        if stepped:
            _log.warning("clock_stepped", extra={"seconds": round(gap)})
        return shown


CLOCK = SteadyClock()
"""The clock of this process."""
