"""Plays the rows on the stage and prints what came of them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from midas.cli.demo.fetch import ControlRefused
from midas.cli.demo.launch import Launched
from midas.cli.demo.report import Report, Result, as_data
from midas.cli.demo.rows import Row
from midas.cli.demo.scene import NotHeld, Scene
from midas.cli.demo.stage import Stage, put_up
from midas.cli.options import print_json


class Play:
    """One run of the demo, which began at `started` of the monotonic clock."""

    def __init__(self, quiet: bool, started: float) -> None:
        self._report = Report(quiet)
        self._started = started
        self._results: list[Result] = []

    def rows(
        self, rows: Sequence[Row], processes: Launched, faults: Sequence[dict[str, Any]]
    ) -> None:
        """Play these. Raises Failed when the stage cannot be put up."""
        self._report.stage(
            "Starting a local Ping++ look-alike, Midas, the webhook gateway and an order service …"
        )
        with put_up(processes) as stage:
            self._report.stage(f"{stage.where}: ready after {self._seconds():.1f} s")
            _add(faults, stage)
            for row in rows:
                self._results.append(_play(row, stage, self._report))

    def print_results(self, kept: Path | None, as_json: bool) -> bool:
        """Print what came of all rows, and return whether all held."""
        seconds = self._seconds()
        self._report.ends_all(self._results, seconds)
        data = as_data(self._results, seconds, None if kept is None else str(kept))
        if as_json:
            print_json(data)
        elif kept is not None:
            click.echo(f"Logs, ledger and databases are in {kept}.")
        return bool(data["ok"])

    def _seconds(self) -> float:
        return time.monotonic() - self._started


def _add(faults: Sequence[dict[str, Any]], stage: Stage) -> None:
    for fault in faults:
        try:
            stage.lookalike.add_fault(fault)
        except ControlRefused as refused:
            raise click.UsageError(f"--fault: {refused}") from None


def _play(row: Row, stage: Stage, report: Report) -> Result:
    report.begins(row.number, row.happens)
    scene = Scene(stage, f"ORDER-{row.number}", report.step)
    started = time.monotonic()
    held, observed = True, ""
    try:
        observed = row.play(scene)
    except NotHeld as failure:
        held, observed = False, str(failure)
    except Exception as failure:  # the row did not hold; the others are played
        held, observed = False, f"{type(failure).__name__}: {failure}"
    result = Result(
        row.number,
        row.happens,
        row.expected,
        held,
        observed,
        round(time.monotonic() - started, 3),
        **scene.as_data(),
    )
    report.ends(result)
    return result
