"""`midas demo`."""

import json
import time
from pathlib import Path
from typing import Any

import click

from midas.cli.demo.lookalike import ControlRefused
from midas.cli.demo.report import Report, Result, as_data
from midas.cli.demo.rows import ROWS, Row
from midas.cli.demo.scene import NotHeld, Scene
from midas.cli.demo.stage import Stage, put_up
from midas.cli.fields import JsonObject
from midas.cli.help import Taught
from midas.cli.options import json_option
from midas.cli.trouble import ExitStatus


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
    help="An empty folder where the logs, the ledger and the database stay.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=JsonObject(),
    help="Let the sandbox do something wrong from the start, to see the demo notice it.",
)
@json_option
def demo(
    numbers: tuple[str, ...], keep: Path | None, faults: tuple[dict[str, Any], ...], as_json: bool
) -> int:
    """Play the joint test table over real sockets. Needs nothing else and touches nothing of yours.

    Starts a local Ping++ look-alike and Midas as processes on free ports, with keys and a database
    made for this run, plays what an order service and a payer do, and compares what Midas says
    with what the look-alike's ledger says. Everything is stopped and removed at the end. Takes
    about ten seconds. Reads no settings of yours; no real money moves.

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
    report = Report(quiet=as_json)
    report.stage("Starting a local Ping++ look-alike and Midas …")
    with put_up(keep) as stage:
        where = f"Midas at {stage.target}, the look-alike at {stage.lookalike.url}"
        report.stage(f"{where}, ready after {time.monotonic() - started:.1f} s")
        _add(faults, stage)
        chosen = [row for row in ROWS if not numbers or str(row.number) in numbers]
        results = [_play(row, stage, report) for row in chosen]
    seconds = time.monotonic() - started
    report.ends_all(results, seconds)
    told = as_data(results, seconds, None if keep is None else str(keep))
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
    elif keep is not None:
        click.echo(f"Logs, ledger and database are in {keep}.")
    return ExitStatus.DONE if told["ok"] else ExitStatus.FAILED


def _add(faults: tuple[dict[str, Any], ...], stage: Stage) -> None:
    for fault in faults:
        try:
            stage.lookalike.add_fault(fault)
        except ControlRefused as refused:
            raise click.UsageError(f"--fault: {refused}") from None


def _play(row: Row, stage: Stage, report: Report) -> Result:
    report.begins(row.number, row.happens)
    scene = Scene(stage, f"ORDER-{row.number}", report.step)
    started = time.monotonic()
    held, seen = True, ""
    try:
        seen = row.play(scene)
    except NotHeld as failure:
        held, seen = False, str(failure)
    except Exception as failure:  # whatever broke, the row did not hold; the others are played
        held, seen = False, f"{type(failure).__name__}: {failure}"
    result = Result(
        row.number,
        row.happens,
        row.must_be_seen,
        held,
        seen,
        round(time.monotonic() - started, 3),
        **scene.told(),
    )
    report.ends(result)
    return result
