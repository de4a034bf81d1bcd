"""The number of a charge: its form, what it tells, and what is not one."""

from datetime import UTC, datetime, timedelta

import pytest

from midas.flows.payment_calls import _Chance, new_out_trade_no
from midas.out_trade_no import CHANCE_BITS, made_at, out_trade_no

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
MOST = (1 << CHANCE_BITS) - 1


@pytest.mark.parametrize("chance", [0, 1, MOST])
@pytest.mark.parametrize("later", [timedelta(0), timedelta(days=200 * 365)])
def test_a_number_tells_when_it_was_made(later: timedelta, chance: int) -> None:
    """To the millisecond, for the next 250 years, whatever chance put behind it."""
    number = out_trade_no(NOON + later, chance)
    assert made_at(number) == NOON + later
    assert (len(number), number.isalnum(), number.isascii()) == (20, True, True)


def test_later_numbers_are_greater() -> None:
    """An index grows at its end, and an order's charges stand by age, also of one moment."""
    moments = [NOON + n // 100 * timedelta(milliseconds=1) for n in range(1000)]
    numbers = [new_out_trade_no(each) for each in moments]
    assert numbers == sorted(set(numbers))
    assert [made_at(each) for each in numbers] == moments


def test_each_moment_draws_anew() -> None:
    """Else the numbers of a process would use up what there is, and tell how many it has made."""
    chance = _Chance()
    drawn = [chance.bits(NOON + timedelta(milliseconds=n)) for n in range(50)]
    assert drawn != sorted(drawn)


@pytest.mark.parametrize(
    "number",
    [
        "",
        "never1",
        "123456789",
        "0B58PLHJ2FHONMQP74M",  # 19
        "0B58PLHJ2FHONMQP74MCC",  # 21
        "0b58plhj2fhonmqp74mc",
        "0B58PLHJ2FHONMQP74MW",  # beyond V
        "0B58PLHJ2_HONMQP74MC",  # int() would take these three
        " 0B58PLHJ2FHONMQP74M",
        "+0B58PLHJ2FHONMQP74M",
        "٠B58PLHJ2FHONMQP74MC",
    ],
)
def test_another_form_is_no_number_of_ours(number: str) -> None:
    """20 characters of our alphabet, and nothing that only reads like them."""
    assert made_at(number) is None


def test_a_number_by_date_was_not_made_then() -> None:
    """What other systems like to use has our form, and another time in it."""
    made = made_at("20260301120000123456")
    assert made is not None
    assert abs(made - NOON) > timedelta(days=1000)
