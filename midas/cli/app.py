"""`midas`: the commands, and how their failures are printed."""

import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Any

import click

from midas.cli.call_errors import Failed, print_trouble, refused_settings
from midas.cli.help import kept
from midas.errors import SettingsError
from midas.runtime.command_errors import ExitStatus, Trouble, not_tried
from midas.runtime.streams import steady_streams

COMMANDS = {
    "mock": "midas.cli.mock_command:mock",
    "serve": "midas.cli.serve_command:serve",
    "sandbox": "midas.cli.sandbox_command:sandbox",
    "orders": "midas.cli.orders_command:orders",
    "contract-kit": "midas.cli.contract_kit.command:contract_kit",
    "charge": "midas.cli.charge_command:charge",
    "refund": "midas.cli.refund_command:refund",
    "query": "midas.cli.query_command:query",
    "poll": "midas.cli.poll_command:poll",
    "timer": "midas.cli.timer_command:timer",
    "migrate": "midas.cli.migrate_command:migrate",
    "demo": "midas.cli.demo.command:demo",
}
"""The commands in the order of the help. Each one is imported when it is used."""


class Commands(click.Group):
    """Prints failures as sentences on stderr, or with --json as one object on stdout."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["help"] = kept(kwargs.get("help") or "")
        super().__init__(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        """Run and exit."""
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        extra["standalone_mode"] = False
        with steady_streams() as (out, err):
            status = self._status(given, prog_name or "midas", **extra)
            out.flush()
            if out.lost:
                end = f"Exit status {status} says what came of the command."
                err.write(f"midas: standard output cannot be written: {out.lost}. {end}\n")
        sys.exit(int(status))

    def _status(self, given: list[str], prog_name: str, **extra: Any) -> int:
        try:
            status = super().main(given, prog_name, **extra)
        except Exception as error:
            trouble = _trouble(error)
            if trouble is None:
                if "--json" in given:
                    print_trouble(
                        Trouble("BROKEN", f"this command broke ({type(error).__name__})"), True
                    )
                raise
            print_trouble(trouble, as_json="--json" in given)
            return trouble.status
        except KeyboardInterrupt:
            return ExitStatus.INTERRUPTED
        return int(status) if isinstance(status, int) else ExitStatus.DONE


def _trouble(error: Exception) -> Trouble | None:
    if isinstance(error, Failed):
        return error.trouble
    if isinstance(error, click.Abort):
        advice = "It ended before it was done."
        return Trouble("STOPPED", "stopped", status=ExitStatus.INTERRUPTED, advice=advice)
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "midas"
        advice = f"See: {command} --help"
        message = error.format_message()
        return not_tried("USAGE", message, advice)
    if isinstance(error, SettingsError):
        return refused_settings(error)
    if isinstance(error, click.ClickException):
        return Trouble("FAILED", error.format_message())
    return None


@click.group(
    "midas",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(
    metadata.version("midas"), "--version", prog_name="midas", message="%(prog)s %(version)s"
)
def cli() -> None:
    """Charges, refunds and queries payments through Ping++, over gRPC.

      New here?           midas demo
      A server:           midas serve          (settings: midas serve --help)
      Only its answers:   midas mock           (canned, to begin your integration with)
      Without Ping++:     midas sandbox        (a local look-alike, no real money)
      By hand:            midas charge | refund | query
      Without webhooks:   midas timer          (asks Ping++ about what is due; once: midas poll)

    Amounts are in minor units: 1234 means 12.34 CNY. Every command takes --json for one JSON
    object on standard output, also when it fails.

    Exit status, which output that nobody can read or write never changes:
      0  done
      1  refused or failed: by this call no money moved
      2  wrong usage or settings: nothing was tried
      3  the outcome is unknown: money may have moved, also if you stopped the command after it
         had sent a charge or refund. Ask with midas query --refresh; repeating the same command
         with the same key is safe
    130  stopped by Ctrl-C (143: SIGTERM, 129: SIGHUP) where no money can have moved
    """
