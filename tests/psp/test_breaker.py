"""The breaker, enumerated, on a clock that only the test moves; and the bound on flows."""

import itertools
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from midas.errors import Overloaded, PspUnavailable
from midas.psp.breaker import Breaker, BreakerLimits, Gate, State

LIMITS = BreakerLimits(
    failures=3,
    window=timedelta(seconds=10),
    pause=timedelta(seconds=1),
    pause_max=timedelta(seconds=5),
)


class Bench:
    """A breaker with its clock and its dice in the test's hand."""

    def __init__(self, dice: float = 1.0) -> None:
        self.now = 1000.0
        self.breaker = Breaker(LIMITS, clock=lambda: self.now, dice=lambda: dice)

    def fail(self, times: int = 1) -> None:
        """Calls that begin now and fail now."""
        for _ in range(times):
            self.breaker.failed(self.now)

    def state(self) -> State:
        """As it is now."""
        return self.breaker.state

    def pause(self) -> float:
        """How long until it lets one through, found by trying."""
        began = self.now
        while self.state() is State.OPEN:
            self.now += 0.25
        return self.now - began


@pytest.mark.parametrize("outcomes", list(itertools.product("+-", repeat=6)))
def test_it_opens_exactly_after_enough_failures_in_a_row(outcomes: tuple[str, ...]) -> None:
    """All 64 sequences of six calls: open at the first run of three, never before."""
    bench, run = Bench(), 0
    for outcome in outcomes:
        if outcome == "+":
            bench.breaker.succeeded()
            run = 0
        else:
            bench.fail()
            run += 1
        expected = State.OPEN if run >= LIMITS.failures else State.CLOSED
        assert bench.state() is expected


def test_failures_far_apart_do_not_open_it() -> None:
    """A run that takes longer than the window starts anew."""
    bench = Bench()
    for _ in range(10):
        bench.fail()
        bench.now += 6
    assert bench.state() is State.CLOSED


def test_while_open_nobody_enters() -> None:
    """The error has how long to wait, and never less than the shortest pause."""
    bench = Bench()
    bench.fail(3)
    with pytest.raises(PspUnavailable) as caught:
        bench.breaker.enter()
    assert caught.value.retry_after == timedelta(seconds=1)


def test_after_the_pause_one_probe_enters() -> None:
    """All other flows are refused until its result."""
    bench = Bench()
    bench.fail(3)
    bench.pause()
    assert bench.state() is State.HALF_OPEN
    assert bench.breaker.enter() is True
    with pytest.raises(PspUnavailable):
        bench.breaker.enter()
    bench.breaker.succeeded()
    assert bench.state() is State.CLOSED
    assert bench.breaker.enter() is False


def test_a_probe_that_learns_nothing_gives_its_place_back() -> None:
    """A flow that ended before it called Ping++ does not block the circuit."""
    bench = Bench()
    bench.fail(3)
    bench.pause()
    assert bench.breaker.enter() is True
    bench.breaker.leave()
    assert bench.breaker.enter() is True


def test_pauses_double_to_a_cap_and_start_again_after_success() -> None:
    """1, 2, 4, 5, 5 seconds; one good answer later 1 again."""
    bench = Bench()
    bench.fail(3)
    pauses = [bench.pause()]
    for _ in range(4):
        bench.fail()
        pauses.append(bench.pause())
    assert pauses == [1, 2, 4, 5, 5]
    bench.breaker.succeeded()
    bench.fail(3)
    assert bench.pause() == 1


@pytest.mark.parametrize(("dice", "pause"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_pauses_are_spread(dice: float, pause: float) -> None:
    """Between half of the pause and all of it, so that replicas do not knock together."""
    bench = Bench(dice)
    bench.fail(3)
    assert bench.pause() == pause


def test_stragglers_do_not_prolong_the_pause() -> None:
    """A call that began before the circuit opened does not count when it fails at last."""
    bench = Bench()
    early = bench.now
    bench.now += 1
    bench.fail(3)
    bench.breaker.failed(early)
    assert bench.pause() == 1
    bench.breaker.failed(early)
    assert bench.state() is State.HALF_OPEN
    bench.fail()
    assert bench.state() is State.OPEN


def test_any_good_answer_closes_it() -> None:
    """Also one to a call that no flow was admitted for, such as a poll's."""
    bench = Bench()
    bench.fail(3)
    bench.breaker.succeeded()
    assert bench.state() is State.CLOSED


async def test_places_are_bounded_and_come_back() -> None:
    """The third of two is refused at once; a flow that fails gives its place back."""
    gate = Gate(Breaker(LIMITS), 2)
    async with AsyncExitStack() as flows:
        await flows.enter_async_context(gate.admit())
        await flows.enter_async_context(gate.admit())
        with pytest.raises(Overloaded):
            await flows.enter_async_context(gate.admit())
    with pytest.raises(ZeroDivisionError):
        async with gate.admit():
            raise ZeroDivisionError
    async with gate.admit(), gate.admit():
        pass


async def test_a_refused_flow_holds_no_place() -> None:
    """Neither a place nor the probe's turn is lost when the breaker refuses."""
    bench = Bench()
    gate = Gate(bench.breaker, 1)
    bench.fail(3)
    for _ in range(3):
        with pytest.raises(PspUnavailable):
            async with gate.admit():
                pass
    bench.pause()
    for _ in range(2):
        async with gate.admit():
            pass
