"""Builds an index for a migration while everybody goes on writing."""

from collections.abc import Sequence
from contextlib import suppress

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError

BUILD_LOCK_TIMEOUT = "5min"
"""How long building waits for the transactions that are older than it. Nobody waits behind it."""


def build_index(
    name: str, table: str, columns: Sequence[str], *, where: str = "", unique: bool = False
) -> None:
    """Make an index; on PostgreSQL concurrently, outside a transaction.

    Call it first in a migration: what was done before could not be taken back. It may be run again.
    A complete index stays as it is. An interrupted run leaves an index that is kept up but serves
    no query; that one is made anew.
    """
    condition = sa.text(where) if where else None
    context = op.get_context()
    if context.dialect.name != "postgresql":
        op.create_index(name, table, list(columns), unique=unique, sqlite_where=condition)
        return
    if op.get_bind().execute(sa.text("SELECT pg_current_xact_id_if_assigned()")).scalar():
        raise RuntimeError(f"{name}: build_index comes first in its migration")
    with context.autocommit_block():
        before = op.get_bind().execute(sa.text("SHOW lock_timeout")).scalar()
        op.execute(f"SET lock_timeout = '{BUILD_LOCK_TIMEOUT}'")
        try:
            _drop_invalid(name)
            op.create_index(
                name,
                table,
                list(columns),
                unique=unique,
                postgresql_where=condition,
                postgresql_concurrently=True,
                if_not_exists=True,
            )
        except DBAPIError:
            with suppress(DBAPIError):  # the next run does it, if this one cannot
                _drop_invalid(name)
            raise
        finally:
            with suppress(DBAPIError):
                op.execute(f"SET lock_timeout = '{before}'")


def _drop_invalid(name: str) -> None:
    found = op.get_bind().execute(
        sa.text("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid"),
        {"name": name},
    )
    if found.scalar():
        op.drop_index(name, postgresql_concurrently=True)
