"""The oldest schema whose code may go on: each migration writes it down from here on.

The next migration states it beside its `revision`, as `oldest = "…"`. It is the number of the
oldest schema that code must know to work on the database after the migration. `env.py` writes it in
the migration's own transaction. An additive migration repeats the `oldest` of the one before. One
after which older code would do wrong gives its own number.

Code before this migration does not read it and works on its own schema alone, so it may not go on.

Locks nothing that is there: it makes a table of one row.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
oldest = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, with its row."""
    op.create_table(
        "schema_compatibility",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("oldest", sa.String(length=32), nullable=False),
        sa.CheckConstraint("id = 1", name="schema_compatibility_one_row"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO schema_compatibility (id, oldest) VALUES (1, '')")
