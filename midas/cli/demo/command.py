"""`midas demo`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from midas.cli.demo.launch import launched
from midas.cli.demo.rows import ROWS
from midas.cli.fields import JsonObject
from midas.cli.help import Taught
from midas.cli.options import json_option
from midas.runtime.command_errors import ExitStatus


class _Fault(JsonObject):
    """A fault of the sandbox."""

    def more(self) -> str:
        """The kinds that there are."""
        from midas.sandbox.faults import KINDS

        return f"; action.kind is one of {', '.join(KINDS)}"


def _check(faults: Sequence[dict[str, Any]]) -> None:
    """Raise UsageError, while nothing is started, if the sandbox would refuse one of them."""
    if not faults:
        return
    from midas.sandbox.errors import ControlError
    from midas.sandbox.faults import FaultList

    checked = FaultList()
    for fault in faults:
        try:
            checked.add(fault)
        except (ControlError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise click.UsageError(f"--fault: {error}") from None


@click.command(cls=Taught)
@click.option(
    "--row",
    "numbers",
    multiple=True,
    type=click.Choice([str(row.number) for row in ROWS]),
    help="Play this row only. May be repeated.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="An empty folder where the logs, the ledger and the databases stay.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=_Fault('{"action": {"kind": "lose_response"}}'),
    help="Let the sandbox do something wrong from the start, to see the demo notice it.",
)
@json_option
def demo(
    numbers: tuple[str, ...], keep: Path | None, faults: tuple[dict[str, Any], ...], as_json: bool
) -> int:
    """Play the joint test table over real sockets. Needs nothing else and touches nothing of yours.

    Starts a local Ping++ look-alike, Midas, the webhook gateway and a sample order service as
    processes on free ports, with keys and databases made for this run, plays what an order service
    and a payer do, and compares what Midas says with the look-alike's ledger and with the
    notifications that the order service wrote down. Everything is stopped and removed at the end.
    Takes about 20 seconds: most of it is the time after which Midas looks by itself (rows 4 and
    8). Reads no settings of yours; no real money moves.

    Status 0 only if every row held. Status 1 if one did not or something did not start: the last
    table says which, and --keep keeps the logs.

    For example:
      midas demo
      midas demo --row 12 --keep /tmp/demo
      midas demo --json
      midas demo --row 3 --fault '{"count": null, "match": {"method": "GET"},
          "action": {"kind": "alter", "fields": {"amount": 1}}}'
    """
    started = time.monotonic()
    _check(faults)
    with launched(keep) as processes:
        # imported here, while the processes start
        from midas.cli.demo.play import Play

        chosen = [row for row in ROWS if not numbers or str(row.number) in numbers]
        play = Play(as_json, started)
        play.rows(chosen, processes, faults)
    held = play.print_results(keep, as_json)
    return ExitStatus.DONE if held else ExitStatus.FAILED
