"""`midas orders`."""

from __future__ import annotations

import asyncio
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midas.cli.call_errors import Failed, not_started, print_trouble
from midas.cli.help import Taught
from midas.cli.options import json_option, print_json
from midas.runtime.command_errors import ExitStatus, Trouble, as_data

if TYPE_CHECKING:
    from midas.sandbox.orders.server import OrderOptions, OrderServer
    from midas.sandbox.orders.tls import OrderTls

PORT = 6030
CONTROL_PORT = 6031
_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command(cls=Taught)
@click.option("--ip", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="For gRPC. 0 takes a free one.",
)
@click.option(
    "--control-port",
    type=click.IntRange(0, 65535),
    default=CONTROL_PORT,
    show_default=True,
    help="For the control API. 0 takes a free one.",
)
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    default="midas-orders.sqlite3",
    show_default=True,
    help="Its record of notifications. Another start with this file continues it.",
)
@click.option("--tls-cert", type=_FILE, help="Speak TLS with this certificate chain (PEM).")
@click.option("--tls-key", type=_FILE, help="Its private key (PEM).")
@click.option("--tls-client-ca", type=_FILE, help="Serve only callers whose certificate it signed.")
@click.option("--show", metavar="ORDER_NO", help="Only print what the file says of this order.")
@json_option
def orders(
    ip: str,
    port: int,
    control_port: int,
    file: Path,
    show: str | None,
    as_json: bool,
    **tls_files: Path | None,
) -> int:
    """Run a sample order service until SIGTERM or Ctrl-C, which end it with status 0.

    It implements midas.order.v1.OrderPaymentService and keeps every promise of that contract:
    what it answers OK to is on disk, and a notification that is not above the highest sequence of
    its order has no effect, over restarts and kill -9. Set the gateway's ORDER_TARGET to it; a
    gateway with TLS_CA_PATH calls it over TLS, which --tls-cert and --tls-key turn on.

    It misbehaves on demand through its control API (refuse, delay, stall, lose the answer, go
    down): see midas/sandbox/orders/control.py and faults.py. When it cannot start: status 2 and a
    sentence that says why.

    --show prints one JSON object, with how often each call had an effect. For an order that
    the service does not know it says so, with status 1, beside counts of 0.

    For example:
      midas orders --file orders.sqlite3
      midas orders --file orders.sqlite3 --show A1001
      curl -X POST -d '{"match": {"order_no": "A1001"}, "count": null,
           "action": {"kind": "refuse", "code": "NOT_FOUND"}}' 127.0.0.1:6031/_orders/faults
    """
    from midas.sandbox.errors import SandboxError
    from midas.sandbox.orders.server import OrderOptions

    try:
        if show is not None:
            return _show(file, show, as_json)
        tls = _tls(**tls_files)
        options = OrderOptions(file=file, ip=ip, port=port, control_port=control_port, tls=tls)
        asyncio.run(_serve(options, as_json))
    except SandboxError as error:
        raise not_started("ORDERS", str(error)) from None
    return ExitStatus.DONE


def _tls(
    tls_cert: Path | None, tls_key: Path | None, tls_client_ca: Path | None
) -> OrderTls | None:
    from midas.sandbox.orders.tls import OrderTls

    if tls_cert is None or tls_key is None:
        if tls_cert or tls_key or tls_client_ca:
            raise click.UsageError("--tls-cert and --tls-key belong together: give both or none")
        return None
    return OrderTls(cert=tls_cert, key=tls_key, client_ca=tls_client_ca)


async def _serve(options: OrderOptions, as_json: bool) -> None:
    from midas.sandbox.orders.server import OrderServer

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with OrderServer(options) as server:
        _print_ready(server, as_json)
        await stopped.wait()


def _print_ready(server: OrderServer, as_json: bool) -> None:
    exports = {"ORDER_TARGET": server.target}
    if as_json:
        ready = {"event": "ready", "target": server.target, "environment": exports}
        print_json({**ready, "control": server.control_url, "tls": server.has_tls})
        return
    click.echo(f"# The order service is at {server.target}. A gateway that uses it needs:")
    for name, value in exports.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    if server.has_tls:
        click.echo("# and in TLS_CA_PATH the file with who signed its certificate")
    click.echo(f"# Its control API is at {server.control_url}")


def _show(file: Path, order_no: str, as_json: bool) -> int:
    from midas.sandbox.orders.book import OrderBook

    if not file.exists():
        raise Failed(Trouble("ORDERS", f"there is no file {file}", advice="Name it with --file."))
    book = OrderBook(file)
    try:
        order = book.order(order_no)
    finally:
        book.close()
    if order.last_sequence:
        print_json(order.to_json())
        return ExitStatus.DONE
    advice = "It is notified of an order when a charge of it is paid or ends."
    trouble = Trouble("NOT_FOUND", f"no notification about the order {order_no}", advice=advice)
    print_json({**order.to_json(), "ok": False, "error": as_data(trouble)})
    if not as_json:
        print_trouble(trouble, as_json=False)
    return trouble.status
