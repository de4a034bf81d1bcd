"""The walk itself: it meets every sequence once, and none with too many faults."""

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
