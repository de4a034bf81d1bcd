"""The event loop that Midas and the gateway run on, and the signals that end them."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from midas import app
from midas.config.settings import Settings
from midas.runtime.process import loop_factory, stop_signal
from tests.patience import PATIENCE_S

uvloop = pytest.importorskip("uvloop")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Settings that Midas starts with; the log of this process is given back at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PINGPP_API_KEY", "sk_test_x")
    monkeypatch.setenv("PINGPP_APP_ID", "app_1")
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    for handler in before:
        root.addHandler(handler)


def test_uvloop_is_used_where_it_is() -> None:
    """The factory makes a new loop of uvloop's each time."""
    factory = loop_factory()
    assert factory is not None
    first, second = factory(), factory()
    try:
        assert isinstance(first, uvloop.Loop)
        assert first is not second
    finally:
        first.close()
        second.close()


def test_without_uvloop_there_is_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where uvloop cannot be imported, nothing else is asked for."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is None


@pytest.mark.usefixtures("settings")
def test_midas_runs_on_it() -> None:
    """What `run` is given finds itself on that loop."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def main(_settings: Settings) -> None:
        loops.append(asyncio.get_running_loop())

    assert app.run(main) == 0
    assert [type(each) for each in loops] == [uvloop.Loop]


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which this process would have ended at once."""
    statuses: list[int] = []
    monkeypatch.setattr("midas.runtime.process.os._exit", statuses.append)
    return statuses


LONG = timedelta(hours=1)


@pytest.mark.parametrize(
    ("delay", "signals", "statuses"),
    [
        (LONG, 2, []),
        (LONG, 3, [128 + signal.SIGTERM]),
        (timedelta(0), 1, []),
        (timedelta(0), 2, [128 + signal.SIGTERM]),
        (timedelta(microseconds=1), 1, []),
    ],
)
async def test_signals_in_one_turn_of_the_loop(
    killed: list[int], delay: timedelta, signals: int, statuses: list[int]
) -> None:
    """A second one skips the delay also before the delay has begun; one more ends the process."""
    async with asyncio.timeout(PATIENCE_S), stop_signal(delay) as stop:
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        await stop.delay()
    assert killed == statuses


async def test_a_signal_after_the_delay_ends_the_process(killed: list[int]) -> None:
    """Whether a second one ended it or it was over by itself: the drain is ended at once."""
    for delay, signals in ((LONG, 2), (timedelta(microseconds=1), 1)):
        async with asyncio.timeout(PATIENCE_S), stop_signal(delay) as stop:
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGINT)
            await stop.wait()
            await stop.delay()
            assert killed == []
            stop.on_signal(signal.SIGINT)
            assert killed == [128 + signal.SIGINT]
        killed.clear()
