"""One vocabulary: private words are no names, and every term of the trade stands in the glossary.

Prose is judged by its readers; what a machine can judge are names.
"""

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
    """In the product and in its tests, their modules' names included."""
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


def test_the_glossary_has_every_term_once() -> None:
    """A reader finds each term, and finds it in one place."""
    text = (ROOT / "docs/glossary.md").read_text()
    defined = re.findall(r"^\| \*\*([a-z ]+)\*\* \|", text, re.MULTILINE)
    assert len(set(defined)) == len(defined), "a term stands there twice"
    assert not set(TERMS) - set(defined), "write down what these mean in docs/glossary.md"
