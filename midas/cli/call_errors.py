"""How a command prints its failure, and how it ends after that."""

from dataclasses import replace

import click

from midas.errors import SettingsError
from midas.runtime import command_errors as troubles
from midas.runtime.command_errors import Trouble, not_tried


class Failed(click.ClickException):
    """Ends a command with a trouble."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


def print_trouble(trouble: Trouble, as_json: bool) -> None:
    """Print sentences on stderr, or one object on stdout."""
    if as_json:
        click.echo(troubles.as_json(trouble))
        return
    for sentence in trouble.mistakes or (trouble.message,):
        click.echo(f"midas: {printable(sentence)} [{trouble.reason}]", err=True)
    for name, description in trouble.violations:
        click.echo(f"  {printable(name)}: {printable(description)}", err=True)
    click.echo(f"  {trouble.advice or _advice(trouble)}", err=True)


def printable(text: str) -> str:
    """The text without control characters: text of others must not control the terminal."""
    return "".join(each if each.isprintable() else "�" for each in text)


_NOT_STARTED = ("SETTINGS", "SANDBOX", "ORDERS")


def not_started(reason: str, message: str) -> Failed:
    """A server that cannot start with these options: status 2, as for any other setting."""
    return Failed(not_tried(reason, message))


def refused_settings(error: SettingsError, advice: str = "") -> Trouble:
    """What is wrong with the settings: status 2, and a line for each mistake."""
    return replace(not_tried("SETTINGS", str(error), advice), mistakes=error.mistakes)


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
