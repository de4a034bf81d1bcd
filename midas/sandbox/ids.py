"""Ids in Ping++'s newer style: digits that hold the mode and the day (pingpp.md 2, 3 and 4)."""

from __future__ import annotations

import random
import string
from datetime import datetime

from midas.sandbox.credentials import BEIJING

_BASE62 = string.digits + string.ascii_letters


class Ids:
    """Makes ids, never one twice, also after a restart that continues at a later `sequence`."""

    def __init__(self, livemode: bool, seed: int | None) -> None:
        self._mode = "01" if livemode else "00"
        self._random = random.Random(seed)  # noqa: S311 -- look-alike ids, not secrets

    def charge(self, now: float, sequence: int) -> str:
        """27 characters: `ch_1`, mode, yyMMdd, 15 digits."""
        return f"ch_1{self._mode}{_local(now, '%y%m%d')}{self._digits(8)}{sequence % 10**7:07d}"

    def refund(self, now: float, sequence: int) -> str:
        """27 characters. The digits of refunds are not documented, so they are as with charges."""
        return f"re_1{self._mode}{_local(now, '%y%m%d')}{self._digits(8)}{sequence % 10**7:07d}"

    def event(self, now: float, sequence: int) -> str:
        """28 characters: `evt_4`, mode, yyMMddHHmmss, 9 digits."""
        day = _local(now, "%y%m%d%H%M%S")
        return f"evt_4{self._mode}{day}{self._digits(2)}{sequence % 10**7:07d}"

    def request(self) -> str:
        """The `request` member of an event."""
        return "iar_" + "".join(self._random.choices(_BASE62, k=24))

    def transaction(self, now: float, length: int = 28) -> str:
        """A channel's own number, made up."""
        return _local(now, "%Y%m%d%H%M%S") + self._digits(length - 14)

    def _digits(self, count: int) -> str:
        return "".join(self._random.choices(string.digits, k=count))


def _local(now: float, layout: str) -> str:
    return datetime.fromtimestamp(now, BEIJING).strftime(layout)
