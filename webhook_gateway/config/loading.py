"""Where the settings of the gateway are read and checked."""

from midas.runtime import config_sources
from midas.runtime.config_sources import Found
from webhook_gateway.config import checks
from webhook_gateway.config.settings import Settings


def read() -> Found:
    """The settings of this process, and a sentence for every mistake that they show.

    `webhook_gateway.start.prepare` also finds what the settings alone do not show. Raises nothing.
    """
    return config_sources.read(Settings, checks.mistakes)


def load() -> Settings:
    """The settings of this process. Raises SettingsError with a sentence for every mistake."""
    settings: Settings = read().checked()
    return settings
