"""Which schema a database has, and whether this Midas may work on it.

Several versions of Midas work on one database during a deployment, and after one is taken back. So
each migration writes down the oldest schema whose code may go on (`migrations/env.py` has the
rules). Code of that schema or a later one works on a database that is newer than the code.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from midas.errors import SchemaRefused

SCHEMA = "0005"
"""The revision that this Midas reads and writes: the newest file in `migrations/versions`."""

NO_SCHEMA = ""
"""What an empty database has instead of a revision."""

_REVISION = "SELECT version_num FROM alembic_version"
_OLDEST = "SELECT oldest FROM schema_compatibility"


@dataclass(frozen=True, slots=True)
class DatabaseSchema:
    """The schema that a database states."""

    revision: str = NO_SCHEMA
    oldest: str = ""
    """The oldest schema whose code may work on it. It is read only if the database is newer than
    this Midas. Empty: the database states none."""

    @property
    def is_newer(self) -> bool:
        """Whether a newer Midas has migrated it."""
        return self.revision > SCHEMA

    @property
    def fits(self) -> bool:
        """Whether this Midas may work on it."""
        return self.revision == SCHEMA or (self.is_newer and "" < self.oldest <= SCHEMA)

    def refusal(self) -> SchemaRefused:
        """Why this Midas does not work on it, and what to do."""
        oldest = self.oldest or self.revision
        if self.is_newer:
            sentence = (
                f"This Midas is older than its database: it knows schema {SCHEMA}, and schema"
                f" {self.revision} is for those that know {oldest}: deploy the newer version."
            )
        else:
            sentence = (
                f"The database has schema {self.revision or 'none'} and this Midas needs {SCHEMA}:"
                " run `midas migrate`."
            )
        return SchemaRefused(sentence, found=self.revision, oldest=oldest, known=SCHEMA)


def schema_of(connection: Connection) -> DatabaseSchema:
    """The schema of the database behind a connection; an empty one has none."""
    has_table = connection.dialect.has_table
    if not has_table(connection, "alembic_version"):
        return DatabaseSchema()
    revision = str(connection.execute(text(_REVISION)).scalar() or NO_SCHEMA)
    if revision <= SCHEMA or not has_table(connection, "schema_compatibility"):
        return DatabaseSchema(revision)
    return DatabaseSchema(revision, str(connection.execute(text(_OLDEST)).scalar() or ""))


Fetch = Callable[[str], Awaitable[Sequence[Sequence[Any]]]]


async def schema_by(fetch: Fetch) -> DatabaseSchema:
    """The schema of a database that has one, read by statements that `fetch` executes.

    One statement is enough on a database that is not newer than this Midas.
    """
    rows = await fetch(_REVISION)
    revision = str(rows[0][0]) if rows else NO_SCHEMA
    if revision <= SCHEMA:
        return DatabaseSchema(revision)
    rows = await fetch(_OLDEST)
    return DatabaseSchema(revision, str(rows[0][0]) if rows else "")
