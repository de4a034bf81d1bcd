"""The sandbox's time: real time, faster when wanted, and never backwards."""

from __future__ import annotations

import time
from collections.abc import Callable

from midas.sandbox.errors import ControlError


class SandboxClock:
    """Unix seconds that pass `scale` times as fast as real ones and can be moved forward."""

    def __init__(self, scale: float = 1.0) -> None:
        if scale <= 0:
            raise ControlError("the clock cannot stand still or run backwards")
        self._scale = scale
        self._started_at = time.monotonic()
        self._starts_with = time.time()
        self._watchers: list[Callable[[], None]] = []

    def now(self) -> float:
        """Unix seconds."""
        return self._starts_with + (time.monotonic() - self._started_at) * self._scale

    def advance(self, seconds: float) -> float:
        """Move forward and return the new time."""
        if not 0 <= seconds < float("inf"):
            raise ControlError("the clock only moves forward")
        self._starts_with += seconds
        for moved in self._watchers:
            moved()
        return self.now()

    def not_before(self, moment: float) -> None:
        """Move forward to a moment that an earlier run has reached, if it is ahead."""
        self._starts_with += max(0.0, moment - self.now())

    def watch(self, moved: Callable[[], None]) -> None:
        """Call `moved` after every `advance`, before `advance` returns."""
        self._watchers.append(moved)

    def to_real(self, seconds: float) -> float:
        """How many real seconds these seconds of the sandbox take when nobody moves the clock."""
        return seconds / self._scale

    def from_real(self, seconds: float) -> float:
        """How many seconds pass in the sandbox during these real ones."""
        return seconds * self._scale
