"""The delivery of notifications: one is leased, delivered and settled. Pure."""

from datetime import datetime
from enum import StrEnum

from midas.immutable import record
from midas.payment import Notification, Order


class DeliveryOutcome(StrEnum):
    """What became of one attempt."""

    DELIVERED = "DELIVERED"
    RETRY = "RETRY"  # it may have arrived or not
    REFUSED = "REFUSED"  # the order service will never take it


@record(frozen=True, slots=True)
class Lease:
    """The first notification of an order that is not delivered, for one attempt.

    An order is leased, not a notification: nobody can be sending the second one meanwhile (I9).
    """

    token: str
    attempts: int
    """How many attempts were settled with RETRY before."""
    notification: Notification
    order: Order
    """The order as it stands. The times of the next looks at its rows may be older ones."""


UNNAMED = "UNNAMED"
"""The code of a refusal that gave none."""


@record(frozen=True, slots=True)
class Settlement:
    """What became of a lease. `code` is the order service's status, and never empty."""

    token: str
    order_no: str
    sequence: int
    outcome: DeliveryOutcome
    code: str = UNNAMED
    receiver_sequence: int = 0
    """The highest sequence that the order service has. It comes with REFUSED, if the order service
    had received something else under this sequence. 0: it gave none."""


@record(frozen=True, slots=True)
class Backlog:
    """How many notifications wait, and for how long."""

    oldest_at: datetime | None
    """When the oldest notification that is not delivered, and not parked, occurred."""
    parked: int
    """How many orders wait for a person."""
