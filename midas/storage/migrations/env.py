"""Alembic's entry, and the rules of the migrations. The connection comes from `migrate.py`.

Versions of Midas work beside each other on PostgreSQL: while one replica after the other is
replaced, and when a version is taken back. So:

- A migration adds: tables, and columns that are nullable or have a constant default. Code before it
  then goes on, and that is the way back: the old code on the new schema. There is no downgrade.
- It states `oldest`, the oldest schema whose code may go on after it, and repeats that of the one
  before unless older code would do wrong. Raising it takes all older replicas out of service.
- What older code would not understand (a state, a kind of notification, a standing, another meaning
  of a column) is read one release before it is written: the first release reads it, the second
  writes it. Then a version can be taken back, and both work beside each other.
- Its docstring names what it locks, and for how long at 10⁶ rows. A migration waits a second for a
  lock (everybody who comes later waits behind it meanwhile), then all of it is tried again.
- An index on a table that may be large is made by `indexes.build_index`, which lets writers go on,
  before anything else in its migration: steps before it could not be taken back.
"""

from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import text

from midas.storage.tables import metadata

FIRST_WITH_OLDEST = "0003"


def write_oldest(ctx: MigrationContext, step: MigrationInfo, heads: Any, run_args: Any) -> None:  # noqa: ARG001 - named by alembic
    """Write down what the migration states, in its own transaction."""
    migration: Any = step.revision_map.get_revision(step.up_revision_id)
    if migration.revision >= FIRST_WITH_OLDEST:
        written = text("UPDATE schema_compatibility SET oldest = :oldest")
        context.get_bind().execute(written, {"oldest": migration.module.oldest})


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    # On SQLite there is a transaction around all of them.
    transaction_per_migration=True,
    on_version_apply=write_oldest,
)
with context.begin_transaction():
    context.run_migrations()
