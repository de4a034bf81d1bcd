"""Where settings come from, for every process of Midas: the environment, then the config server."""

from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from midas import config_server
from midas.errors import SettingsError

_Settings = TypeVar("_Settings", bound=BaseSettings)


def load(settings: type[_Settings]) -> _Settings:
    """The settings of this process. Raises SettingsError with a sentence for every mistake."""
    try:
        return settings()
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(each) for each in error.errors())) from None


def _sentence(error: Any) -> str:
    """What is wrong, without the value: it may be a secret."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    name = "_".join(str(part) for part in error["loc"][:1]).upper()
    return f"{name}: {message[:1].lower()}{message[1:]}"


class Sourced(BaseSettings):
    """Settings from the environment, then the config server; what a test gives to it wins.

    What asks the config server has `env` and `config_url`.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no such files are read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """In this order; the first that has a value wins."""
        return init_settings, env_settings, ConfigServer(settings_cls, {})


class ConfigServer(InitSettingsSource):
    """The values of the config server, by whichever spelling of their names."""

    def __call__(self) -> dict[str, Any]:
        """What the config server says; nothing where none is configured."""
        url = self.current_state.get("config_url", "")
        text = url.get_secret_value() if isinstance(url, SecretStr) else str(url)
        if not text:
            return {}
        env = str(self.current_state.get("env", "development"))
        told = config_server.fetch(text, env)
        fields = self.settings_cls.model_fields.keys() - {"config_url", "env"}
        names = {config_server.plain(name): name for name in fields}
        ours = {names[plain]: told[plain] for plain in told.keys() & names.keys()}
        # What is meant for another process of Midas may well stay closed to this one.
        wanted = ours.keys() - self.current_state.keys()
        closed = sorted(name for name in wanted if config_server.encrypted(ours[name]))
        if closed:
            named = ", ".join(name.upper() for name in closed)
            sent = f"CONFIG_URL: the config server sent {named} encrypted"
            raise SettingsError(f"{sent}; let it decrypt them")
        return ours
