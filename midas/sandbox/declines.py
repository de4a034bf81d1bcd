"""Bar codes that the channel declines: 402, though the payer may still confirm on his phone.

Ping++ shows such a charge as unpaid, or does not show it until it is paid. pingpp.md does not say
which, so both can be played.
"""

from __future__ import annotations

from dataclasses import dataclass

from midas.sandbox.errors import ControlError
from midas.sandbox.records import Charge

DECLINED = "channel_request_error"
DECLINED_MSG = "The request for channel was unsuccessful. Error message from channel: 余额不足"


@dataclass(slots=True)
class DeclinePlan:
    """The next `times` bar codes that match are declined (None: all from now on)."""

    listed: bool = True
    times: int | None = 1
    channel: str | None = None
    order_no: str | None = None
    code: str | None = None
    msg: str | None = None

    def __post_init__(self) -> None:
        if type(self.listed) is not bool:
            raise ControlError("listed must be true or false")
        if self.times is not None and (type(self.times) is not int or self.times < 1):
            raise ControlError("times must be a whole number above zero, or null for every one")

    def takes(self, charge: Charge) -> bool:
        """Whether this plan declines the charge. If so, the charge is counted."""
        wanted = (self.channel, self.order_no)
        same = all(
            w in (None, is_)
            for w, is_ in zip(wanted, (charge.channel, charge.order_no), strict=True)
        )
        if self.times == 0 or not same:
            return False
        if self.times is not None:
            self.times -= 1
        return True
