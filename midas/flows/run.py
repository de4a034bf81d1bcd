"""One run of looks at many rows: is a row missing, or does Midas ask the wrong account? Pure.

A key, an app or an address that is not the right one makes Ping++ say of every row that it does not
exist. That is one fault of configuration and calls one person; no row is changed by it. So as long
as a run has found nothing, what it misses is put off: until its end, or for good once the first
`limits.RUN_FIRST_LOOKS` looks have all been in vain.
"""

from midas import limits


class Run:
    """What one run has found so far. A row that is looked at by itself has a run of its own."""

    def __init__(self, *, many: bool = True, first_looks: int = limits.RUN_FIRST_LOOKS) -> None:
        """`many`: nothing that is missing is written before something was found."""
        self._many = many
        self._first_looks = first_looks
        self._found = False
        self._missed = 0
        self.put_off: list[str] = []
        """The orders whose missing rows are not written down yet, each once."""

    def may_write_after(self, order_no: str, *, answered: bool, blind: bool) -> bool:
        """Whether what this look came to may be written down.

        `answered`: Ping++ showed something. `blind`: not that row, or it refused Midas itself.
        """
        self._found |= answered and not blind
        self._missed += blind
        put_off = blind and self._many and not self._found
        if put_off and order_no not in self.put_off:
            self.put_off.append(order_no)
        return not put_off

    @property
    def is_blind(self) -> bool:
        """Whether nothing at all was found by so many looks that the fault is Midas's own."""
        return self._many and not self._found and self._missed >= self._first_looks
