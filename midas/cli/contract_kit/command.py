"""`midas contract-kit`."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

import click
import grpc
from grpc import aio

from midas.cli.contract_kit import report
from midas.cli.contract_kit.findings import Findings
from midas.cli.contract_kit.kit import Kit, Probes, connected
from midas.cli.contract_kit.probes import Probe
from midas.cli.contract_kit.promises import EFFECTS, RESTART
from midas.cli.contract_kit.scenarios import run_all
from midas.cli.contract_kit.target import CHANNEL, Target
from midas.cli.fields import Amount
from midas.cli.help import Taught
from midas.cli.options import json_option, print_json
from midas.runtime.command_errors import ExitStatus

CONNECT_TIMEOUT_S = 10.0
TIMEOUT_S = 10.0
AMOUNT = 100
PREFIX = "KIT-"

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command("contract-kit", cls=Taught)
@click.option("--target", required=True, help="The order service, host:port.")
@click.option(
    "--effects-command", help="Prints what was done with an order. {order_no} stands for it."
)
@click.option("--restart-command", help="Kills the order service (kill -9) and starts it again.")
@click.option(
    "--create-command",
    help="Creates an order first, if only those that exist are known. {order_no}, {amount}.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1, max=600),
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds that one call may take: what the gateway allows.",
)
@click.option(
    "--amount",
    type=Amount(1, 100_000_000),
    default=AMOUNT,
    show_default=True,
    help="The amount of each made-up charge, in minor units.",
)
@click.option("--prefix", default=PREFIX, show_default=True, help="How the orders' numbers begin.")
@click.option("--tls", is_flag=True, help="Speak TLS.")
@click.option("--tls-ca", type=_FILE, help="Who signed its certificate (PEM).")
@click.option("--tls-cert", type=_FILE, help="Your client certificate (PEM), if it wants one.")
@click.option("--tls-key", type=_FILE, help="The key of your client certificate (PEM).")
@json_option
def contract_kit(
    target: str,
    effects_command: str | None,
    restart_command: str | None,
    create_command: str | None,
    timeout_s: float,
    amount: int,
    prefix: str,
    as_json: bool,
    tls: bool,
    **tls_files: Path | None,
) -> int:
    r"""Judge whether an order service keeps the promises of midas.order.v1.

    It gets notifications of payments and refunds of made-up orders, as from Midas: once, again, all
    copies at once, long after later ones, after a gap, in a new epoch, once more under another
    sequence, late, with a refund that nobody asked for, with fields of a newer contract, by callers
    that go away, and over restarts. No Midas and no Ping++ is needed. Use a test environment: the
    order service books every notification.

    Only the answers can be observed from outside. Two commands of yours show the rest; they are
    run without a shell:

      --effects-command   prints how often each call had an effect on an order, as JSON:
                          {"pay_order_success": 1, "pay_order_closed": 0,
                           "refund_success": 0, "refund_failed": 0}
                          Everything that was answered OK must be visible to it at once. If it
                          prints this, its status does not count: an order may be unknown yet.
      --restart-command   kills the order service, as a crash would, starts it again on the same
                          address with the same data, and then ends. It is run several times.

    What was not judged is reported as such and never counts as kept: that is status 1 too.

    Exit status:
      0  every promise was judged and is kept, or may be left out
      1  at least one is broken or could not be judged, or nobody answers
      2  wrong usage, or one of your commands failed

    For example, with the sample order service:
      midas orders --port 6030 --file orders.sqlite3
      midas contract-kit --target 127.0.0.1:6030 \
          --effects-command 'midas orders --file orders.sqlite3 --show {order_no}' \
          --restart-command ./restart-orders.sh
    """
    cert, key = tls_files["tls_cert"], tls_files["tls_key"]
    if (cert is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together: give both or none")
    probes = Probes(
        effects=_probe(EFFECTS, effects_command),
        restart=_probe(RESTART, restart_command),
        create=_probe("--create-command", create_command),
    )
    credentials = _credentials(tls, **tls_files)
    orders = f"{prefix}{int(time.time()):x}{secrets.token_hex(2)}-".upper()
    findings = asyncio.run(_judge(target, credentials, probes, orders, amount, timeout_s))
    data = report.as_data(findings, target, orders)
    if as_json:
        print_json(data)
    else:
        report.print_findings(findings, target, orders)
    return ExitStatus.DONE if data["ok"] else ExitStatus.FAILED


async def _judge(
    target: str,
    credentials: grpc.ChannelCredentials | None,
    probes: Probes,
    orders: str,
    amount: int,
    timeout_s: float,
) -> Findings:
    channels: list[aio.Channel] = []

    def connect() -> aio.Channel:
        channels.append(_channel(target, credentials))
        return channels[-1]

    findings = Findings()
    given = {EFFECTS: probes.effects, RESTART: probes.restart}
    findings.without({option for option, probe in given.items() if probe is None})
    try:
        channel = connect()
        await connected(channel, CONNECT_TIMEOUT_S, f"at {target} cannot be reached")
        await run_all(Kit(Target(channel, timeout_s), findings, probes, orders, amount, connect))
    finally:
        for each in channels:
            await each.close()
    return findings


def _probe(option: str, command: str | None) -> Probe | None:
    return None if command is None else Probe(option, command)


def _channel(target: str, credentials: grpc.ChannelCredentials | None) -> aio.Channel:
    options = [*CHANNEL, ("grpc.enable_http_proxy", 0)]
    if credentials is None:
        return aio.insecure_channel(target, options=options)
    return aio.secure_channel(target, credentials, options=options)


def _credentials(
    tls: bool, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None
) -> grpc.ChannelCredentials | None:
    if not (tls or tls_ca or tls_cert):
        return None
    ca, cert, key = (path.read_bytes() if path else None for path in (tls_ca, tls_cert, tls_key))
    return grpc.ssl_channel_credentials(ca, key, cert)
