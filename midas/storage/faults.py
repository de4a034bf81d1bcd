"""The faults of a database, by what they mean for a write.

    StorageFault
    ├── NotWritten         certainly not written, and the same may succeed a moment later
    ├── InDoubt            the answer was lost: written or not
    ├── RowsRefused        certainly not written; a constraint or a value stands in the way
    └── StatementRefused   the statement fails for a reason of its own, whenever it is sent

The first two concern every change that is sent now. The other two concern some changes of a batch:
they are found by halving it, and the rest goes on without them. `postgres_faults` and
`sqlite_faults` turn their drivers' errors into these, each by a table.
"""

from midas.ports import KeyTaken


class StorageFault(Exception):
    """The root. The text is the driver's, for the log."""


class NotWritten(StorageFault):
    """Nothing was written: locked, restarting, read-only or full. It may be tried again."""


class InDoubt(StorageFault):
    """The connection or the time was lost on the way: it may have been written."""


class RowsRefused(StorageFault):
    """The database refuses these rows, however often they are sent. Nothing was written.

    `constraint` is the name in `tables.py`, empty when it was a value that cannot be stored.
    """

    def __init__(self, text: str, constraint: str = "") -> None:
        super().__init__(text)
        self.constraint = constraint


class StatementRefused(StorageFault):
    """The database does not carry this statement out, and only a person can change that.

    The cause is a defect of Midas, a migration or rights under way, or a damaged page. `in_doubt`:
    it may have been written all the same.
    """

    def __init__(self, text: str, *, in_doubt: bool = False) -> None:
        super().__init__(text)
        self.in_doubt = in_doubt


class RowRefused(Exception):
    """A row breaks a rule that no caller can break: a defect of Midas. Nothing was written."""


KEYS = {
    "charges_pkey": "out_trade_no",
    "charges_charge_id": "charge_id",
    "refunds_pkey": "refund_no",
    "refunds_refund_id": "refund_id",
    "events_pkey": "event_id",
}
"""The constraints that a key of another row breaks, and the key's column."""

ONE_OPEN_CHARGE = "charges_one_open"


def outcome_of(refused: RowsRefused) -> bool | KeyTaken | RowRefused:
    """The outcome of the one change whose row a constraint refused."""
    if refused.constraint == ONE_OPEN_CHARGE:
        return False
    if refused.constraint in KEYS:
        return KeyTaken(KEYS[refused.constraint])
    return RowRefused(str(refused))
