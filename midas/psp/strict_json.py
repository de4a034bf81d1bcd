"""Reading JSON that others wrote: one meaning or none.

Duplicate keys, NaN and Infinity, text that is not UTF-8, numbers of thousands of digits and nesting
beyond the parser's depth are Unreadable, never another exception (reliability.md F8).
"""

import json
import re
from typing import Any, NoReturn

import orjson

Json = dict[str, Any]


class Unreadable(Exception):
    """A text without one clear meaning. The exception's text is a constant, never the content."""


def decode(body: bytes) -> str:
    """The text of an answer. Raises Unreadable if it is not UTF-8."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("not_utf8") from None


def parse_object(text: str) -> Json:
    """The one JSON object that the text is. Raises Unreadable."""
    canonical = _parse_canonical(text)
    if canonical is not None:
        return canonical
    value, end = _value_at(text, _skip(text, 0))
    if _skip(text, end) != len(text) or not isinstance(value, dict):
        raise Unreadable("not_one_object")
    return value


def parse_list(text: str) -> tuple[Json, list[tuple[Json, str]]]:
    """A list object without its `data`, and each element of `data` with its own text.

    The client SDKs need a charge's JSON byte for byte, also one that came in a list.
    """
    envelope: Json = {}
    items: list[tuple[Json, str]] | None = None
    at = _expect(text, 0, "{")
    while text[at : at + 1] != "}":
        key, at = _value_at(text, at)
        if not isinstance(key, str) or key in envelope or (key == "data" and items is not None):
            raise Unreadable("bad_key")
        at = _expect(text, at, ":")
        if key == "data":
            items, at = _elements(text, at)
        else:
            envelope[key], at = _value_at(text, at)
        at = _next(text, at, "}")
    if _skip(text, at + 1) != len(text) or items is None:
        raise Unreadable("not_one_list")
    return envelope, items


def _parse_canonical(text: str) -> Json | None:
    """The object, if orjson would write it byte for byte like this; None proves nothing.

    Such a text has one meaning: a duplicate key, a rounded number or an escape would not come back.
    Ping++ writes its events and charges like this (all recorded ones are), and reading them so
    takes a third of the time.
    """
    try:
        value = orjson.loads(text)
        if type(value) is dict and orjson.dumps(value) == text.encode():
            return value
    except (ValueError, TypeError):
        pass
    return None


def _elements(text: str, start: int) -> tuple[list[tuple[Json, str]], int]:
    items: list[tuple[Json, str]] = []
    at = _expect(text, start, "[")
    while text[at : at + 1] != "]":
        value, end = _value_at(text, at)
        if not isinstance(value, dict):
            raise Unreadable("not_an_object")
        items.append((value, text[at:end]))
        at = _next(text, end, "]")
    return items, at + 1


def _value_at(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        raise Unreadable("not_json") from None


def _expect(text: str, at: int, character: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != character:
        raise Unreadable("not_json")
    return _skip(text, at + 1)


def _next(text: str, at: int, end: str) -> int:
    """The place behind the comma, or of the closing bracket. A comma before that is no JSON."""
    at = _skip(text, at)
    if text[at : at + 1] == end:
        return at
    at = _expect(text, at, ",")
    if text[at : at + 1] == end:
        raise Unreadable("not_json")
    return at


def _skip(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks else at


_BLANKS = re.compile(r"[ \t\r\n]*")


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Unreadable("duplicate_key")
    return made


def _refuse(_constant: str) -> NoReturn:
    raise Unreadable("not_a_number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
