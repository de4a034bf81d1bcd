"""The table."""

import os
import platform
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.benchmarks.plan import Plan
from tests.benchmarks.rounds import middle


@dataclass(frozen=True, slots=True)
class Row:
    """One measured number."""

    benchmark: str
    what: str
    measured: float
    unit: str
    least: float = 0.0
    most: float = 0.0
    """The spread over the rounds."""
    wanted: str = ""
    holds: bool | None = None
    count: str = ""

    def as_data(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def row(
    benchmark: str,
    what: str,
    values: Sequence[float],
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    count: str = "",
) -> Row:
    """The median of the rounds, with what is wanted of it."""
    measured = middle(values)
    wanted, holds = "", None
    if at_most is not None:
        wanted, holds = f"≤ {at_most:g}", measured <= at_most
    if at_least is not None:
        wanted, holds = f"≥ {at_least:g}", measured >= at_least
    least, most = (min(values), max(values)) if values else (0.0, 0.0)
    return Row(benchmark, what, measured, unit, least, most, wanted, holds, count)


def machine(plan: Plan) -> dict[str, Any]:
    """Where and how it was measured."""
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
        "plan": asdict(plan),
    }


_HEADER = ("benchmark", "what", "measured", "unit", "rounds from-to", "wanted", "holds", "n")
_RIGHT = (2, 4)


def table(rows: Sequence[Row]) -> str:
    """All rows as text."""
    cells = [_HEADER, *(_cells(each) for each in rows)]
    return aligned(cells, _RIGHT)


def aligned(cells: Sequence[Sequence[str]], right: Collection[int]) -> str:
    """Cells as text, the first line of them as the header; the columns in `right` end alike."""
    widths = [max(len(line[n]) for line in cells) for n in range(len(cells[0]))]
    lines = [_line(each, widths, right) for each in cells]
    return "\n".join((lines[0], "-" * len(lines[0]), *lines[1:]))


def _line(cells: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    padded = (
        cell.rjust(width) if n in right else cell.ljust(width)
        for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    holds = {None: "", True: "yes", False: "NO"}[row.holds]
    spread = f"{number(row.least)} - {number(row.most)}"
    return (
        row.benchmark,
        row.what,
        number(row.measured),
        row.unit,
        spread,
        row.wanted,
        holds,
        row.count,
    )


def number(value: float) -> str:
    """With three digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
