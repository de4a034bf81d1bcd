"""The walk itself: it meets every sequence once, and none with too many faults."""

from collections.abc import Iterator
from itertools import product

from tests.faults.chooser import Odometer


def test_every_sequence_once() -> None:
    """Three calls with three options each and at most two faults: all of them, each once."""
    met = []
    for chooser in Odometer(2):
        met.append(tuple(chooser.choose("call", "abc") for _ in range(3)))
    wanted = {seq for seq in product("abc", repeat=3) if sum(x != "a" for x in seq) <= 2}
    assert len(met) == len(set(met))
    assert set(met) == wanted


def test_what_is_met_may_depend_on_what_was_chosen() -> None:
    """A run that ends early has no digits for what it did not reach."""
    met = []
    for chooser in Odometer(1):
        first = chooser.choose("first", ["ok", "crash"])
        met.append(
            (first,) if first == "crash" else (first, chooser.choose("second", ["ok", "no"]))
        )
    assert met == [("ok", "ok"), ("ok", "no"), ("crash",)]


def test_the_shares_are_all_runs_once() -> None:
    """Whatever the number of shares: together they hold each run once, the healthy one in each."""
    everything = list(met_by(Odometer(2)))
    for shares in (1, 2, 3, 7):
        parts = [list(met_by(Odometer(2, share, shares))) for share in range(shares)]
        healthy = everything[0]
        assert all(part[0] == healthy for part in parts)
        assert sorted(run for part in parts for run in part[1:]) == sorted(everything[1:])
        assert max(map(len, parts)) < len(everything) or shares == 1


def met_by(odometer: Odometer) -> Iterator[tuple[str, ...]]:
    """The runs of a walk in which what is asked depends on what was chosen."""
    for chooser in odometer:
        met = [chooser.choose("first", "abc")]
        met += [chooser.choose("call", "abcd") for _ in range(3 if met[0] == "b" else 4)]
        yield tuple(met)
