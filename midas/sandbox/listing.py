"""Lists: filters, cursors and pages (pingpp.md sections 1 and 1.1)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from midas.sandbox.books import Books
from midas.sandbox.errors import Json, invalid
from midas.sandbox.fields import check_app
from midas.sandbox.records import Charge

Query = Sequence[tuple[str, str]]
LIMIT_DEFAULT = 10
LIMIT_MOST = 100
CREATED_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "gt": int.__gt__,
    "gte": int.__ge__,
    "lt": int.__lt__,
    "lte": int.__le__,
}


class _Listed(Protocol):
    seq: int


T = TypeVar("T", bound=_Listed)


def page_of(
    oldest_first: Sequence[T],
    query: Query,
    *,
    find: Callable[[str], T],
    wanted: Callable[[T], bool] = lambda _: True,
) -> tuple[list[T], bool]:
    """One page of what is wanted, newest first, and whether there is more in that direction.

    `find` turns a cursor's id into its object or raises the 404 of a cursor that does not exist.
    """
    asked = dict(query)
    limit = _limit(asked)
    after, before = asked.get("starting_after"), asked.get("ending_before")
    if before is not None and after is None:
        newer_than = find(before).seq
        ascending = (item for item in oldest_first if item.seq > newer_than and wanted(item))
        nearest = list(islice(ascending, limit + 1))
        return nearest[:limit][::-1], len(nearest) > limit
    older_than = find(after).seq if after is not None else sys.maxsize
    descending = (item for item in reversed(oldest_first) if item.seq < older_than and wanted(item))
    found = list(islice(descending, limit + 1))
    return found[:limit], len(found) > limit


def charge_filter(query: Query, books: Books, *, strict: bool = False) -> Callable[[Charge], bool]:
    """The test that a charge must pass. Parameters that Ping++ does not document are ignored.

    The SDK for Python sends `True` where it is documented as `true`: that is refused if `strict`.
    """
    asked = dict(query)
    check_app({"id": asked.get("app[id]")}, books.app_id)
    tests: list[Callable[[Charge], bool]] = [lambda charge: charge.shown]
    for name in ("paid", "reversed"):
        if name in asked:
            tests.append(_equals(name, _boolean(asked[name], name, strict)))
    if "refunded" in asked:
        refunded = _boolean(asked["refunded"], "refunded", strict)
        tests.append(lambda charge: bool(books.refunds_of(charge.id)) == refunded)
    if "channel" in asked:
        tests.append(_equals("channel", asked["channel"]))
    for comparison in CREATED_COMPARISONS:
        name = f"created[{comparison}]"
        if name in asked:
            tests.append(_created(comparison, _integer(asked[name], name)))
    return lambda charge: all(test(charge) for test in tests)


def expands_app(query: Query) -> bool:
    """Whether `expand[]=app` was sent; anything else cannot be expanded here."""
    wanted = [value for name, value in query if name in ("expand[]", "expand")]
    for value in wanted:
        if value != "app":
            raise invalid(f"不支持展开: {value}", "expand")
    return bool(wanted)


def list_json(url: str, data: list[Json], has_more: bool) -> Json:
    """The list object."""
    return {"object": "list", "url": url, "has_more": has_more, "data": data}


def _limit(asked: dict[str, str]) -> int:
    limit = _integer(asked.get("limit", str(LIMIT_DEFAULT)), "limit")
    if not 1 <= limit <= LIMIT_MOST:
        raise invalid(f"limit 必须在 1 到 {LIMIT_MOST} 之间", "limit")
    return limit


def _integer(value: str, name: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise invalid(f"{name} 必须为整数", name)
    return int(value)


def _boolean(value: str, name: str, strict: bool) -> bool:
    known = value if strict else value.lower()
    if known not in ("true", "false"):
        raise invalid(f"{name} 必须为 true 或 false", name)
    return known == "true"


def _equals(name: str, wanted: object) -> Callable[[Charge], bool]:
    return lambda charge: bool(getattr(charge, name) == wanted)


def _created(comparison: str, limit: int) -> Callable[[Charge], bool]:
    compare = CREATED_COMPARISONS[comparison]
    return lambda charge: compare(charge.created, limit)
