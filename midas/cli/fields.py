"""How values are written on the command line."""

import json
import re
from datetime import timedelta
from typing import Any, NoReturn

import click

AMOUNT_MAX = 2**63 - 1
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_MAJOR_UNITS = re.compile(r"(\d{1,17})[.](\d{1,2})")
_LENGTH = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?")


class Amount(click.IntRange):
    """An amount in minor units. For `19.90` the error says to write `1990`."""

    name = "amount"

    def __init__(self, least: int, most: int = AMOUNT_MAX) -> None:
        super().__init__(least, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        found = _MAJOR_UNITS.fullmatch(str(value).strip())
        if found is not None:
            written = f"{found[1]}{found[2]:0<2}".lstrip("0") or "0"
            self.fail(f"{value!r} is no integer: amounts are in minor units; write {written}")
        return int(super().convert(value, param, ctx))


class Length(click.ParamType[timedelta]):
    """A length of time such as `30m`, `90s` or `1h30m`."""

    name = "duration"
    advice = "write a length of time such as 30m, 90s or 1h30m"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        found = _LENGTH.fullmatch(str(value)) if value else None
        if found is None:
            self.fail(self.advice, param, ctx)
        pairs = zip(_UNITS.values(), found.groups(), strict=True)
        return timedelta(seconds=sum(unit * int(count or 0) for unit, count in pairs))


class Period(Length):
    """How often something is done: a length of time, or a number of seconds such as `90`."""

    advice = "write how often, from 1s to 10m, such as 30s, 1m or 90 (seconds)"
    least, most = timedelta(seconds=1), timedelta(minutes=10)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read it."""
        in_seconds = re.fullmatch("[0-9]{1,9}", str(value)) is not None
        length = super().convert(f"{value}s" if in_seconds else value, param, ctx)
        if not self.least <= length <= self.most:
            self.fail(self.advice, param, ctx)
        return length


class Pair(click.ParamType[tuple[str, str]]):
    """A pair, written as `name=value`."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split at the first `=`."""
        name, sign, content = str(value).partition("=")
        if not sign or not name:
            self.fail("write it as name=value", param, ctx)
        return name, content


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object. For anything else the error shows the example."""

    name = "json"

    def __init__(self, example: str) -> None:
        self._example = example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """Read it."""
        try:
            read = json.loads(str(value), parse_constant=_no_number)
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            self.fail(f"write a JSON object such as '{self._example}'{self.more()}", param, ctx)
        return read

    def more(self) -> str:
        """What the error adds to the example."""
        return ""


def pairs(given: tuple[tuple[str, str], ...], option: str) -> dict[str, str]:
    """The pairs as a mapping. Raises UsageError when a name is given twice."""
    mapping = dict(given)
    if len(mapping) < len(given):
        raise click.UsageError(f"{option} names the same pair twice")
    return mapping


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
