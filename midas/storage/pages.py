"""One page of charges or refunds, newest first, as one piece of an index.

PostgreSQL plans a statement once, for all values that it may get. It cannot know then that a state
is rare, or that all of its rows are old. It would filter the newest rows of all states until it has
found enough. So nothing is filtered here: a page lies between two bounds of the very columns that
it is sorted by. Only the index that has them in this order serves such a page.
"""

from typing import Any

from midas.ports import Listing
from midas.storage.database import Database


def page_of(
    database: Database, table: str, key: str, state: str | None, page: Listing
) -> tuple[str, tuple[Any, ...]]:
    """SQL of the page's rows, and its parameters. `key` is the table's primary key."""
    parameters: list[Any] = []

    def placeholder(value: Any) -> str:
        parameters.append(value)
        return database.parameter(len(parameters))

    of_state = () if state is None else (str(state),)
    columns = (*("state" for _ in of_state), "created_at", key)
    lower, upper = _oldest(database, page), _newest(database, page)
    conditions = []
    for values, sign in (
        ((*of_state, *lower), ">="),
        ((*of_state, *upper), "<" if upper else "<="),
    ):
        if values:
            placeholders = ", ".join(map(placeholder, values))
            conditions.append(f"({', '.join(columns[: len(values)])}) {sign} ({placeholders})")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = ", ".join(f"{column} DESC" for column in columns)
    sql = f"SELECT * FROM {table} {where} ORDER BY {order} LIMIT {placeholder(page.limit)}"  # noqa: S608
    return sql, tuple(parameters)


def _oldest(database: Database, page: Listing) -> tuple[Any, ...]:
    """The oldest created_at that the page may have, or nothing."""
    return () if page.created_from is None else (database.codec.moment(page.created_from),)


def _newest(database: Database, page: Listing) -> tuple[Any, ...]:
    """The bound above the page: a created_at, one with its key, or nothing.

    If both are given, the older one alone counts: the index is entered at one place.
    """
    moment, before, after = database.codec.moment, page.created_before, page.after
    if after is not None and (before is None or after[0] < before):
        return moment(after[0]), after[1]
    return () if before is None else (moment(before),)
