"""`midas refund`."""

from typing import Any

import click

from midas.cli import show
from midas.cli.calls import build, call
from midas.cli.fields import AMOUNT_MAX, pairs
from midas.cli.help import Taught
from midas.cli.options import json_option, metadata_option, say_json
from midas.cli.trouble import ExitStatus
from midas.cli.wire import Wire, connected, wire_options
from midas.v1 import refund_pb2
from midas.v1.payment_service_pb2 import RefundRequest, RefundResponse
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub
from midas.v1.refund_pb2 import FundingSource, Refund

FUNDING_SOURCES = {
    "unsettled": refund_pb2.FUNDING_SOURCE_UNSETTLED_FUNDS,
    "recharge": refund_pb2.FUNDING_SOURCE_RECHARGE_FUNDS,
}


@click.command(cls=Taught)
@click.option("--refund-no", required=True, help="Your number of this refund: the key of the call.")
@click.option("--order-no", help="The order whose paid charge is refunded.")
@click.option("--charge-id", help="Or the charge, by Ping++'s id (ch_…).")
@click.option(
    "--amount",
    type=click.IntRange(0, AMOUNT_MAX),
    default=0,
    help="In minor units: 1234 is 12.34 CNY. 0 or not given: all that is left.",
)
@click.option("--description", required=True, help="The reason; the payer may see it.")
@metadata_option
@click.option(
    "--funding-source",
    type=click.Choice(list(FUNDING_SOURCES)),
    help="Which balance pays (WeChat Pay and QQ Wallet only).",
)
@click.option("--validate-only", is_flag=True, help="Only check; nothing is refunded.")
@wire_options
@json_option
def refund(wire: Wire, as_json: bool, **fields: Any) -> int:
    """Give back all or a part of a paid charge.

    One refund number makes at most one refund: repeating the same command gives the same refund.
    Read the state: SUCCEEDED is done, PENDING is accepted (a person may have to open the
    action_url), FAILED was refused by the channel (status 1).

    When it fails:
      status 1   nothing was given back by this call
      status 3   the outcome is unknown: the money may be on its way back. Its amount stays
                 reserved. Repeat the same command with the same --refund-no, or query

    For example:
      midas refund --refund-no R1 --order-no A1 --amount 300 --description 'one cup returned'
      midas refund --refund-no R2 --order-no A1 --description 'the rest' --validate-only
    """
    request = build(lambda: _request(**fields))
    target = request.WhichOneof("target") or ""
    ids = {"refund_no": request.refund_no, target: getattr(request, target)}
    moves_money = not request.validate_only
    with connected(wire) as channel:
        method = PaymentServiceStub(channel).Refund
        response: RefundResponse = call(
            method, request, wire.timeout_s, moves_money=moves_money, ids=ids
        )
    if as_json:
        told = {"refund": show.data(response.refund), "validate_only": request.validate_only}
        say_json({**told, "ok": _status(response.refund, moves_money) is ExitStatus.DONE})
    else:
        if request.validate_only:
            click.echo("Nothing was refunded. It would be:")
        show.show_refund(response.refund)
    return _status(response.refund, moves_money)


def _status(refund: Refund, sent: bool) -> ExitStatus:
    if not sent:
        return ExitStatus.DONE
    if refund.state == refund_pb2.REFUND_STATE_FAILED:
        return ExitStatus.FAILED
    if refund.state == refund_pb2.REFUND_STATE_SUBMITTING:
        return ExitStatus.UNKNOWN
    return ExitStatus.DONE


def _request(
    order_no: str | None,
    charge_id: str | None,
    funding_source: str | None,
    metadata: tuple[tuple[str, str], ...],
    **fields: Any,
) -> RefundRequest:
    if (order_no is None) == (charge_id is None):
        raise click.UsageError("give either --order-no or --charge-id")
    source: FundingSource.ValueType = refund_pb2.FUNDING_SOURCE_UNSPECIFIED
    if funding_source is not None:
        source = FUNDING_SOURCES[funding_source]
    target = {"charge_id": charge_id} if order_no is None else {"order_no": order_no}
    return RefundRequest(
        **target,
        funding_source=source,
        metadata=pairs(metadata, "--metadata"),
        **fields,
    )
