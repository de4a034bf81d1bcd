"""Log lines about callers who are refused: enough to name them, never a flood."""

import asyncio
import logging

from midas.rpc.callers import Caller

PAUSE_S = 60.0
"""How long a caller's refusals are only counted after a line about him."""
CALLERS_NAMED = 256
"""How many callers have lines of their own at a time; all others are counted as one."""

_log = logging.getLogger(__name__)

Key = tuple[str, str]
"""The reason, and the caller's name, or his address if he has none."""


class Refusals:
    """Logs the first refusal of a caller at once, and then once a minute how many there were."""

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self._counts: dict[Key, int] = {}
        """Refusals since the last line, by reason and caller."""
        self._logged: dict[Key, Caller] = {}
        """The callers who have had a line, as they were known then."""

    def log(self, reason: str, caller: Caller, method: str, worth_a_line: int = 1) -> None:
        """Log that this caller's call was refused, or count it. Needs a running event loop.

        Fewer than `worth_a_line` within a minute are not logged: they happen to good callers, too.
        """
        key = (reason, caller.name or caller.address)
        if key not in self._counts and len(self._counts) >= CALLERS_NAMED:
            caller = Caller("others", "")
            key = (reason, caller.name)
        if key not in self._counts:
            self._counts[key] = 0
            self._look_again_later(key, worth_a_line)
        self._counts[key] += 1
        if self._counts[key] == worth_a_line and key not in self._logged:
            self._logged[key] = caller
            self._log_count(key, method)

    def _look_again_later(self, key: Key, worth_a_line: int) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._pause_s, self._look_again, key, worth_a_line)

    def _look_again(self, key: Key, worth_a_line: int) -> None:
        """Log how many there were since the last line; forget a caller who has stopped."""
        if key in self._logged and self._counts[key] >= worth_a_line:
            self._log_count(key)
            self._look_again_later(key, worth_a_line)
        else:
            del self._counts[key]
            self._logged.pop(key, None)

    def _log_count(self, key: Key, method: str = "") -> None:
        caller = self._logged[key]
        extra = {
            "reason": key[0],
            "caller": caller.name,
            "peer": caller.address,
            "method": method,
            "count": self._counts[key],
        }
        self._counts[key] = 0
        _log.warning("caller_refused", extra=extra)
