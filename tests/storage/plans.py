"""What PostgreSQL does for each statement of the store, by EXPLAIN: its indexes and its pages.

The SQL, its parameters and the session's settings are the product's own: they are taken where the
product calls the database.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from midas.storage.engine import parse, postgres_engine
from midas.storage.postgres import PostgresDatabase
from midas.storage.rows import Row

SMALL = frozenset({"sequence_epochs", "schema_compatibility", "alembic_version"})
"""Tables of one row: reading all of them is right."""


@dataclass
class Plan:
    """One statement as it was carried out."""

    sql: str
    root: dict[str, Any] = field(repr=False)

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Every step of the plan."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", ())

    def indexes(self) -> set[str]:
        """The names of the indexes that it looked into."""
        return {each["Index Name"] for each in self.nodes() if "Index Name" in each}

    def read_whole(self) -> set[str]:
        """The tables that it read from beginning to end."""
        scans = {each["Relation Name"] for each in self.nodes() if each["Node Type"] == "Seq Scan"}
        return scans - SMALL

    def blocks(self) -> int:
        """Pages of 8 KiB, in memory or not, of the step that used most."""
        kinds = ("Shared Hit Blocks", "Shared Read Blocks")
        return max(sum(int(each[kind]) for kind in kinds) for each in self.nodes())


class Explaining(PostgresDatabase):
    """A database that has every statement explained, in a session of its own, before it is run."""

    def __init__(self, url: str) -> None:
        super().__init__(postgres_engine(parse(url)))
        self.plans: list[Plan] = []
        self._session: AsyncConnection | None = None
        self._prepared: dict[str, str] = {}

    async def fetch(self, sql: str, parameters: tuple[Any, ...] = ()) -> Sequence[Row]:
        """Explain, undo what that did, then run it."""
        self.plans.append(await self._explained(sql, parameters))
        return await super().fetch(sql, parameters)

    async def forget_plans(self) -> None:
        """Have every statement planned anew, as the tables are now."""
        await self._run("DISCARD PLANS")

    async def close(self) -> None:
        """Give back the session, too."""
        if self._session is not None:
            await self._session.close()
        await super().close()

    async def _explained(self, sql: str, parameters: tuple[Any, ...]) -> Plan:
        name = await self._prepare(sql)
        values = f"({', '.join(map(_literal, parameters))})" if parameters else ""
        await self._run("BEGIN")
        try:
            rows = await self._run(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name}{values}"
            )
        finally:
            await self._run("ROLLBACK")
        return Plan(sql, rows[0][0][0]["Plan"])

    async def _prepare(self, sql: str) -> str:
        """The statement's name in the session: planned once for all values, as asyncpg has it."""
        if sql not in self._prepared:
            self._prepared[sql] = f"p{len(self._prepared)}"
            await self._run(f"PREPARE {self._prepared[sql]} AS {sql}")
        return self._prepared[sql]

    async def _run(self, sql: str) -> Sequence[Row]:
        if self._session is None:
            self._session = await self._engine.connect()
        result = await self._session.exec_driver_sql(sql)
        return result.all() if result.returns_rows else ()


def _literal(value: Any) -> str:
    """A parameter as SQL, its type left to the statement."""
    if value is None:
        return "NULL"
    text = _array(value) if isinstance(value, list | tuple) else _text(value)
    return "'" + text.replace("'", "''") + "'"


def _array(values: Sequence[Any]) -> str:
    def quoted(value: Any) -> str:
        return '"' + _text(value).replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "{" + ",".join("NULL" if each is None else quoted(each) for each in values) + "}"


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, timedelta):
        return f"{value.total_seconds()} seconds"
    return str(value)
