"""Where settings come from, for every process of Midas: the environment, then the config server.

Every mistake becomes a sentence that names the setting, and all sentences are given at once. No
sentence repeats a value: a key or a password that was pasted into the wrong setting must not get
into the log.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from midas.errors import SettingsError
from midas.runtime import config_server

Env = Literal["development", "test", "production"]
Check = Callable[[Any], Iterable[str]]
"""Gives a sentence for everything that is wrong beyond the type of a setting."""


class Sourced(BaseModel):
    """Settings that `read` fills in. The ones here say where the others come from."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    env: Env = "development"
    """Where this process runs. `production` refuses what is not safe."""

    config_url: SecretStr = SecretStr("")
    """Base URL of the config server (Spring Cloud Config): `GET {CONFIG_URL}/midas/{ENV}` is asked
    once, at the start. May hold a user and a password; `/`, `?`, `#` and `@` in them are written as
    %2F, %3F, %23 and %40, and production sends them over https only. Empty: there is none.
    Environment only."""

    tls_by_mesh: bool = False
    """True: a service mesh encrypts the gRPC and HTTP that this process speaks in the clear. In the
    environment it counts for CONFIG_URL, too."""


class Found(NamedTuple):
    """What could be read."""

    settings: Any
    """Holds the default where a value could not be read."""
    mistakes: tuple[str, ...]
    unread: frozenset[str]
    """The names of settings whose value could not be read."""
    complete: bool = True
    """False where the config server could not be asked: the values that it holds are missing."""

    def add(self, sentences: Iterable[str]) -> "Found":
        """The same with more sentences, but with none on a setting that could not be read.

        Such a sentence would judge the default.
        """
        new = [each for each in sentences if self.unread.isdisjoint(_named(each))]
        return self._replace(mistakes=tuple(dict.fromkeys((*self.mistakes, *new))))

    def checked(self) -> Any:
        """The settings. Raises SettingsError if there is any mistake in them."""
        if self.mistakes:
            raise SettingsError(*self.mistakes)
        return self.settings


def read(
    kind: type[Sourced],
    check: Check = lambda _: (),
    instead: Mapping[str, str] = MappingProxyType({}),
) -> Found:
    """The settings of this process, and a sentence for every mistake in them. Raises nothing.

    `instead` has what the command line gives. If it has anything, the config server is not asked.
    """
    given = {**_environment(kind), **instead}
    try:
        served = {} if instead else _from_server(kind, given)
    except SettingsError as error:
        found = _validated(kind, given)
        mistakes = (*error.mistakes, *found.mistakes)
        return found._replace(mistakes=mistakes, complete=False)
    found = _validated(kind, {**served, **given})
    return found.add(check(found.settings))


def _environment(kind: type[Sourced]) -> dict[str, str]:
    """The values of the environment by the names of the settings, in upper or lower case."""
    names = kind.model_fields.keys()
    return {name.lower(): value for name, value in os.environ.items() if name.lower() in names}


def _from_server(kind: type[Sourced], given: Mapping[str, str]) -> dict[str, Any]:
    """The values of the config server; none where none is configured. Raises SettingsError."""
    url, env = given.get("config_url", ""), given.get("env", "development")
    if not url:
        return {}
    if env not in get_args(Env):
        raise SettingsError  # the sentence comes with those on the other values
    in_the_clear = env != "production" or given.get("tls_by_mesh", "").lower() in _TRUE
    served = config_server.fetch(url, env, password_in_the_clear=in_the_clear)
    fields = kind.model_fields.keys() - {"config_url", "env"}
    names = {config_server.plain(name): name for name in fields}
    ours = {names[plain]: served[plain] for plain in served.keys() & names.keys()}
    # A setting of another process of Midas may stay encrypted for this one.
    wanted = ours.keys() - given.keys()
    closed = sorted(name for name in wanted if config_server.encrypted(ours[name]))
    if closed:
        named = ", ".join(name.upper() for name in closed)
        sent = f"CONFIG_URL: the config server sent {named} encrypted"
        raise SettingsError(f"{sent}; let it decrypt them")
    return ours


_TRUE = frozenset({"true", "1", "yes", "on", "y", "t"})
"""The texts that pydantic reads as true."""


def _validated(kind: type[Sourced], values: Mapping[str, Any]) -> Found:
    try:
        return Found(kind.model_validate(values), (), frozenset())
    except ValidationError as error:
        unread = {str(each["loc"][0]): _sentence(each) for each in error.errors()}
    rest = {name: value for name, value in values.items() if name not in unread}
    names = frozenset(name.upper() for name in unread)
    return Found(kind.model_validate(rest), tuple(unread.values()), names)


def _sentence(error: Any) -> str:
    """What is wrong, without the value: it may be a secret."""
    name = str(error["loc"][0]).upper()
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}"


def _named(sentence: str) -> list[str]:
    """Every setting that a sentence names."""
    return re.findall(r"[A-Z][A-Z0-9_]*", sentence)
