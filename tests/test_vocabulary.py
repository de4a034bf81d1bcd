"""One vocabulary: private words are no names, and every term of the trade stands in the glossary.

Prose is judged by its readers. A machine can judge names, and how a docstring begins.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from midas.order.v1 import order_payment_service_pb2
from midas.v1 import charge_pb2, event_service_pb2, payment_service_pb2, refund_pb2

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("midas", "webhook_gateway", "tests", ".ci")
GENERATED = re.compile(r"_pb2(_grpc)?\.py$")

PRIVATE_WORDS = frozenset({"told", "said", "seen", "silent", "whatever", "meet", "met"})
"""Each of them stood for many things; docs/glossary.md has a term for each of those."""

PRODUCT = ("midas", "webhook_gateway")
MIGRATION = re.compile(r"/migrations/versions/")

SUBJECTLESS = frozenset(
    {
        *("Of", "As", "In", "By", "For", "From", "With", "Without", "To", "Until", "Beyond"),
        *("Above", "Below", "Since", "Because", "After", "Before", "Between", "Under", "Over"),
        *("Among", "And", "But", "Or", "So", "Not", "Only", "Also", "Else", "Then"),
    }
)
"""A docstring that begins with one of them leaves its reader to guess what it is about."""

TERMS = (
    *("order", "charge", "attempt", "refund", "observation", "report", "verdict", "transition"),
    *("notice", "notification", "journal", "intent", "unknown", "superseded", "withdrawn", "due"),
    *("look", "claim", "lease", "parked", "waiting", "quarantined", "operator", "epoch"),
)


def _published_names() -> frozenset[str]:
    """Fields of the contract: they stay as callers know them."""
    files = (charge_pb2, refund_pb2, payment_service_pb2, event_service_pb2)
    return frozenset(
        field.name
        for file in (*files, order_payment_service_pb2)
        for message in file.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
    )


PUBLISHED = _published_names()


def _sources() -> list[Path]:
    return sorted(
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if not GENERATED.search(path.name)
    )


def private_words_in(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every name in this Python code that has a private word as a part."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.string not in PUBLISHED:
            parts = re.split(r"_|(?<=[a-z0-9])(?=[A-Z])", token.string)
            if PRIVATE_WORDS & {part.lower() for part in parts}:
                yield token.start[0], token.string


def test_no_name_has_a_private_word() -> None:
    """The rule holds for the product and its tests, and for the names of their modules."""
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in _sources()
        for line, name in (
            *private_words_in(path.read_text()),
            *((0, path.stem) for _ in private_words_in(path.stem)),
        )
    ]
    assert not found, f"use the terms of docs/glossary.md instead: {', '.join(found)}"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("told = 1", ["told"]),
        ("def as_told(): ...", ["as_told"]),
        ("class ChargeSaid: ...", ["ChargeSaid"]),
        ("a.SEEN_ONLY", ["SEEN_ONLY"]),
        ("metadata = method = 1", []),
        ('fields = {"said": 1}  # told', []),
        ("notification.told_again", []),
    ],
)
def test_what_counts_as_a_private_word(source: str, names: list[str]) -> None:
    """A whole part of a name does. Texts, comments and the contract's fields do not."""
    assert [name for _, name in private_words_in(source)] == names


def subjectless_openings(source: str) -> Iterator[tuple[int, str]]:
    """Line and first line of every docstring that begins with one of the words, followed by space.

    Docstrings are the first text of a module, class or function, and the text after an assignment.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str) and text.partition(" ")[0] in SUBJECTLESS and " " in text:
                yield node.lineno, text.partition("\n")[0]


def test_a_docstring_begins_with_what_it_is_about() -> None:
    """The rule holds for the product, except for migrations and generated files."""
    found = [
        f"{path.relative_to(ROOT)}:{line} {opening}"
        for path in _sources()
        if path.relative_to(ROOT).parts[0] in PRODUCT and not MIGRATION.search(path.as_posix())
        for line, opening in subjectless_openings(path.read_text())
    ]
    assert not found, (
        "begin a docstring with a verb or with the thing that it describes, such as 'Return …' or"
        " 'The longest …': " + "; ".join(found)
    )


@pytest.mark.parametrize(
    ("source", "openings"),
    [
        ('"""With a mark."""', ["With a mark."]),
        ('class A:\n    """Of one order.\n\n    More.\n    """', ["Of one order."]),
        ('def f():\n    """As it is."""', ["As it is."]),
        ('async def f():\n    """So many."""', ["So many."]),
        ('A = 1\n"""In minor units."""', ["In minor units."]),
        ('class A:\n    b: int = 1\n    """For a call."""', ["For a call."]),
        ('"""Forget it."""', []),
        ('"""Without"""', []),
        ('"""The amount. In minor units."""', []),
        ('a = "With a mark."  # Of one order', []),
        ('f("With a mark.")', []),
    ],
)
def test_what_counts_as_a_subjectless_opening(source: str, openings: list[str]) -> None:
    """A docstring's first word does, if it is one of the list. Other texts do not."""
    assert [opening for _, opening in subjectless_openings(source)] == openings


def test_the_glossary_has_every_term_once() -> None:
    """A reader finds each term, and finds it in one place."""
    text = (ROOT / "docs/glossary.md").read_text()
    defined = re.findall(r"^\| \*\*([a-z ]+)\*\* \|", text, re.MULTILINE)
    assert len(set(defined)) == len(defined), "a term stands there twice"
    assert not set(TERMS) - set(defined), "write down what these mean in docs/glossary.md"
