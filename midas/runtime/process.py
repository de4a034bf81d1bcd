"""How a process of Midas runs: its event loop, its signals, its garbage collector."""

import asyncio
import gc
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from midas.errors import SettingsError

GARBAGE_THRESHOLD = 100_000
"""How many new objects lie between two searches for garbage cycles: some ten megabytes at the most.

A charge makes a few hundred objects, and hardly a cycle."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """What a process opens: a file for each connection, and others."""

    connections: int
    """How many are wanted."""
    others: int
    setting: str
    """The setting that holds how many connections are wanted."""

    def room(self) -> int:
        """How many connections this process may have: fewer where the machine allows fewer.

        It changes nothing. Raises SettingsError where there is room for none.
        """
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard == resource.RLIM_INFINITY:
            return self.connections
        room = min(self.connections, hard - self.others)
        if room < 1:
            raise SettingsError(
                f"{self.setting}: beside connections {self.others} open files are needed, and "
                f"this process may open {hard}; raise the limit (ulimit -n)"
            )
        return room

    def allow(self) -> int:
        """Raise the limit of open files as far as needed, and return what `room` returns.

        Fewer than wanted are only a warning: a process that does not start serves nobody.
        """
        room = self.room()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < room + self.others:
            resource.setrlimit(resource.RLIMIT_NOFILE, (room + self.others, hard))
        if room < self.connections:
            _log.warning("connections_limited", extra={"setting": "ulimit -n", "count": room})
        return room


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The fastest event loop there is; None for asyncio's own."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


def tune_garbage_collection() -> None:
    """Exempt everything that is loaded by now, so that the collector does not walk it each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)


class Stop:
    """What SIGTERM and SIGINT ask for: an end, after a delay.

    It has the delay from the start, because a second signal may come before anybody waits for it.
    """

    def __init__(self, delay: timedelta = timedelta(0)) -> None:
        self._delay = delay
        self._asked = asyncio.Event()
        self._no_delay = asyncio.Event()
        """Set when there is no delay, or it is over."""
        if not delay:
            self._no_delay.set()

    async def wait(self) -> None:
        """Wait until the first signal."""
        await self._asked.wait()

    async def delay(self) -> None:
        """Wait as long as the delay. A second signal ends the delay and nothing else."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._delay.total_seconds()):
                await self._no_delay.wait()
        self._no_delay.set()

    def on_signal(self, number: signal.Signals) -> None:
        """The first signal asks for the end; one in the delay ends that; any other the process."""
        if self._asked.is_set() and self._no_delay.is_set():
            logging.shutdown()
            os._exit(128 + number)
        _log.info("signal", extra={"signal": number.name})
        if self._asked.is_set():
            self._no_delay.set()
        self._asked.set()


@asynccontextmanager
async def stop_signal(delay: timedelta) -> AsyncIterator[Stop]:
    """What SIGTERM and SIGINT ask for, while this lasts."""
    stop = Stop(delay)
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.on_signal, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
