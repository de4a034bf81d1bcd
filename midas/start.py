"""Finds everything that keeps this process from starting, before anything is started.

`midas serve` asks here, and so does `midas serve --check`; there is no other checker. It changes
nothing: no file is made, no row is written.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from midas.config import loading as config
from midas.config.settings import Settings
from midas.errors import SettingsError
from midas.runtime import setting_rules
from midas.runtime.process import OpenFiles

OTHER_FILES = 128
"""How many file descriptors are needed beside connections of callers and to Ping++: for the
database, grpc and the log."""


def prepare(parts: Callable[[Settings], Any]) -> Settings:
    """The settings of this process, with which it can start.

    `parts` builds what is made of settings alone, and raises SettingsError where it refuses them.
    Blocks while the database is asked. Raises SettingsError with every mistake.
    """
    found = config.read()
    if found.complete:
        settings = found.settings
        found = found.add(asyncio.run(_refused_by_the_world(settings)))
        if not found.mistakes:
            found = found.add(_refused_by(parts, settings))
    prepared: Settings = found.checked()
    return prepared


def open_files(settings: Settings) -> OpenFiles:
    """The file descriptors that a Midas with these settings needs."""
    others = settings.psp_concurrent_calls + OTHER_FILES
    return OpenFiles(settings.connections, others, "CONNECTIONS")


async def _refused_by_the_world(settings: Settings) -> list[str]:
    from midas.storage import check_store  # only a start needs SQLAlchemy

    mistakes = list(setting_rules.listening(settings.ip, settings.port))
    mistakes += setting_rules.room(open_files(settings))
    try:
        await check_store(settings.database_url.get_secret_value())
    except SettingsError as error:
        mistakes += error.mistakes
    return mistakes


def _refused_by(parts: Callable[[Settings], Any], settings: Settings) -> tuple[str, ...]:
    try:
        parts(settings)
    except SettingsError as error:
        return error.mistakes
    return ()
