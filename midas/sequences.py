"""How an order's notifications are numbered: in epochs, so that no number is used twice (I7). Pure.

A number counts the order's notifications, above a floor that all orders share. The floor is raised
when commits may be gone, after a failover or a restore. Notifications of those commits were perhaps
delivered, and the next ones must not look like repeats of them.
"""

EPOCH = 1 << 20
"""The numbers of one epoch. Floors are multiples of it; no order has as many notifications."""
SEQUENCE_MOST = 2**53 - 1
"""The highest number that a receiver written in JavaScript does not round. Clocks reach it in the
year 2297."""
CLOCK_FROM = 1_735_689_600
"""2025-01-01 in Unix seconds. A new epoch is at least the number of seconds since then. So a floor
is not used again, even if a second failover loses that it was raised."""


def raised_floor(floor: int, unix_seconds: int) -> int:
    """The floor after `floor`, at this time of the server's clock."""
    return max(epoch_above(floor), (unix_seconds - CLOCK_FROM) * EPOCH)


def epoch_above(sequence: int) -> int:
    """The lowest floor above this number. A new epoch is no gap: its first number is floor + 1."""
    return (sequence // EPOCH + 1) * EPOCH
