"""Amounts, states and lengths of time as they are written."""

from datetime import timedelta

import pytest

from midas.cli.fields import Length
from midas.cli.show import data, money
from midas.v1.charge_pb2 import Charge


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1234, "cny", "12.34 CNY (1234 fen)"),
        (5, "cny", "0.05 CNY (5 fen)"),
        (-105, "cny", "-1.05 CNY (-105 fen)"),
        (100, "usd", "1.00 USD (100 minor units)"),
        (100, "jpy", "100 JPY"),
        (2**62 + 1, "cny", "46116860184273879.05 CNY (4611686018427387905 fen)"),
    ],
)
def test_money(amount: int, currency: str, text: str) -> None:
    """Both ways of writing an amount agree, exactly, however large it is."""
    assert money(amount, currency) == text


def test_a_state_of_a_newer_midas_is_shown_as_its_number() -> None:
    """An enum value that this version does not know does not break the output."""
    assert data(Charge(state=99))["state"] == "99"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("1h30m", timedelta(minutes=90)),
        ("1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
    ],
)
def test_lengths_of_time(text: str, length: timedelta) -> None:
    """A length of time is read as it is written."""
    assert Length().convert(text, None, None) == length
