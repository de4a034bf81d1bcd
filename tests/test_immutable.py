"""Records: what mypy keeps from being changed, and copies of them."""

import ast
import dataclasses
from datetime import UTC, datetime

import pytest

from midas.immutable import replace
from midas.payment import JournalEntry, Notification
from tests.test_boundaries import MODULES

NOW = datetime(2026, 7, 1, tzinfo=UTC)
ENTRY = JournalEntry("o1", "T1", "charge_intended", NOW, "CREATE", "", "SUBMITTING")
SENT = Notification("o1", 1, "PAY_ORDER_SUCCESS", NOW, "WEBHOOK", "T1")


def test_mypy_lets_nobody_set_a_field() -> None:
    """Python does. Were it not refused, mypy would call the comment below one too many."""
    entry = dataclasses.replace(ENTRY)
    entry.event = "charge_paid"  # type: ignore[misc]
    assert entry != ENTRY


def test_every_record_is_frozen_for_mypy() -> None:
    """It goes by what is written at the class, where Python does not look."""
    declared = [
        {word.arg: getattr(word.value, "value", None) for word in each.keywords}
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for each in node.decorator_list
        if isinstance(each, ast.Call) and getattr(each.func, "id", "") == "record"
    ]
    assert declared
    assert all(each["frozen"] is True for each in declared)


def test_records_compare_and_hash_by_their_fields() -> None:
    """As frozen dataclasses do."""
    again = dataclasses.replace(SENT)
    assert again is not SENT
    assert (again, hash(again)) == (SENT, hash(SENT))
    assert dataclasses.replace(SENT, sequence=2) != SENT


def test_a_changed_copy_leaves_the_record_as_it_was() -> None:
    """The copy has the new fields, and all others."""
    copy = replace(SENT, sequence=2, late=True)
    assert copy == dataclasses.replace(SENT, sequence=2, late=True)
    assert (SENT.sequence, SENT.late) == (1, False)


def test_what_changes_nothing_is_no_copy() -> None:
    """So that `is` shows whether anything changed."""
    assert replace(SENT, sequence=1, late=False) is SENT


def test_a_field_that_there_is_not_is_a_mistake() -> None:
    """A typing error must not be written into a record."""
    with pytest.raises(TypeError, match="no_such_field"):
        replace(SENT, no_such_field=1)
