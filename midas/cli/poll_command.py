"""`midas poll`."""

import click

from midas import limits
from midas.cli import polling, show
from midas.cli.exchange import Exchange, exchange
from midas.cli.help import Taught
from midas.cli.options import json_option
from midas.cli.wire import Wire, wire_options
from midas.runtime.command_errors import Trouble
from midas.v1 import payment_service_pb2 as pb

KINDS = {"charges": pb.POLL_KIND_CHARGES, "refunds": pb.POLL_KIND_REFUNDS}


@click.command(cls=Taught)
@click.option(
    "--kinds",
    multiple=True,
    type=click.Choice(list(KINDS)),
    help="Look at these only. May be repeated. Default: both.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, limits.POLL_ROWS_MAX),
    help=f"The most charges and refunds to look at. Default: {limits.POLL_ROWS_DEFAULT}.",
)
@wire_options
@json_option
def poll(wire: Wire, as_json: bool, kinds: tuple[str, ...], limit: int | None) -> int:
    """Ask Ping++ about all charges and refunds that are due.

    Webhooks are not certain. This calls PollPending once and prints what it did. What it finds is
    recorded, and queued for the order service, as if a webhook had brought it. Any number of these
    may run at once. It moves no money, except that what is unknown may be sent to Ping++ once more
    where that is certainly safe, as Midas does by itself.

    How it ends:
      status 0   done. If more looks are due (more_due), run it again at once
      status 1   nothing could be asked: Midas or Ping++ cannot be reached, or the database. What
                 was not looked at stays due
      status 3   no answer came, or you did not wait for it: Midas may go on with the run, and may
                 send what was unknown. Running it again is safe

    For example:
      midas poll
      midas poll --kinds refunds --limit 500 --json
    """
    request = pb.PollPendingRequest(kinds=[KINDS[each] for each in kinds], limit=limit or 0)
    asked = Exchange(
        "PollPending",
        request,
        ids={},
        moves_money=True,
        as_data=show.data,
        show=_show,
        advice=_advice,
    )
    return exchange(wire, asked, as_json)


def _show(response: pb.PollPendingResponse) -> None:
    for sentence in (polling.in_words(response), polling.what_follows(response)):
        click.echo(f"{sentence[0].upper()}{sentence[1:]}.")
    if response.failed:
        click.echo("A look that failed comes up again later.")
    if response.more_due:
        click.echo("Run the same command again at once.")


def _advice(trouble: Trouble) -> str:
    if trouble.money_moved == "UNKNOWN":
        return "Midas may go on with this run. Running the same command again is safe."
    if trouble.retry == "SAME_KEY":
        wait = f" after {trouble.retry_after}" if trouble.retry_after else ""
        kept = "No money moved by this call. What was not looked at stays due."
        return f"{kept} Run the same command again{wait}."
    return ""
