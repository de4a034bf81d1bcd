"""The calls of `midas timer`: PollPending on a schedule, for those who have no timer service.

    call the target that answered last ──▶ answered ──▶ more is due: again at once
         ▲                 │                      └──▶ otherwise: again when the period is over
         │                 └──▶ no answer ──▶ call the next target at once
         └── none of them answered: a pause that doubles, up to BACKOFF_MOST

A run in which every look failed gains nothing, so no other one follows at once.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import NoReturn, Protocol

from midas.cli.call_errors import Failed
from midas.cli.wire import Wire
from midas.runtime.command_errors import ExitStatus, Trouble
from midas.v1.payment_service_pb2 import PollPendingResponse

BACKOFF_MOST = timedelta(minutes=5)


class Output(Protocol):
    """Where the line of each run goes."""

    def answered(self, target: str, response: PollPendingResponse) -> None:
        """Print what a run did."""

    def failed(self, target: str, trouble: Trouble) -> None:
        """Print that a target gave no answer, or an error."""


@dataclass(slots=True)
class Timer:
    """Calls PollPending again and again."""

    wires: deque[Wire]
    """The connections to try. The first one is the one that answered last."""
    every: timedelta
    ask: Callable[[Wire], PollPendingResponse]
    """Makes the call. Raises Failed."""
    output: Output
    pause: Callable[[float], None]
    """Waits for so many seconds."""
    clock: Callable[[], float] = time.monotonic

    def run(self) -> NoReturn:
        """Go on until `ask` or `pause` raises."""
        every_s = self.every.total_seconds()
        most_s = max(every_s, BACKOFF_MOST.total_seconds())
        backoff_s = every_s
        while True:
            began = self.clock()
            response = self._answer()
            if response is None:
                self.pause(backoff_s)
                backoff_s = min(2 * backoff_s, most_s)
                continue
            backoff_s = every_s
            if not (response.more_due and response.examined > response.failed):
                self.pause(max(0.0, began + every_s - self.clock()))

    def _answer(self) -> PollPendingResponse | None:
        """The answer of the first target that gives one."""
        for _ in range(len(self.wires)):
            target = self.wires[0].target
            try:
                response = self.ask(self.wires[0])
            except Failed as failure:
                self.output.failed(target, failure.trouble)
                self.wires.rotate(-1)
            else:
                self.output.answered(target, response)
                return response
        return None


class Stopped(BaseException):
    """A signal has ended a call or a pause."""


class Stop:
    """Ends calls and pauses by a signal; what is done between them is done to its end."""

    def __init__(self) -> None:
        self._requested = False
        self._may_raise = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Raise Stopped now, or as soon as it may be. A second signal ends the process at once."""
        if self._requested:
            os._exit(ExitStatus.DONE)
        self._requested = True
        if self._may_raise:
            raise Stopped

    @contextmanager
    def may_end(self) -> Iterator[None]:
        """What is done here is ended by a signal. Raises Stopped."""
        self._may_raise = True
        try:
            if self._requested:
                raise Stopped
            yield
        finally:
            self._may_raise = False
