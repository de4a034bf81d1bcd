"""The number that Midas gives a charge: how it is made, and when it was made. Pure.

20 letters and digits, valid on every channel (pingpp.md section 7): 100 bits in base 32. It begins
with the time, so that neighbours in time are neighbours in the index. 57 random bits distinguish
two numbers of the same millisecond.
"""

from datetime import UTC, datetime, timedelta

CHANCE_BITS = 57
_TIME_BITS = 43
_EPOCH = datetime.fromtimestamp(1_700_000_000, UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]
_CHARACTERS = (_TIME_BITS + CHANCE_BITS) // 5


def out_trade_no(made: datetime, chance: int) -> str:
    """The number of a charge that is made at this time, with CHANCE_BITS random bits."""
    time = (made - _EPOCH) // _MILLISECOND % (1 << _TIME_BITS)
    number = time << CHANCE_BITS | chance
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(90, -1, -10)])


def made_at(number: str) -> datetime | None:
    """When Midas would have made this number, to the millisecond; None if it has another form.

    The numbers of another system may have this form by chance, so look at the time as well.
    """
    if len(number) != _CHARACTERS or not set(number) <= set(_DIGITS):
        return None
    return _EPOCH + (int(number, 32) >> CHANCE_BITS) * _MILLISECOND
