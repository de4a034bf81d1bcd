"""When to look again. Pure; all times are the database's."""

from datetime import datetime, timedelta

RESOLVE_FIRST = timedelta(seconds=1)
RESOLVE_LONGEST = timedelta(minutes=5)
POLL_FIRST = timedelta(seconds=15)
POLL_LONGEST = timedelta(minutes=30)
AFTER_END = timedelta(seconds=5)
"""How long after the end of a charge Ping++ is asked whether it is over."""
IN_FLIGHT_MARGIN = timedelta(seconds=2)
LEASE_KEPT = timedelta(seconds=1)
"""How much of a row's lease is left when the time of its call is over."""


def while_in_flight(now: datetime, total_timeout: timedelta) -> datetime:
    """The time until which only the process that makes the call touches the row."""
    return now + total_timeout + IN_FLIGHT_MARGIN


def time_for_call(now: datetime, lease_ends: datetime, total_timeout: timedelta) -> timedelta:
    """How long a call may take that begins now, so that it is over before its row's lease is.

    The lease runs from the draft of the row, and the commit may have taken seconds. A time that is
    shorter than usual is in whole seconds. 0: the call may not begin.
    """
    left = lease_ends - LEASE_KEPT - now
    if left >= total_timeout:
        return total_timeout
    return max(timedelta(0), left - left % timedelta(seconds=1))


def next_resolve(now: datetime, looks: int) -> datetime:
    """The next look at an unknown outcome: soon at first, then after ever longer pauses."""
    return now + _growing(RESOLVE_FIRST, looks, RESOLVE_LONGEST)


def next_poll(now: datetime, looks: int, ends_at: datetime | None = None) -> datetime:
    """The next look at something that Ping++ works on or the payer has not paid yet.

    `ends_at`: when a charge is over, its grace included. One look comes just after that, so that
    its end is known soon.
    """
    due_at = now + _growing(POLL_FIRST, looks, POLL_LONGEST)
    if ends_at is None or ends_at + AFTER_END <= now:
        return due_at
    return min(due_at, ends_at + AFTER_END)


def _growing(first: timedelta, looks: int, longest: timedelta) -> timedelta:
    doublings: int = 1 << min(looks, 20)
    return min(first * doublings, longest)
