"""`midas serve`."""

import click

from midas.cli.call_errors import Failed
from midas.cli.help import Taught
from midas.cli.options import json_option, print_json
from midas.runtime.command_errors import Trouble
from midas.runtime.manual import manual


class _WithSettings(Taught):
    """Its help lists every setting, from `midas.config` itself."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        from midas.config.settings import Settings

        with formatter.section("Settings, from the environment or the config server"):
            formatter.write_dl(manual(Settings))


@click.command(cls=_WithSettings)
@click.option(
    "--check",
    is_flag=True,
    help="Only say whether it would start: asks for all that serve asks for, and changes nothing.",
)
@json_option
def serve(check: bool, as_json: bool) -> int:
    r"""Serve midas.v1.PaymentService over gRPC until SIGTERM.

    Reads its settings from the environment, then from the config server. Logs JSON lines to
    standard error; the line with the event `serving` says that calls are accepted, and on which
    port. On SIGTERM it finishes what is under way and ends with status 0.

    When it does not start, status 2 and a sentence for each mistake say which setting to change;
    nothing was sent to Ping++. --check says the same and changes nothing; only whether another
    process has the port, which may be the one to be replaced, is left to the start, which finds it
    out before it migrates anything. After a crash (status 1) start it again: everything that was
    under way is on disk, and Midas asks Ping++ for its outcome.

    For example:
      PINGPP_API_KEY=sk_test_… PINGPP_APP_ID=app_… \
          PINGPP_PRIVATE_KEY_PATH=merchant.pem midas serve
      midas serve --check --json
    """
    from midas import app, start

    if check:
        settings = start.prepare(app.parts)
        _print_check(settings.env, settings.livemode, as_json)
        return 0
    status = app.run(app.serve)
    if status and as_json:
        raise Failed(Trouble("CRASHED", "midas serve broke; the last line of its log says where"))
    return status


def _print_check(env: str, livemode: bool, as_json: bool) -> None:
    if as_json:
        print_json({"env": env, "livemode": livemode})
    else:
        money = "real money moves" if livemode else "test mode, no real money"
        click.echo(f"The settings will do: {env}, {money}.")
