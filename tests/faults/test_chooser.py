"""The walk itself: it has every sequence once, and none with too many faults."""

from collections.abc import Iterator
from itertools import product

from tests.faults.chooser import Odometer


def test_every_sequence_once() -> None:
    """Three calls with three options each and at most two faults: all of them, each once."""
    walked = []
    for chooser in Odometer(2):
        walked.append(tuple(chooser.choose("call", "abc") for _ in range(3)))
    wanted = {seq for seq in product("abc", repeat=3) if sum(x != "a" for x in seq) <= 2}
    assert len(walked) == len(set(walked))
    assert set(walked) == wanted


def test_what_is_reached_may_depend_on_what_was_chosen() -> None:
    """A run that ends early has no digits for what it did not reach."""
    walked = []
    for chooser in Odometer(1):
        first = chooser.choose("first", ["ok", "crash"])
        walked.append(
            (first,) if first == "crash" else (first, chooser.choose("second", ["ok", "no"]))
        )
    assert walked == [("ok", "ok"), ("ok", "no"), ("crash",)]


def test_the_shares_are_all_runs_once() -> None:
    """For any number of shares: together they hold each run once, and each has the healthy one."""
    everything = list(runs_of(Odometer(2)))
    for shares in (1, 2, 3, 7):
        parts = [list(runs_of(Odometer(2, share, shares))) for share in range(shares)]
        healthy = everything[0]
        assert all(part[0] == healthy for part in parts)
        assert sorted(run for part in parts for run in part[1:]) == sorted(everything[1:])
        assert max(map(len, parts)) < len(everything) or shares == 1


def runs_of(odometer: Odometer) -> Iterator[tuple[str, ...]]:
    """The runs of a walk in which what is asked depends on what was chosen."""
    for chooser in odometer:
        walked = [chooser.choose("first", "abc")]
        walked += [chooser.choose("call", "abcd") for _ in range(3 if walked[0] == "b" else 4)]
        yield tuple(walked)
