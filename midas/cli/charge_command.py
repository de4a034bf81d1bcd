"""`midas charge`."""

from datetime import timedelta
from typing import Any

import click
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from midas.cli import show
from midas.cli.calls import build
from midas.cli.exchange import Exchange, exchange
from midas.cli.fields import Amount, JsonObject, Length, pairs
from midas.cli.help import Taught
from midas.cli.options import json_option, metadata_option
from midas.cli.wire import Wire, wire_options
from midas.v1.payment_service_pb2 import ChargeRequest, ChargeResponse


@click.command(cls=Taught)
@click.option("--order-no", required=True, help="Your number of the order: the key of this call.")
@click.option("--channel", required=True, help="Ping++'s channel, such as wx_pub_qr or alipay_qr.")
@click.option(
    "--amount",
    required=True,
    type=Amount(1),
    help="In minor units: 1234 is 12.34 CNY.",
)
@click.option("--currency", default="cny", show_default=True, help="Lower-case ISO 4217.")
@click.option("--subject", required=True, help="What the payer sees, at most 32 characters.")
@click.option("--body", help="A longer description. Default: the subject.")
@click.option("--client-ip", default="127.0.0.1", show_default=True, help="The payer's address.")
@click.option(
    "--extra",
    type=JsonObject('{"product_id": "p1"}'),
    help="What the channel asks for, as a JSON object.",
)
@metadata_option
@click.option("--expires-in", type=Length(), help="The payer's time, such as 30m or 1h30m.")
@click.option("--charge-json", "in_full", is_flag=True, help="Print Ping++'s JSON for the SDK too.")
@wire_options
@json_option
def charge(wire: Wire, in_full: bool, as_json: bool, **fields: Any) -> int:
    r"""Open a charge for an order.

    Prints the charge; the payer can pay from now on. While a charge of the order is open, the same
    command gives that charge again, never a second one.

    When it fails:
      status 1   no money moved by this call. An order that is paid already says so
                 (ORDER_ALREADY_PAID, money_moved YES)
      status 3   the outcome is unknown (Ping++ did not answer, the connection was lost, or you
                 did not wait for the answer): the charge may exist. Repeat the same command, or
                 query. There will be one charge, never two

    For example:
      midas charge --order-no A1 --channel wx_pub_qr --amount 1234 --subject Tea \
          --extra '{"product_id": "tea"}'
      midas charge --order-no A1 --channel alipay_qr --amount 1234 --subject Tea \
          --expires-in 30m --json
    """
    request = build(lambda: _request(**fields))
    asked = Exchange(
        "Charge",
        request,
        ids={"order_no": request.order_no},
        moves_money=True,
        as_data=_as_data,
        show=lambda response: _show(response, in_full),
    )
    return exchange(wire, asked, as_json)


def _as_data(response: ChargeResponse) -> dict[str, Any]:
    return {
        "charge": show.data(response.charge),
        "reused": response.reused,
        "charge_json": response.charge_json,
    }


def _show(response: ChargeResponse, in_full: bool) -> None:
    if response.reused:
        click.echo("This charge was open already:")
    show.show_charge(response.charge)
    if in_full:
        click.echo(response.charge_json)


def _request(
    body: str | None,
    extra: dict[str, Any] | None,
    metadata: tuple[tuple[str, str], ...],
    expires_in: timedelta | None,
    **fields: Any,
) -> ChargeRequest:
    request = ChargeRequest(
        body=fields["subject"] if body is None else body,
        metadata=pairs(metadata, "--metadata"),
        **fields,
    )
    if extra is not None:
        request.extra.CopyFrom(ParseDict(extra, Struct()))
    if expires_in is not None:
        length = Duration()
        length.FromTimedelta(expires_in)
        request.expires_in.CopyFrom(length)
    return request
