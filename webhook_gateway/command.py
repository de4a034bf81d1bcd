"""The command line of `webhook-gateway`."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import NoReturn

from midas.errors import SettingsError
from midas.runtime import command_errors as troubles
from midas.runtime.command_errors import not_tried
from midas.runtime.manual import manual
from midas.runtime.streams import one_line_of_json
from webhook_gateway import app, start
from webhook_gateway.config.settings import Settings

DONE, USAGE = 0, 2
WIDTH_LEAST, WIDTH_MOST = 50, 100

_HEAD = """\
Usage: webhook-gateway [--check] [--json]
"""
_ABOUT = """\
Takes Ping++'s webhooks, hands them to Midas, and notifies the order service of the outcome, until
SIGTERM. Logs JSON lines to standard error; the line with the event `serving` comes once webhooks
are taken, and has the port."""
_OPTIONS = (
    (
        "--check",
        "Only check whether it would start, if no other process has its port. Changes nothing.",
    ),
    ("--json", "With --check, and when it does not start: one JSON object on standard output."),
    ("--version", "Print the version."),
    ("-h, --help", "Print this."),
)
_STATUSES = (
    ("0", "ended by SIGTERM; with --check: it would start"),
    ("1", "it broke; the last line of the log has the place. Start it again: nothing is lost"),
    ("2", "wrong usage or settings: nothing was started"),
)


def command(arguments: Sequence[str]) -> int:
    """Do what the command line asks for, and return the exit status."""
    given = _parsed(arguments)
    if given.help:
        print(_help())
        return DONE
    if given.version:
        print(f"webhook-gateway {metadata.version('midas')}")
        return DONE
    try:
        return _check(given.json) if given.check else app.run()
    except SettingsError as error:
        _print_error(error, given.json)
        return USAGE


def _check(as_json: bool) -> int:
    """Check whether it would start. Raises SettingsError with everything that prevents that."""
    settings = start.prepare()
    if as_json:
        print(one_line_of_json({"ok": True, "env": settings.env}))
    else:
        print(f"The settings will do: {settings.env}.")
    return DONE


def _print_error(error: SettingsError, as_json: bool) -> None:
    if as_json:
        print(troubles.as_json(not_tried("SETTINGS", str(error))))
        return
    for mistake in error.mistakes:
        print(f"webhook-gateway: {mistake}", file=sys.stderr)
    print("  Nothing was started.", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    as_json = False

    def error(self, message: str) -> NoReturn:
        """Print a sentence and where to read more, or with --json one object, and exit."""
        if self.as_json:
            print(troubles.as_json(not_tried("USAGE", message)))
        else:
            sys.stderr.write(f"webhook-gateway: {message}\n  See: webhook-gateway --help\n")
        sys.exit(USAGE)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser("webhook-gateway", add_help=False, allow_abbrev=False)
    parser.as_json = "--json" in arguments
    parser.add_argument("-h", "--help", action="store_true")
    for option in ("--version", "--check", "--json"):
        parser.add_argument(option, action="store_true")
    return parser.parse_args(arguments)


def _help() -> str:
    width = min(WIDTH_MOST, max(WIDTH_LEAST, shutil.get_terminal_size().columns))
    return "\n".join(_lines(width))


def _lines(width: int) -> Iterator[str]:
    yield _HEAD
    yield from textwrap.wrap(" ".join(_ABOUT.split()), width)
    yield "\nOptions:"
    for rows in (_OPTIONS, _STATUSES):
        for name, text in rows:
            lead = f"  {name:<11} "
            yield from _wrapped(text, width, lead)
        if rows is _OPTIONS:
            yield "\nExit status:"
    yield "\nSettings, from the environment, then from the config server:"
    for name, text in manual(Settings):
        yield f"\n  {name}"
        yield from _wrapped(text, width, " " * 6)


def _wrapped(text: str, width: int, lead: str) -> list[str]:
    indent = " " * len(lead)
    return textwrap.wrap(
        text, width, initial_indent=lead, subsequent_indent=indent, break_on_hyphens=False
    )
