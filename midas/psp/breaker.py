"""When to stop asking Ping++ for a while, and how many flows may ask at once.

The breaker opens after enough failures in a row, lets one flow through after a pause, and closes
with the first good answer to any call. Refusals of Ping++ or a channel are good answers.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from midas.errors import Overloaded, PspUnavailable


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """The bounds of the circuit breaker."""

    failures: int = 5
    """How many failures in a row open the breaker."""
    window: timedelta = timedelta(minutes=2)
    """The longest time from the first of them to the last."""
    pause: timedelta = timedelta(seconds=1)
    """The first pause; each further one is twice as long."""
    pause_max: timedelta = timedelta(seconds=30)


class State(Enum):
    """The states of the circuit, in the words of electricians: a closed one lets calls through."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Breaker:
    """Pure, except for its clock and its dice. The dice cut a pause by up to half."""

    def __init__(
        self,
        limits: BreakerLimits = BreakerLimits(),
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._dice = dice
        self._run = 0
        self._run_began = 0.0
        self._openings = 0
        self._opened_at = 0.0
        self._resumes_at = 0.0
        self._probing = False

    @property
    def state(self) -> State:
        """The state at this moment."""
        if not self._openings:
            return State.CLOSED
        return State.OPEN if self._clock() < self._resumes_at else State.HALF_OPEN

    def enter(self) -> bool:
        """Ask to begin a flow. True: the flow is the probe and has to `leave`.

        Raises PspUnavailable while the pause lasts, and while another probe is under way.
        """
        if self.state is State.CLOSED:
            return False
        if self.state is State.OPEN or self._probing:
            remaining = self._resumes_at - self._clock()
            wait = timedelta(seconds=max(remaining, self._limits.pause.total_seconds()))
            raise PspUnavailable(retry_after=wait)
        self._probing = True
        return True

    def leave(self) -> None:
        """End the probe. If no call of it was counted, the next flow is the probe."""
        self._probing = False

    def succeeded(self) -> None:
        """Record that Ping++ answered."""
        self._run = self._openings = 0

    def failed(self, began: float) -> None:
        """Record that a call did not reach Ping++, or got no sensible answer.

        `began`: when the call began. One that began before the breaker opened does not count.
        """
        state = self.state
        if state is State.CLOSED:
            self._count()
            if self._run >= self._limits.failures:
                self._open()
        elif state is State.HALF_OPEN and began >= self._opened_at:
            self._open()

    def _count(self) -> None:
        now = self._clock()
        if self._run == 0 or now - self._run_began > self._limits.window.total_seconds():
            self._run, self._run_began = 0, now
        self._run += 1

    def _open(self) -> None:
        now = self._clock()
        doublings = min(self._openings, _DOUBLINGS_MAX)
        longest = min(self._limits.pause * 2**doublings, self._limits.pause_max).total_seconds()
        self._openings += 1
        self._run = 0
        self._opened_at = now
        self._resumes_at = now + longest * (0.5 + self._dice() / 2)


_DOUBLINGS_MAX = 20


class Gate:
    """A breaker and a bound on the flows under way, asked before anything is written."""

    def __init__(self, breaker: Breaker, concurrent_flows: int) -> None:
        self.breaker = breaker
        self.places = concurrent_flows

    def admit(self) -> "Place":
        """A place to be held. Entering raises Overloaded or PspUnavailable; nobody waits here."""
        return Place(self)


class Place:
    """A flow's place while it is under way. It is a class for speed: every charge takes one."""

    __slots__ = ("_gate", "_probing")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._probing = False

    async def __aenter__(self) -> None:
        gate = self._gate
        if gate.places <= 0:
            raise Overloaded
        self._probing = gate.breaker.enter()
        gate.places -= 1

    async def __aexit__(self, *_: object) -> None:
        self._gate.places += 1
        if self._probing:
            self._gate.breaker.leave()
