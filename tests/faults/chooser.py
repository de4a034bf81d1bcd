"""Walks through every way in which the calls of one run can go wrong.

Each call through a port asks `choose` how it goes; option 0 is that all is well. `Odometer` first
runs with all zeros and then, digit by digit, with every sequence that holds at most `most_faults`
others. What is reached depends on what was chosen before, so the digits are found while running.
"""

from collections.abc import Sequence


class Chooser:
    """One run: answers from the prefix it was given, then with 0, and keeps what was asked."""

    def __init__(
        self, prefix: Sequence[int], most_faults: int, only: tuple[str, ...] = ("",)
    ) -> None:
        """`only`: calls whose names begin otherwise go well."""
        self._prefix = prefix
        self._faults_left = most_faults
        self._only = only
        self.trace: list[tuple[str, str]] = []
        self.digits: list[int] = []
        self.widths: list[int] = []
        self.healed = False

    def choose(self, where: str, options: Sequence[str]) -> str:
        """How this call goes. Once the allowed faults are spent, or all is healed: well."""
        if self.healed:
            return options[0]
        position = len(self.digits)
        may_fail = self._faults_left > 0 and where.startswith(self._only)
        width = len(options) if may_fail else 1
        digit = self._prefix[position] if position < len(self._prefix) else 0
        if digit:
            self._faults_left -= 1
        self.digits.append(digit)
        self.widths.append(width)
        self.trace.append((where, options[digit]))
        return options[digit]

    @property
    def faults(self) -> list[tuple[str, str]]:
        """What went wrong in this run, in order: enough to reproduce it."""
        return [step for step, digit in zip(self.trace, self.digits, strict=True) if digit]


class Odometer:
    """Every run there is, each once. `for chooser in Odometer(2): run(chooser)`.

    Or one of several shares, which together are all runs: those whose first fault has, among all
    first faults, a place that leaves the remainder `share`. The run without faults is in each.
    """

    def __init__(
        self, most_faults: int, share: int = 0, shares: int = 1, only: tuple[str, ...] = ("",)
    ) -> None:
        self._most_faults = most_faults
        self._share = share
        self._shares = shares
        self._only = only
        self._first_faults = 0
        self._prefix: list[int] | None = []
        self._last: Chooser | None = None

    def __iter__(self) -> "Odometer":
        return self

    def __next__(self) -> Chooser:
        if self._last is not None:
            self._advance(self._last)
        if self._prefix is None:
            raise StopIteration
        self._last = Chooser(self._prefix, self._most_faults, self._only)
        return self._last

    def _advance(self, last: Chooser) -> None:
        for position in reversed(range(len(last.digits))):
            before = last.digits[:position]
            for digit in range(last.digits[position] + 1, last.widths[position]):
                if any(before) or self._is_ours():
                    self._prefix = [*before, digit]
                    return
        self._prefix = None

    def _is_ours(self) -> bool:
        """Whether the next first fault belongs to this share."""
        self._first_faults += 1
        return self._first_faults % self._shares == self._share
