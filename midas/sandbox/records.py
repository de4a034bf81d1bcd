"""Charges and refunds as the sandbox keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from midas.sandbox.channel_table import CHANNELS, Channel
from midas.sandbox.errors import Json

RefundStatus = Literal["pending", "succeeded", "failed"]


@dataclass(slots=True)
class Charge:
    """One charge; times in unix seconds of the sandbox's clock, amounts in minor units."""

    seq: int
    id: str
    created: int
    livemode: bool
    app: str
    channel: str
    order_no: str
    client_ip: str
    amount: int
    currency: str
    subject: str
    body: str
    extra: Json
    time_expire: int
    metadata: Json
    description: str | None
    paid: bool = False
    reversed: bool = False
    time_paid: int | None = None
    transaction_no: str | None = None
    failure_code: str | None = None
    failure_msg: str | None = None
    opened_at: float | None = None
    hidden_until_paid: bool = False

    @property
    def shown(self) -> bool:
        """Whether Ping++ shows it."""
        return self.paid or not self.hidden_until_paid

    @property
    def rules(self) -> Channel:
        """The rules of this charge's channel."""
        return CHANNELS[self.channel]

    def six_elements(self) -> tuple[str, str, int, str, str, str]:
        """What decides "the same request" (pingpp.md section 8)."""
        return (self.order_no, self.channel, self.amount, self.subject, self.body, self.app)

    def expired(self, now: float) -> bool:
        """Whether it is unpaid and past `time_expire`, so that the payer cannot pay as usual."""
        return not self.paid and now >= self.time_expire


@dataclass(slots=True)
class Refund:
    """One refund of one charge."""

    seq: int
    id: str
    created: int
    charge: str
    charge_order_no: str
    app: str
    amount: int
    currency: str
    status: RefundStatus
    description: str | None
    metadata: Json = field(default_factory=dict)
    time_succeed: int | None = None
    failure_code: str | None = None
    failure_msg: str | None = None
    funding_source: str | None = None
    transaction_no: str | None = None
    needs_link: bool = False
    links_made: int = 0

    @property
    def holds_money(self) -> bool:
        """Whether it counts against what may still be refunded."""
        return self.status != "failed"
