"""How many requests that show no valid signature get a line in the log.

A flood of forged webhooks would otherwise fill the disk, and hide what happens meanwhile. So the
first ones of a window get a line each, the rest are counted, and the counts are logged when the
window is over. The metrics count all of them.
"""

import asyncio
import logging
from collections import Counter

LINES = 20
"""How many lines a window has."""
WINDOW_S = 60.0

_log = logging.getLogger("midas.gateway")


class RefusalLines:
    """Decides which refusals get a line. It needs a running event loop at the first refusal."""

    def __init__(self, lines: int = LINES, window_s: float = WINDOW_S) -> None:
        self._lines = lines
        self._window_s = window_s
        self._written = 0
        self._counted: Counter[str] = Counter()
        self._end: asyncio.TimerHandle | None = None

    def has_line(self, outcome: str) -> bool:
        """Whether this refusal gets a line; if not, it is counted by its outcome."""
        if self._end is None:
            self._end = asyncio.get_running_loop().call_later(self._window_s, self.close)
        if self._written < self._lines:
            self._written += 1
            return True
        self._counted[outcome] += 1
        return False

    def close(self) -> None:
        """End the window: one line for each outcome that was counted."""
        if self._end is not None:
            self._end.cancel()
        for outcome, count in self._counted.items():
            _log.warning("webhooks_refused", extra={"verdict": outcome, "count": count})
        self._written, self._end = 0, None
        self._counted.clear()
