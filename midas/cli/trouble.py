"""What is told when a command does not do what was asked, and with which exit status."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import click

from midas.errors import SettingsError
from midas.streams import one_line_of_json


class ExitStatus(IntEnum):
    """What a script can rely on; `midas --help` says the same."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNKNOWN = 3
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True, slots=True)
class Trouble:
    """One failure. `money_moved` and `retry` are named as in `protos/midas/v1/errors.proto`."""

    reason: str
    message: str
    status: ExitStatus = ExitStatus.FAILED
    money_moved: str = "NO"
    retry: str = ""
    query_after: str = ""
    retry_after: str = ""
    advice: str = ""
    """What to do, as a sentence; empty where `money_moved` and `retry` say it all."""
    mistakes: tuple[str, ...] = ()
    """The sentences of the message, if there are several: each has a line of its own."""
    violations: tuple[tuple[str, str], ...] = ()
    """Each refused field and what to do about it."""
    ids: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    """The gRPC status code, where there was one."""


class Failed(click.ClickException):
    """Ends a command with a trouble."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


def tell(trouble: Trouble, as_json: bool) -> None:
    """Sentences on stderr, or one object on stdout."""
    if as_json:
        click.echo(one_line_of_json({"ok": False, "error": as_data(trouble)}))
        return
    for sentence in trouble.mistakes or (trouble.message,):
        click.echo(f"midas: {printable(sentence)} [{trouble.reason}]", err=True)
    for name, description in trouble.violations:
        click.echo(f"  {printable(name)}: {printable(description)}", err=True)
    click.echo(f"  {trouble.advice or _advice(trouble)}", err=True)


def as_data(trouble: Trouble) -> dict[str, Any]:
    """The members of `error` in JSON; strings are empty where there is nothing to say."""
    return {
        "reason": trouble.reason,
        "message": trouble.message,
        "code": trouble.code,
        "money_moved": trouble.money_moved,
        "retry": trouble.retry,
        "query_after": trouble.query_after,
        "retry_after": trouble.retry_after,
        "violations": [{"field": f, "description": d} for f, d in trouble.violations],
        "ids": dict(trouble.ids),
    }


def printable(text: str) -> str:
    """Without control characters: what others wrote must not steer the terminal."""
    return "".join(each if each.isprintable() else "�" for each in text)


_NOT_STARTED = ("SETTINGS", "SANDBOX", "ORDERS")


def not_started(reason: str, message: str) -> Failed:
    """A server that cannot start as it was told to: status 2, as for any other setting."""
    return Failed(Trouble(reason, message, status=ExitStatus.USAGE, retry="NEVER"))


def refused_settings(error: SettingsError, advice: str = "") -> Trouble:
    """What is wrong with the settings: status 2, and a line for each mistake."""
    return Trouble(
        "SETTINGS",
        str(error),
        status=ExitStatus.USAGE,
        retry="NEVER",
        advice=advice,
        mistakes=error.mistakes,
    )


def _advice(trouble: Trouble) -> str:
    if trouble.reason in _NOT_STARTED:
        return "Nothing was started."
    if trouble.money_moved == "UNKNOWN":
        return _ask(trouble)
    moved = "Money has moved." if trouble.money_moved == "YES" else "No money moved by this call."
    if trouble.retry == "SAME_KEY":
        wait = f" after {trouble.retry_after}" if trouble.retry_after else ""
        return f"{moved} Try again{wait}, with the same key."
    if trouble.retry == "NEW_KEY":
        return f"{moved} This key is spent: use another one."
    if trouble.violations:
        return f"{moved} Correct these fields and try again."
    return f"{moved} Repeating will not help until something else has changed."


def _ask(trouble: Trouble) -> str:
    key = next((k for k in ("refund_no", "order_no") if trouble.ids.get(k)), "")
    named = f" --{key.replace('_', '-')} {printable(trouble.ids[key])}" if key else ""
    wait = f" in {trouble.query_after}" if trouble.query_after else ""
    repeat = " Repeating this command with the same key is safe."
    if trouble.retry == "NEVER":
        repeat = " Only a person can tell what happened: look at the payment in Ping++'s dashboard."
    return f"Money may have moved. Ask again{wait}: midas query{named} --refresh.{repeat}"
