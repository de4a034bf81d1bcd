"""Lines about refused callers: each is named, none fills the log."""

import asyncio
import logging

import pytest

from midas.rpc.callers import Caller
from midas.rpc.refusals import CALLERS_NAMED, Refusals

NOT_PERMITTED = "CALLER_NOT_PERMITTED"
MALLORY = Caller("CN:mallory", "192.0.2.1")


def named(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    """Who was named, and the count."""
    lines = [each.__dict__ for each in caplog.records if each.msg == "caller_refused"]
    return [(each["caller"], each["count"]) for each in lines]


def minute_passes(refusals: Refusals, worth_a_line: int = 1) -> None:
    """What the timer of each caller does."""
    for key in list(refusals._counts):
        refusals._look_again(key, worth_a_line)


async def test_the_timer_looks_again(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else has to call for the number of the others."""
    again = asyncio.Event()

    class Watched(Refusals):
        def _look_again(self, *arguments: object) -> None:
            super()._look_again(*arguments)  # type: ignore[arg-type]
            again.set()

    refusals = Watched(pause_s=0.001)
    refusals.log(NOT_PERMITTED, MALLORY, "m")
    refusals.log(NOT_PERMITTED, MALLORY, "m")
    await again.wait()
    assert named(caplog) == [("CN:mallory", 1), ("CN:mallory", 1)]


async def test_the_first_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """The line has all that helps to find him."""
    Refusals().log(NOT_PERMITTED, MALLORY, "midas.v1.PaymentService/Charge")
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert (
        line.__dict__
        | {
            "reason": NOT_PERMITTED,
            "caller": "CN:mallory",
            "peer": "192.0.2.1",
            "method": "midas.v1.PaymentService/Charge",
            "count": 1,
        }
        == line.__dict__
    )


async def test_further_ones_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """One line now, one with the number of the others later, and none once he has stopped."""
    refusals = Refusals()
    for _ in range(1000):
        refusals.log(NOT_PERMITTED, MALLORY, "m")
    assert named(caplog) == [("CN:mallory", 1)]
    minute_passes(refusals)
    assert named(caplog) == [("CN:mallory", 1), ("CN:mallory", 999)]
    minute_passes(refusals)
    refusals.log(NOT_PERMITTED, MALLORY, "m")
    assert named(caplog)[2:] == [("CN:mallory", 1)]


async def test_what_happens_to_good_callers_too_is_logged_from_a_number_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Three in a minute get no line."""
    refusals = Refusals()
    for _ in range(3):
        refusals.log("CALLS_TAKEN_BACK", MALLORY, "m", worth_a_line=4)
    minute_passes(refusals, worth_a_line=4)
    assert named(caplog) == []
    for _ in range(6):
        refusals.log("CALLS_TAKEN_BACK", MALLORY, "m", worth_a_line=4)
    assert named(caplog) == [("CN:mallory", 4)]


async def test_callers_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Ten thousand addresses are neither so many lines nor so much memory."""
    refusals = Refusals()
    for number in range(10_000):
        refusals.log(NOT_PERMITTED, Caller("", f"192.0.2.{number}"), "m")
    assert len(named(caplog)) == CALLERS_NAMED + 1
    assert named(caplog)[-1] == ("others", 1)
