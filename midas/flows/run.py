"""One run of looks at many rows: is a row missing, or does Midas ask the wrong account? Pure.

If Midas has a wrong key, app or address, Ping++ says of every row that it does not exist. That is
one fault of configuration: it calls one person and changes no row. So while a run has found
nothing, what it misses is put off until its end. It is put off for good once the first
`limits.RUN_FIRST_LOOKS` looks have all been in vain.
"""

from midas import limits


class Run:
    """What one run has found so far. A row that is looked at by itself has a run of its own."""

    def __init__(self, *, many: bool = True, first_looks: int = limits.RUN_FIRST_LOOKS) -> None:
        """`many`: the run looks at many rows. It records no missing row before it finds one."""
        self._many = many
        self._first_looks = first_looks
        self._found = False
        self._missed = 0
        self.put_off: list[str] = []
        """The orders whose missing rows are not written down yet, each once."""

    def may_write_after(self, order_no: str, *, answered: bool, blind: bool) -> bool:
        """Whether the outcome of this look may be written down.

        `answered`: Ping++ showed something. `blind`: that was not the row, or Ping++ refused Midas.
        """
        self._found |= answered and not blind
        self._missed += blind
        put_off = blind and self._many and not self._found
        if put_off and order_no not in self.put_off:
            self.put_off.append(order_no)
        return not put_off

    @property
    def is_blind(self) -> bool:
        """Whether so many looks have found nothing at all that the fault is Midas's own."""
        return self._many and not self._found and self._missed >= self._first_looks
