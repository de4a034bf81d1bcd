"""Alembic's entry. The connection, in a transaction, comes from `midas.storage.migrate`."""

from alembic import context

from midas.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
