"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from midas.cli.fields import Pair
from midas.runtime.streams import one_line_of_json

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Add `--json`; the command gets it as `as_json`."""
    text = "One JSON object on standard output, also for a failure."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def metadata_option(command: Command) -> Command:
    """Add `--metadata name=value`, which may be repeated."""
    text = "A pair of your own, kept at Ping++ beside it. May be repeated."
    return click.option("--metadata", type=Pair(), multiple=True, help=text)(command)


def print_json(content: dict[str, Any]) -> None:
    """Print the one object of a command; `ok` is true unless `content` has another value."""
    click.echo(one_line_of_json({"ok": True, **content}))


def warn_of_secret(option: str, variable: str) -> None:
    """Warn that a secret was given on the command line. The command uses it all the same."""
    click.echo(
        f"midas: {option} shows in the list of processes and in the shell's history;"
        f" set {variable} in the environment instead.",
        err=True,
    )
