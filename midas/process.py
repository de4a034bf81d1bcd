"""How a process of Midas runs: its event loop, its signals, its garbage collector."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

GARBAGE_THRESHOLD = 100_000
"""New objects between two looks for garbage cycles: some ten megabytes at the most.

A charge makes a few hundred of them, and hardly a cycle."""

_log = logging.getLogger(__name__)


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


@asynccontextmanager
async def stop_signal() -> AsyncIterator[asyncio.Event]:
    """An event that the first SIGTERM or SIGINT sets; the second one ends the process."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stopped.is_set():
            logging.shutdown()
            os._exit(128 + number)
        _log.info("signal", extra={"signal": number.name})
        stopped.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stopped
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
