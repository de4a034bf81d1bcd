"""What the demo prints: each step as it happens, and what came of every row."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from midas.runtime.command_errors import Trouble
from midas.runtime.command_errors import as_data as trouble_data


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one row. `observed` is the first thing that was wrong, if any was."""

    row: int
    happens: str
    expected: str
    held: bool
    observed: str
    seconds: float
    steps: list[str]
    checks: list[dict[str, Any]]

    def as_data(self) -> dict[str, Any]:
        """The row in the JSON of the demo."""
        return {
            "row": self.row,
            "happens": self.happens,
            "must_be_seen": self.expected,
            "held": self.held,
            "seen": self.observed,
            "seconds": self.seconds,
            "steps": self.steps,
            "checks": self.checks,
        }


class Report:
    """Prints for people, or nothing with `quiet`."""

    def __init__(self, quiet: bool) -> None:
        self._console = Console(highlight=False, quiet=quiet, soft_wrap=True)

    def stage(self, text: str) -> None:
        """Print something about the stage itself."""
        self._console.print(Text(text, style="dim"))

    def begins(self, number: int, happens: str, again: bool = False) -> None:
        """Print that a row begins, or that one goes on which had begun before the others."""
        what = f"Row {number} goes on" if again else f"Row {number}"
        self._console.print(Text(f"\n{what}: {happens}", style="bold"))

    def step(self, text: str) -> None:
        """Print what happened in a row."""
        self._console.print(Text(f"  {text}"))

    def ends(self, result: Result) -> None:
        """Print how a row has ended."""
        if result.held:
            words = f"  held: {len(result.checks)} checks, {result.seconds:.1f} s"
            self._console.print(Text(words, style="green"))
        else:
            self._console.print(Text(f"  NOT HELD: {result.observed}", style="bold red"))

    def ends_all(self, results: list[Result], seconds: float) -> None:
        """Print the table of all rows."""
        table = Table(title="\nWhat was observed", title_justify="left", expand=False)
        table.add_column("row", justify="right")
        table.add_column("what was observed")
        table.add_column("")
        for result in results:
            held = Text("held", style="green") if result.held else Text("NOT HELD", style="red")
            table.add_row(str(result.row), Text(result.observed), held)
        Console(highlight=False, quiet=self._console.quiet).print(table)
        count = sum(result.held for result in results)
        self._console.print(f"{count} of {len(results)} rows held, {seconds:.1f} s in all.")


def _not_held(results: list[Result]) -> Trouble:
    rows = ", ".join(str(result.row) for result in results if not result.held)
    return Trouble("ROWS_NOT_HELD", f"not held: row {rows}", retry="NEVER")


def as_data(results: list[Result], seconds: float, kept: str | None) -> dict[str, Any]:
    """The same for programs."""
    ok = bool(results) and all(result.held for result in results)
    return {
        "ok": ok,
        **({} if ok else {"error": trouble_data(_not_held(results))}),
        "rows": [result.as_data() for result in results],
        "seconds": round(seconds, 2),
        "kept": kept,
    }
