"""Whether a process says that it can take calls, and what its log says of why not."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from midas import app
from midas.errors import SchemaRefused, StorageUnavailable

OTHER_SCHEMA = SchemaRefused("older", found="0009", oldest="0008", known="0007")
Check = Exception | None


async def told(
    checks: Sequence[Check], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> tuple[list[bool], list[Any]]:
    """What health was told, and the lines of the log, after these checks."""
    waiting = iter(checks)
    told: list[bool] = []
    over = asyncio.Event()

    async def check() -> None:
        for found in waiting:
            if found is not None:
                raise found
            return
        over.set()
        await asyncio.Event().wait()

    async def set_ready(ready: bool) -> None:
        told.append(ready)

    server: Any = SimpleNamespace(health=SimpleNamespace(set_ready=set_ready))
    monkeypatch.setattr(app, "READINESS_PAUSE_S", 0)
    caplog.set_level("INFO", "midas")
    looking = asyncio.create_task(app._readiness(server, check))
    await over.wait()
    looking.cancel()
    return told, caplog.records


async def test_the_reason_is_told_when_it_changes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not with every look; but a database that came back with another schema is another reason."""
    away = (StorageUnavailable(), StorageUnavailable())
    checks = [None, None, *away, OTHER_SCHEMA, OTHER_SCHEMA, None]
    ready, lines = await told(checks, monkeypatch, caplog)
    assert ready == [True, False, False, True]
    named = [(each.message, each.levelname) for each in lines]
    assert named == [
        ("ready", "INFO"),
        ("not_ready", "ERROR"),
        ("not_ready", "ERROR"),
        ("ready", "INFO"),
    ]
    said = vars(lines[2])
    assert (said["reason"], said["schema"]) == ("SCHEMA_REFUSED", "0009")
    assert (said["schema_known"], said["schema_oldest"]) == ("0007", "0008")
    said = vars(lines[1])
    assert said["reason"] == "DATABASE_AWAY"
    assert said["error"] == "midas.errors.StorageUnavailable"


async def test_an_alarm_is_repeated_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever looks an hour later finds it, too, and health is told once."""
    monkeypatch.setattr(app, "NOT_READY_AGAIN_S", 0)
    away = StorageUnavailable()
    ready, lines = await told([None, None, away, away, away, None], monkeypatch, caplog)
    assert ready == [True, False, True]
    levels = [(each.message, each.levelname) for each in lines]
    assert levels == [("ready", "INFO"), *[("not_ready", "ERROR")] * 3, ("ready", "INFO")]
