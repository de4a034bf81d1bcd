"""Two indexes by which PollPending finds the rows whose look is due.

Locks nothing for long: the indexes are built while everybody goes on writing. At 10⁶ charges and
10⁶ refunds, a tenth of each with a look planned, that takes some three seconds.
"""

from midas.storage.indexes import build_index

revision = "0005"
down_revision = "0004"
oldest = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One partial index for charges and one for refunds."""
    build_index("charges_due", "charges", ["due_at"], where="due_at IS NOT NULL")
    build_index("refunds_due", "refunds", ["due_at"], where="due_at IS NOT NULL")
