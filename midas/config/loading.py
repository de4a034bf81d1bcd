"""Where the settings of the server are read and checked."""

from midas.config import checks
from midas.config.settings import MigrationSettings, Settings
from midas.runtime import config_sources
from midas.runtime.config_sources import Found


def read() -> Found:
    """The settings of this process, and a sentence for every mistake that they show.

    `midas.start.prepare` also finds mistakes that the settings alone do not show. Raises nothing.
    """
    return config_sources.read(Settings, checks.mistakes)


def load() -> Settings:
    """The settings of this process. Raises SettingsError with a sentence for every mistake."""
    settings: Settings = read().checked()
    return settings


def database_url(instead: str | None = None) -> str:
    """The DATABASE_URL of this process, for a command that needs no other setting.

    A URL that is given `instead` has to follow the same rules, by the ENV of this process.

    There is no default: a database that was forgotten must not count as migrated. Raises
    SettingsError.
    """
    given = {} if instead is None else {"database_url": instead}
    found = config_sources.read(MigrationSettings, checks.database_mistakes, given)
    url: str = found.checked().database_url.get_secret_value()
    return url
