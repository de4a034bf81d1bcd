"""Plays the rows on the stage and prints what came of them."""

import time
from collections.abc import Callable, Sequence
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
            turns = [_Turn(row, stage, self._report) for row in rows]
            for turn in turns:
                turn.begin()
            for turn in sorted(turns, key=_Turn.has_begun):  # those that wait come last
                self._results.append(turn.play())
        self._results.sort(key=lambda result: result.row)

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


class _Turn:
    """A row that is played, at once or in two parts."""

    def __init__(self, row: Row, stage: Stage, report: Report) -> None:
        self._row, self._report = row, report
        self._scene = Scene(stage, f"ORDER-{row.number}", report.step)
        self._seconds = 0.0
        self._failure = ""

    def has_begun(self) -> bool:
        """Whether a part of it is played before the other rows."""
        return bool(self._row.beginning)

    def begin(self) -> None:
        """Play that part, if the row has one."""
        if self.has_begun():
            self._report.begins(self._row.number, self._row.happens)
            self._do(lambda: self._row.begin(self._scene))

    def play(self) -> Result:
        """Play the rest, or all of it."""
        row = self._row
        self._report.begins(row.number, row.happens, again=self.has_begun())
        observed = "" if self._failure else self._do(lambda: row.play(self._scene))
        result = Result(
            row.number,
            row.happens,
            row.expected,
            not self._failure,
            self._failure or observed or "",
            round(self._seconds, 3),
            **self._scene.as_data(),
        )
        self._report.ends(result)
        return result

    def _do(self, part: Callable[[], str | None]) -> str | None:
        started = time.monotonic()
        try:
            return part()
        except NotHeld as failure:
            self._failure = str(failure)
        except Exception as failure:  # the row did not hold; the others are played
            self._failure = f"{type(failure).__name__}: {failure}"
        finally:
            self._seconds += time.monotonic() - started
        return None
