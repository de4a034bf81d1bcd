"""How far Ping++'s clock is from the database's: how early or late it may date what we asked for.

A reading is Ping++'s clock less the database's at one moment. While the readings agree, Ping++
dates what is written down meanwhile within them, with a minute kept on each side. After a step of
more than five minutes, nobody knows which clock is right, nor since when. So what was written
before is looked for in a window that is wide enough for both.
"""

import logging
from datetime import datetime, timedelta

from midas import limits

logger = logging.getLogger("midas.flows")


class Skew:
    """The readings of one process."""

    def __init__(self) -> None:
        self._now: timedelta | None = None
        self._far = False
        self._since: datetime | None = None
        """A time by the database's clock: all later readings are within the two below."""
        self._latest: datetime | None = None
        self._least = self._most = timedelta(0)

    def note(self, psp_now: datetime | None, store_now: datetime) -> None:
        """Take a reading, if Ping++'s clock is known.

        A reading that is more than five minutes from the others, or from zero, raises an alarm.
        """
        self._latest = store_now if self._latest is None else max(self._latest, store_now)
        self._now = None if psp_now is None else psp_now - store_now
        if self._now is None:
            return
        least, most = min(self._least, self._now), max(self._most, self._now)
        stepped = self._since is not None and most - least > limits.CLOCK_STEP
        far = abs(self._now) > limits.CLOCK_STEP
        if stepped or (far and not self._far):
            logger.error("clock_skew", extra={"reason": "stepped" if stepped else "far"})
        self._far = far
        if self._since is None or stepped or far:
            # A clock that stepped back shows times again that it has shown before.
            self._since, least, most = self._latest, self._now, self._now
        self._least, self._most = least, most

    def dated(self, written_at: datetime) -> tuple[datetime, datetime]:
        """The earliest and the latest time by Ping++'s clock for this time of the database's."""
        if self._now is None or self._far or self._since is None or written_at < self._since:
            now = self._now or timedelta(0)
            kept, least, most = limits.CLOCK_SKEW, min(now, timedelta(0)), max(now, timedelta(0))
        else:
            kept, least, most = limits.CLOCK_SKEW_KEPT, self._least, self._most
        return written_at + least - kept, written_at + most + kept
