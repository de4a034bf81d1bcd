"""How a process of Midas runs: its event loop, its signals, its garbage collector."""

import asyncio
import gc
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from midas.errors import SettingsError

GARBAGE_THRESHOLD = 100_000
"""New objects between two looks for garbage cycles: some ten megabytes at the most.

A charge makes a few hundred of them, and hardly a cycle."""

_log = logging.getLogger(__name__)


def allow_connections(wanted: int, other_files: int, setting: str) -> int:
    """Raise the limit of open files where it is too low; how many connections it then allows.

    `other_files` is what the process opens beside them, `setting` the one that says `wanted`. Where
    the machine allows fewer it takes what there is and warns: a process that does not start serves
    nobody. SettingsError where there are none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted + other_files
    if hard != resource.RLIM_INFINITY and hard < files:
        files = hard
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    allowed = files - other_files
    if allowed < 1:
        raise SettingsError(
            f"{setting}: beside connections {other_files} open files are needed, and "
            f"this process may open {hard}; raise the limit (ulimit -n)"
        )
    if allowed < wanted:
        _log.warning("connections_limited", extra={"setting": "ulimit -n", "count": allowed})
    return allowed


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The fastest event loop there is; None for asyncio's own."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


def tune_garbage_collection() -> None:
    """What is loaded by now stays: the collector need not walk it with every charge."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)


class Stop:
    """What SIGTERM and SIGINT ask for."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._skip: asyncio.Event | None = None

    async def wait(self) -> None:
        """Until the first signal."""
        await self._asked.wait()

    async def delay(self, length: timedelta) -> None:
        """Go on for so long; a further signal ends this, and only this."""
        self._skip = asyncio.Event()
        with suppress(TimeoutError):
            async with asyncio.timeout(length.total_seconds()):
                await self._skip.wait()
        self._skip = None

    def on_signal(self, number: signal.Signals) -> None:
        """The first one asks, one during a delay ends it, any other ends the process."""
        if self._asked.is_set() and self._skip is None:
            logging.shutdown()
            os._exit(128 + number)
        _log.info("signal", extra={"signal": number.name})
        if self._skip is not None:
            self._skip.set()
        self._asked.set()


@asynccontextmanager
async def stop_signal() -> AsyncIterator[Stop]:
    """What SIGTERM and SIGINT ask for, while this lasts."""
    stop = Stop()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.on_signal, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
