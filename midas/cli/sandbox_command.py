"""`midas sandbox`."""

from __future__ import annotations

import asyncio
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from midas.cli.call_errors import not_started
from midas.cli.help import Taught
from midas.cli.options import json_option, print_json, warn_of_secret

if TYPE_CHECKING:
    from midas.sandbox.http import SandboxServer
    from midas.sandbox.options import SandboxOptions

PORT = 6020
API_KEY_VARIABLE = "SANDBOX_API_KEY"
"""Where the key is looked for. It is not PINGPP_API_KEY, which may hold the key of a real account:
the sandbox prints its key."""
TIME_SCALE_MOST = 1e6

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command(cls=Taught)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="0 takes a free one.",
)
@click.option("--app-id", help="The app's id. Default: one of the sandbox's own.")
@click.option(
    "--api-key",
    envvar=API_KEY_VARIABLE,
    help="The secret key that Midas must send, sk_test_… or sk_live_…. Better given as"
    f" {API_KEY_VARIABLE} in the environment.",
)
@click.option(
    "--merchant-public-key",
    type=_FILE,
    help="The public half of Midas's key (PEM). Default: a key made for this run.",
)
@click.option("--unsigned", is_flag=True, help="Want no signatures, as an account without a key.")
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse what the newest SDKs never send: signatures of the body alone, True in a query.",
)
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file for everything that happens; the next sandbox on it continues.",
)
@click.option(
    "--latency",
    type=click.FloatRange(0, 600),
    default=0.0,
    show_default=True,
    help="Seconds that every answer takes.",
)
@click.option(
    "--time-scale",
    type=click.FloatRange(min=0, min_open=True, max=TIME_SCALE_MOST),
    default=1.0,
    show_default=True,
    help="Seconds that pass in the sandbox for each real one.",
)
@click.option(
    "--webhook-url",
    "webhook_urls",
    multiple=True,
    metavar="URL",
    help="Where every event is POSTed, signed and repeated as Ping++ does. May be repeated.",
)
@json_option
def sandbox(as_json: bool, unsigned: bool, **options: Any) -> None:
    """Run a local Ping++ look-alike. No real money moves.

    Prints what to export for a Midas that uses it, then serves until Ctrl-C or SIGTERM. Open its
    address in a browser to pay or cancel charges; /_sandbox/ledger says what money really moved,
    and /_sandbox/faults takes faults on demand (lost answers, delays, wrong amounts and others),
    of webhooks too (lost, doubled, late, out of order, forged); /_sandbox/deliveries shows what
    became of each webhook. A webhook gateway needs PINGPP_PUBLIC_KEY_PATHS, the key that webhooks
    are signed with, and nothing else of what is printed.

    Requests must be signed; --unsigned is for accounts that have not turned that on. Keys that are
    not given are made for this run and removed with it. Without --ledger everything is forgotten at
    the end. When it cannot start: status 2 and a sentence that says why.

    For example:
      midas sandbox
      midas sandbox --port 0 --latency 0.2 --time-scale 60 --json
      midas sandbox --webhook-url http://127.0.0.1:6013/pingpp/webhooks
      curl -X POST -d '{"charge_id": "ch_…"}' 127.0.0.1:6020/_sandbox/pay
    """
    from midas.sandbox.app import run_sandbox
    from midas.sandbox.errors import SandboxError

    if click.get_current_context().get_parameter_source("api_key") is ParameterSource.COMMANDLINE:
        warn_of_secret("--api-key", API_KEY_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="midas-sandbox-") as name:
        folder = Path(name)
        private_key = None
        if unsigned and options["merchant_public_key"] is not None:
            raise click.UsageError("--unsigned and --merchant-public-key exclude each other")
        if not unsigned and options["merchant_public_key"] is None:
            from midas.cli.keys import make_keys

            made = make_keys(folder, "merchant")
            options["merchant_public_key"], private_key = made.public, made.private
        try:
            asyncio.run(run_sandbox(_options(folder, **options), _ready(private_key, as_json)))
        except SandboxError as error:
            raise not_started("SANDBOX", str(error)) from None


def _options(
    folder: Path,
    merchant_public_key: Path | None,
    app_id: str | None,
    api_key: str | None,
    ledger: Path | None,
    latency: float,
    **options: Any,
) -> SandboxOptions:
    from midas.sandbox.options import DEFAULT_APP_ID, SandboxOptions

    pem = None if merchant_public_key is None else merchant_public_key.read_text()
    return SandboxOptions(
        app_id=app_id or DEFAULT_APP_ID,
        api_key=_checked(api_key or ""),
        livemode=(api_key or "").startswith("sk_live_"),
        merchant_public_key=pem,
        public_key_path=folder / "pingpp_public_key.pem",
        ledger_path=ledger,
        latency_s=latency,
        **options,
    )


def _ready(private_key: Path | None, as_json: bool) -> Callable[[SandboxServer], None]:
    def print_exports(server: SandboxServer) -> None:
        exports = {
            "PINGPP_API_BASE": server.url,
            "PINGPP_API_KEY": server.options.key(),
            "PINGPP_APP_ID": server.options.app_id,
            "PINGPP_PUBLIC_KEY_PATHS": str(server.options.public_key_path),
        }
        if private_key is not None:
            exports["PINGPP_PRIVATE_KEY_PATH"] = str(private_key)
        if as_json:
            print_json({"event": "ready", "url": server.url, "environment": exports})
            return
        click.echo(f"# The sandbox is at {server.url}. A Midas that uses it needs:")
        for name, value in exports.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        if private_key is None and server.options.merchant_public_key is not None:
            click.echo("# and PINGPP_PRIVATE_KEY_PATH, the private half of your merchant key.")
        click.echo(f"# {_webhooks(server.webhooks.urls)}")

    return print_exports


def _webhooks(urls: tuple[str, ...]) -> str:
    if not urls:
        return "No webhooks are sent: give --webhook-url, or set urls at /_sandbox/webhooks."
    return f"Webhooks go to {', '.join(urls)}; a gateway needs PINGPP_PUBLIC_KEY_PATHS only."


def _checked(api_key: str) -> str:
    if api_key and not api_key.startswith(("sk_test_", "sk_live_")):
        raise click.UsageError("--api-key must begin with sk_test_ or sk_live_")
    return api_key
