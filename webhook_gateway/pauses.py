"""How long to wait before something that failed is tried again."""

import random

FIRST_S = 0.02
LONGEST_S = 1.0


class Pauses:
    """Growing pauses with jitter, at most LONGEST_S: a server that is back is called by then."""

    def __init__(self) -> None:
        self.count = 0
        """How many were taken since the last success."""

    def next_s(self) -> float:
        """The next pause, in seconds: between half and all of what it has grown to."""
        grown = min(FIRST_S * (1 << min(self.count, 10)), LONGEST_S)
        self.count += 1
        return grown * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    def reset(self) -> None:
        """Begin with the shortest pause again, after a success."""
        self.count = 0
