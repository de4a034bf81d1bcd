"""`midas query`."""

from typing import Any

import click

from midas.cli import show
from midas.cli.calls import build
from midas.cli.exchange import Exchange, exchange
from midas.cli.help import Taught
from midas.cli.options import json_option
from midas.cli.wire import Wire, wire_options
from midas.v1.payment_service_pb2 import QueryRequest, QueryResponse


@click.command(cls=Taught)
@click.option("--order-no", help="All charges of this order.")
@click.option("--out-trade-no", help="The charge with this number of Midas's.")
@click.option("--charge-id", help="The charge with this id of Ping++'s (ch_…).")
@click.option("--refund-no", help="The charge of the refund with this number.")
@click.option("--refund-id", help="The charge of the refund with this id of Ping++'s (re_…).")
@click.option("--refresh", is_flag=True, help="Ask Ping++ now; without it, what Midas has stored.")
@wire_options
@json_option
def query(wire: Wire, as_json: bool, refresh: bool, **keys: str | None) -> int:
    """Show what is known of an order, a charge or a refund.

    Prints every charge that the key names, with all its refunds. Moves no money. With --refresh,
    Ping++ is asked, and what it says is recorded, and queued for the order service.

    When it fails (status 1): nothing is stored under this key, or Midas or Ping++ could not be
    asked. Old data is never shown as if it were new.

    For example:
      midas query --order-no A1 --refresh
      midas query --refund-no R1 --json
    """
    given = {name: value for name, value in keys.items() if value is not None}
    if len(given) != 1:
        raise click.UsageError(
            "give exactly one of --order-no, --out-trade-no, --charge-id, --refund-no, --refund-id"
        )
    fields: dict[str, Any] = {**given, "refresh": refresh}
    request = build(lambda: QueryRequest(**fields))
    asked = Exchange("Query", request, ids=given, moves_money=False, as_data=_as_data, show=_show)
    return exchange(wire, asked, as_json)


def _as_data(response: QueryResponse) -> dict[str, Any]:
    return {"charges": [show.data(each) for each in response.charges]}


def _show(response: QueryResponse) -> None:
    for charge in response.charges:
        show.show_charge(charge)
