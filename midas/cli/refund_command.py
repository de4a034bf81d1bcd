"""`midas refund`."""

from typing import Any

import click

from midas.cli import show
from midas.cli.calls import QUERY_AFTER, build
from midas.cli.exchange import Exchange, exchange
from midas.cli.fields import Amount, pairs
from midas.cli.help import Taught
from midas.cli.options import json_option, metadata_option
from midas.cli.wire import Wire, wire_options
from midas.runtime.command_errors import ExitStatus, Trouble
from midas.v1 import refund_pb2
from midas.v1.payment_service_pb2 import RefundRequest
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
    type=Amount(0),
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
      status 3   the outcome is unknown (the connection was lost, say, or you did not wait for the
                 answer): the money may be on its way back. Its amount stays reserved. Repeat the
                 same command with the same --refund-no, or query; never use a new --refund-no

    For example:
      midas refund --refund-no R1 --order-no A1 --amount 300 --description 'one cup returned'
      midas refund --refund-no R2 --order-no A1 --description 'the rest' --validate-only
    """
    request = build(lambda: _request(**fields))
    target = request.WhichOneof("target") or ""
    ids = {"refund_no": request.refund_no, target: getattr(request, target)}
    only_check = request.validate_only
    asked = Exchange(
        "Refund",
        request,
        ids=ids,
        moves_money=not only_check,
        as_data=lambda answer: {
            "refund": show.data(answer.refund),
            "validate_only": only_check,
        },
        show=lambda answer: _show(answer.refund, only_check),
        judge=lambda answer: None if only_check else _trouble(answer.refund, ids),
    )
    return exchange(wire, asked, as_json)


def _show(refund: Refund, only_check: bool) -> None:
    if only_check:
        click.echo("Nothing was refunded. It would be:")
    show.show_refund(refund)


_ACCEPTED = (refund_pb2.REFUND_STATE_SUCCEEDED, refund_pb2.REFUND_STATE_PENDING)


def _trouble(refund: Refund, ids: dict[str, str]) -> Trouble | None:
    if refund.state in _ACCEPTED:
        return None
    if refund.state == refund_pb2.REFUND_STATE_FAILED:
        return Trouble("REFUND_FAILED", "the channel refused this refund", retry="NEW_KEY", ids=ids)
    return Trouble(
        "OUTCOME_UNKNOWN",
        f"the refund is {show.state(refund)}: nobody knows yet what becomes of it",
        status=ExitStatus.UNKNOWN,
        money_moved="UNKNOWN",
        retry="SAME_KEY",
        query_after=QUERY_AFTER,
        ids=ids,
    )


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
