"""Rows that cannot be read: a newer Midas wrote them, or a person. The other rows are read."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from midas.ports import Listing

_Result = TypeVar("_Result")
_Raw = TypeVar("_Raw")

_log = logging.getLogger(__name__)


def readable(
    rows: Iterable[_Raw], read: Callable[[_Raw], _Result], ids: Callable[[_Raw], dict[str, object]]
) -> list[_Result]:
    """The rows that can be read. Each other row is a line with an error."""
    found: list[_Result] = []
    for row in rows:
        try:
            found.append(read(row))
        except (ValueError, KeyError, TypeError) as error:
            _log.error("row_unreadable", extra=ids(row) | {"error": type(error).__name__})
    return found


async def readable_page(
    page: Listing,
    fetch: Callable[[Listing], Awaitable[Sequence[_Raw]]],
    read: Callable[[_Raw], _Result],
    key: str,
    place: Callable[[_Raw], tuple[datetime | str, str]],
) -> list[_Result]:
    """The rows of the page; later ones take the places of those that cannot be read.

    A shorter page would seem to be the last one. `place` is where a row stands in the list: its
    time of creation and its key, which is called `key`.
    """
    found: list[_Result] = []
    while True:
        rows = await fetch(page)
        found += readable(rows, read, lambda row: {key: place(row)[1]})
        if len(rows) < page.limit or len(found) >= page.limit:
            return found[: page.limit]
        at, last = place(rows[-1])
        at = datetime.fromisoformat(at) if isinstance(at, str) else at
        page = replace(page, after=(at, last))
