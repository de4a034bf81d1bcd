"""A field of a charge or a refund: every place that it takes, and why some are not for callers."""

from dataclasses import fields

import pytest

from midas.charge import Charge
from midas.refund import Refund
from midas.storage import rows
from midas.v1 import charge_pb2, refund_pb2

NOT_FOR_CALLERS = {
    Charge: {
        "app_id": "the one of the settings",
        "extra": "the caller has sent it, and it may hold what nobody else should read",
        "terms_digest": "how a repeated call is recognised",
        "asked_expires_at": "expires_at is what Ping++ made of it",
        "answer": "the answer to Charge hands it out, and nothing else does",
        "due_at": "when Midas looks next is its own affair",
        "looks": "when Midas looks next is its own affair",
        "absent_since": "what it leads to is shown: the state, or needs_operator",
    },
    Refund: {
        "app_id": "the one of the settings",
        "content_digest": "how a repeated call is recognised",
        "observed_by": "its notifications have it",
        "unsent": "the answer to Refund says that it may still go out",
        "due_at": "when Midas looks next is its own affair",
        "looks": "when Midas looks next is its own affair",
        "absent_since": "what it leads to is shown: the state, or needs_operator",
    },
}
"""Fields that no message has, each with the reason."""


@pytest.mark.parametrize(
    ("record", "write", "message"),
    [
        (Charge, rows.NEW_CHARGES, charge_pb2.Charge),
        (Refund, rows.NEW_REFUNDS, refund_pb2.Refund),
    ],
    ids=["charge", "refund"],
)
def test_a_field_has_its_place_everywhere(
    record: type[Charge] | type[Refund],
    write: rows.TableWrite,
    message: type[charge_pb2.Charge] | type[refund_pb2.Refund],
) -> None:
    """docs/extending.md has the steps; this fails with the first that is missing."""
    columns, published = set(write.columns), set(message.DESCRIPTOR.fields_by_name)
    name, hidden = record.__name__, NOT_FOR_CALLERS[record]
    for field in fields(record):
        assert field.name in columns, (
            f"{name}.{field.name} has no column: add it to midas/storage/tables.py and write a "
            "migration (docs/extending.md, A field of a charge or a refund)"
        )
        assert (field.name in published) is not (field.name in hidden), (
            f"{name}.{field.name} must be in the proto, or stand in NOT_FOR_CALLERS with the "
            "reason, and not in both (docs/extending.md, A field of a charge or a refund)"
        )
    assert hidden.keys() <= {field.name for field in fields(record)}, "a field that is gone"
