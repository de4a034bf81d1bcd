"""The maker of defects: it must make each kind, by a name that stays, and leave the rest alone."""

import ast

from tests.mutation.mutants import mutants_of

SOURCE = '''
"""Not this text."""
from enum import Enum

LIMIT: int = 3
STATES = {"a": Kind.ONE, "b": Kind.TWO}


class Order:
    """Nor this."""

    @property
    def is_open(self) -> bool:
        """Nor this."""
        return self.state in ("new", "old") and not self.late

    def close(self, at, by):
        if at >= self.end:
            raise Closed(f"{at}")
        self.log(at, by=by)
        return None
'''


def names() -> list[str]:
    """Of all mutants of the source above."""
    return [each.name for each in mutants_of("x.py", SOURCE)]


def test_every_kind_of_defect_is_made() -> None:
    """One of each, by its name."""
    made = set(names())
    assert made >= {
        "module: 3 -> 4",
        "module: 'a' -> nothing",
        "module: Kind.ONE -> Kind.TWO",
        "Order.is_open: self.state in ('new', 'old') -> self.state not in ('new', 'old')",
        "Order.is_open: 'new' -> 'new~'",
        "Order.is_open: 'new' -> nothing",
        "Order.is_open: not self.late -> self.late",
        "Order.is_open: self.state in ('new', 'old') and (not self.late) -> not self.late",
        "Order.close: at >= self.end -> at > self.end",
        "Order.close: at >= self.end -> True",
        "Order.close: at >= self.end -> False",
        "Order.close: self.log(at, by=by) -> pass",
        "Order.close: by=by -> nothing",
    }
    assert any(name.startswith("Order.close: raise Closed(") for name in made)


def test_texts_for_people_and_decorators_stay() -> None:
    """Docstrings, f-strings, annotations and imports hold no behaviour."""
    assert not any("Nor this" in name or "Not this" in name for name in names())
    assert not any("property" in name or "Enum" in name for name in names())


def test_names_are_unique_and_every_mutant_is_another_program() -> None:
    """Otherwise a survivor could not be named."""
    mutants = mutants_of("x.py", SOURCE)
    original = ast.unparse(ast.parse(SOURCE))
    assert len({each.name for each in mutants}) == len(mutants)
    assert all(each.source != original for each in mutants)
    assert ast.unparse(ast.parse(SOURCE)) == original


def test_a_line_added_elsewhere_changes_no_name() -> None:
    """What is written down of a survivor stays true."""
    longer = "import os\n\n\n" + SOURCE
    assert [each.name for each in mutants_of("x.py", longer)] == names()


def test_only_one_function() -> None:
    """As it is asked for."""
    only = mutants_of("x.py", "def f(a):\n    return a + 1\n\n\ndef g(a):\n    return a - 1\n", "g")
    assert {each.name.split(":")[0] for each in only} == {"g"}
