"""How long Ping++ may be asked on behalf of a caller who waits."""

import math
from dataclasses import dataclass
from datetime import timedelta

from midas.ports import Clock


@dataclass(frozen=True, slots=True)
class Deadline:
    """One end for all the calls of a flow, however many there are."""

    clock: Clock | None = None
    at: float = math.inf

    def left(self) -> timedelta | None:
        """What a call may still take; None where nobody waits, and 0 when it is over."""
        if self.clock is None:
            return None
        return timedelta(seconds=max(0.0, self.at - self.clock.monotonic()))

    def at_most(self, longest: timedelta) -> timedelta:
        """What a call may still take, and never more than `longest`."""
        left = self.left()
        return longest if left is None else min(left, longest)


def within(clock: Clock, timeout: timedelta | None) -> Deadline:
    """The deadline of a caller who waits this long from now on; None: as long as it takes."""
    if timeout is None:
        return NO_DEADLINE
    return Deadline(clock, clock.monotonic() + timeout.total_seconds())


NO_DEADLINE = Deadline()
