"""Which files are broken on purpose, and which tests have to notice."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants_of

ROOT = Path(__file__).parents[2]

_CORE = (
    *("tests/test_payment.py", "tests/test_payment_refunds.py", "tests/test_order.py"),
    *("tests/test_payment_restored.py", "tests/test_charge.py", "tests/test_refund.py"),
    *("tests/test_numbering.py", "tests/test_planning.py"),
)
_FLOWS = (
    *("tests/test_decisions.py", "tests/test_refund_decisions.py", "tests/test_terms.py"),
    *("tests/test_flows.py", "tests/test_flows_twice.py", "tests/test_announce.py"),
    *("tests/test_resolve_charge.py", "tests/test_unsent.py", "tests/test_keyed_locks.py"),
    *("tests/faults/test_second_charge.py", "tests/faults/test_lost_commits.py"),
    *("tests/test_quiet_looks.py", "tests/test_sweep.py", "tests/test_skew.py"),
    "tests/faults/test_missing.py",
    *("tests/faults/test_declined.py", "tests/faults/test_refund_twice.py"),
    *("tests/faults/test_booked_already.py", "tests/faults/test_not_sent.py"),
    *("tests/faults/test_clocks.py", "tests/faults/test_failover.py"),
    *("tests/faults/test_reversal.py", "tests/faults/test_charge_absence.py"),
    *("tests/faults/test_claims.py", "tests/test_out_trade_no.py"),
    "tests/faults/test_numbers_of_lost_orders.py",
)
_EVENTS = ("tests/test_events.py", "tests/test_events_waiting.py", "tests/test_events_hostile.py")
_VERDICTS = ("tests/psp/test_codes.py", "tests/psp/test_verdicts.py", "tests/psp/test_recorded.py")
_STORES = ("tests/contracts/test_store.py", "tests/contracts/test_events_store.py")
_COMMITS = (
    *("tests/storage/test_doubt.py", "tests/storage/test_refused.py"),
    *("tests/storage/test_group_commit.py", *_STORES),
)

Tests = tuple[tuple[str, ...], ...]
"""Files in the order in which they are asked, the quick ones first."""


@dataclass(frozen=True, slots=True)
class Area:
    """Source files and their tests."""

    sources: tuple[str, ...]
    tests: Tests


WHOLE = (
    Area(
        (
            "midas/charge.py",
            "midas/refund.py",
            "midas/payment.py",
            "midas/draft.py",
            "midas/planning.py",
        ),
        (_CORE, _FLOWS, _EVENTS),
    ),
    Area(("midas/psp/verdicts.py", "midas/psp/codes.py"), (_VERDICTS,)),
    Area(("midas/storage/postgres_faults.py",), (("tests/storage/test_postgres_faults.py",),)),
    Area(("midas/storage/sqlite_faults.py",), (("tests/storage/test_sqlite_faults.py",),)),
)
"""Every mutant of these is tried."""

DRAWN = (
    Area(("midas/flows",), ((*_CORE, *_FLOWS), _EVENTS)),
    Area(("midas/storage/commits.py",), (_COMMITS,)),
)
"""Of the mutants of these, as many as are asked for are drawn by a seed."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A mutant and the tests that it must not pass."""

    mutant: Mutant
    tests: Tests


def trials(count: int, seed: int, only: tuple[str, ...] = ()) -> list[Trial]:
    """What is to be tried: everything of WHOLE, and a sample of DRAWN."""
    wanted = [each for area in WHOLE for each in _of(area)]
    wanted += drawn([each for area in DRAWN for each in _of(area)], count, seed)
    if only:
        wanted = [each for each in wanted if each.mutant.path.startswith(only)]
    return wanted


def drawn(population: Sequence[Trial], count: int, seed: int) -> list[Trial]:
    """The trials of the lowest numbers, in their old order.

    The number comes from the seed and the mutant alone, so that an edit of a file changes the
    sample by what it adds and takes away, and no more.
    """

    def number(each: Trial) -> bytes:
        identity = f"{seed}\n{each.mutant.path}\n{each.mutant.name}"
        return hashlib.sha256(identity.encode()).digest()

    lowest = {id(each) for each in sorted(population, key=number)[:count]}
    return [each for each in population if id(each) in lowest]


def group_of(path: str) -> str:
    """The group in which enough must be caught: a file that is tried as a whole, or the sample."""
    whole = any(path in area.sources for area in WHOLE)
    return path if whole else "drawn of flows and commits"


def existing(paths: Iterable[str]) -> set[tuple[str, str]]:
    """All mutants of these files, by path and name, tried or not."""
    return {
        (path, mutant.name)
        for path in set(paths)
        for mutant in mutants_of(path, (ROOT / path).read_text())
    }


def _of(area: Area) -> list[Trial]:
    return [
        Trial(mutant, area.tests)
        for source in area.sources
        for path in _files(source)
        for mutant in mutants_of(path, (ROOT / path).read_text())
    ]


def _files(source: str) -> list[str]:
    path = ROOT / source
    found = sorted(path.glob("*.py")) if path.is_dir() else [path]
    return [str(each.relative_to(ROOT)) for each in found]
