"""Finds everything that keeps the gateway from starting, before anything is started."""

from midas.runtime import setting_rules
from midas.runtime.config_sources import Found
from midas.runtime.process import OpenFiles
from webhook_gateway.config import loading as config
from webhook_gateway.config.settings import Settings

OTHER_FILES = 128
"""File descriptors beside those of webhook connections: gRPC, the management port, the log."""


def prepare() -> Settings:
    """The settings of this process, with which it can start.

    Raises SettingsError with every mistake. Changes nothing, and asks nobody but the config server.
    """
    settings: Settings = _found().checked()
    return settings


def mistakes() -> tuple[str, ...]:
    """A sentence for everything that keeps the gateway from starting; none if it would start."""
    return _found().mistakes


def open_files(settings: Settings) -> OpenFiles:
    """What a gateway with these settings opens."""
    return OpenFiles(settings.webhook_connections, OTHER_FILES, "WEBHOOK_CONNECTIONS")


def _found() -> Found:
    found = config.read()
    settings: Settings = found.settings
    if not found.complete:
        return found
    shared = settings.webhook_reuse_port
    return found.add(
        (
            *setting_rules.listening(
                settings.ip, settings.webhook_port, "IP and WEBHOOK_PORT", reuse_port=shared
            ),
            *setting_rules.listening(
                settings.webhook_mip, settings.webhook_mport, "WEBHOOK_MIP and WEBHOOK_MPORT"
            ),
            *setting_rules.room(open_files(settings)),
        )
    )
