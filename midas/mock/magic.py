"""Magic values: how a request says which answer it wants.

It names the answer by a key that ends with a hyphen and a name (`A1001-OUTCOME_UNKNOWN`), by an
amount of the table, or, on every call, by the gRPC metadata `midas-mock: OUTCOME_UNKNOWN`. Metadata
goes before keys, and keys go before amounts.
"""

from collections.abc import Container, Mapping
from typing import Any

from google.protobuf.message import Message

METADATA_KEY = "midas-mock"

STATES: Mapping[str, tuple[int, str]] = {
    "SUBMITTING": (990061, "nobody knows yet what came of it"),
    "PENDING": (990062, "the payer has not paid, or the refund is worked on"),
    "SUCCEEDED": (990063, "paid, or the money went back"),
    "CLOSED": (990064, "the charge ended unpaid"),
    "FAILED": (990065, "the payment failed, or the refund was refused"),
    "REVERSED": (990066, "paid, and the channel gave it back"),
    "LATE": (990067, "paid after it had been closed"),
    "DUPLICATE_PAYMENT": (990068, "the order had been paid before"),
    "SUPERSEDED": (990069, "the charge made way for another one"),
    "NEEDS_OPERATOR": (990070, "only a person can tell what is true"),
    "REUSED": (990071, "Charge: the order's open charge again"),
    "REFUNDED": (990072, "Query: paid, and a third of it given back"),
    "EXTERNAL": (990073, "Query: a refund that was made in Ping++'s dashboard"),
    "ACTION_URL": (990074, "a pending refund that a person must let through"),
}
"""Answers that are no errors: their amounts, and what they mean."""

_KEYS = ("refund_no", "refund_id", "order_no", "charge_id", "out_trade_no", "page_token")
"""The fields that may end with a name. An earlier one goes before a later one."""


def asked(request: Any, metadata: str, names: Mapping[str, int]) -> str:
    """The name of the answer that is wanted; empty for the usual one.

    `names` has every name with its amount. Raises KeyError if the metadata is none of them.
    """
    if metadata:
        if metadata not in names:
            raise KeyError(metadata)
        return metadata
    for key in keys_of(request):
        if name := ending(key, names):
            return name
    amount = getattr(request, "amount", 0)
    return next((name for name, each in names.items() if amount and each == amount), "")


def keys_of(request: Message) -> list[str]:
    """The keys that the request gives."""
    given = {field.name: value for field, value in request.ListFields()}
    return [given[name] for name in _KEYS if given.get(name)]


def ending(key: str, names: Container[str]) -> str:
    """The name that stands behind the key's last hyphen, or is all of the key; else empty.

    If no hyphen were needed, an order called CHOCOLATE would ask for LATE.
    """
    last = key.rpartition("-")[2]
    return last if last in names else ""
