"""Whether a process is ready for calls, and the lines of its log about that."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from midas import app
from midas.errors import SchemaRefused, StorageUnavailable

OTHER_SCHEMA = SchemaRefused("older", found="0009", oldest="0008", known="0007")
Check = Exception | None


async def after(
    checks: Sequence[Check], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> tuple[list[bool], list[Any]]:
    """The states that health got, and the lines of the log, after these checks."""
    waiting = iter(checks)
    states: list[bool] = []
    over = asyncio.Event()

    async def check() -> None:
        for found in waiting:
            if found is not None:
                raise found
            return
        over.set()
        await asyncio.Event().wait()

    async def set_ready(ready: bool) -> None:
        states.append(ready)

    server: Any = SimpleNamespace(health=SimpleNamespace(set_ready=set_ready))
    monkeypatch.setattr(app, "READINESS_PAUSE_S", 0)
    caplog.set_level("INFO", "midas")
    looking = asyncio.create_task(app._readiness(server, check))
    await over.wait()
    looking.cancel()
    return states, caplog.records


async def test_the_reason_is_logged_when_it_changes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A look alone logs nothing; a database that is back with another schema is another reason."""
    away = (StorageUnavailable(), StorageUnavailable())
    checks = [None, None, *away, OTHER_SCHEMA, OTHER_SCHEMA, None]
    ready, lines = await after(checks, monkeypatch, caplog)
    assert ready == [True, False, False, True]
    named = [(each.message, each.levelname) for each in lines]
    assert named == [
        ("ready", "INFO"),
        ("not_ready", "ERROR"),
        ("not_ready", "ERROR"),
        ("ready", "INFO"),
    ]
    fields = vars(lines[2])
    assert (fields["reason"], fields["schema"]) == ("SCHEMA_REFUSED", "0009")
    assert (fields["schema_known"], fields["schema_oldest"]) == ("0007", "0008")
    fields = vars(lines[1])
    assert fields["reason"] == "DATABASE_AWAY"
    assert fields["error"] == "midas.errors.StorageUnavailable"


async def test_an_alarm_is_repeated_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator who looks an hour later finds it, too, and health gets it once."""
    monkeypatch.setattr(app, "NOT_READY_AGAIN_S", 0)
    away = StorageUnavailable()
    ready, lines = await after([None, None, away, away, away, None], monkeypatch, caplog)
    assert ready == [True, False, True]
    levels = [(each.message, each.levelname) for each in lines]
    assert levels == [("ready", "INFO"), *[("not_ready", "ERROR")] * 3, ("ready", "INFO")]
