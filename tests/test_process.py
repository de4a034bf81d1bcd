"""The event loop that Midas and the gateway run on."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from midas import app
from midas.config import Settings
from midas.process import loop_factory

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
    seen: list[asyncio.AbstractEventLoop] = []

    async def main(_settings: Settings) -> None:
        seen.append(asyncio.get_running_loop())

    assert app.run(main) == 0
    assert [type(each) for each in seen] == [uvloop.Loop]
