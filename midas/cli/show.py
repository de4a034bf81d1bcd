"""Midas's messages as JSON for programs and as a table for people."""

from datetime import UTC
from typing import Any

import click
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from midas.v1.charge_pb2 import Charge
from midas.v1.refund_pb2 import Refund

MINOR_UNITS = {"cny": "fen"}
WITHOUT_MINOR_UNITS = frozenset({"jpy", "krw", "vnd"})

_CHARGE_FIELDS = (
    "order_no", "out_trade_no", "charge_id", "channel", "subject", "created_at", "expires_at",
    "paid_at", "transaction_no", "failure_code", "failure_message", "operator_reason",
)  # fmt: skip
_REFUND_FIELDS = (
    "refund_no", "refund_id", "description", "created_at", "succeeded_at", "transaction_no",
    "action_url", "failure_code", "failure_message", "operator_reason",
)  # fmt: skip
_FLAGS = ("late", "duplicate_payment", "superseded", "needs_operator", "external")


def money(amount: int, currency: str) -> str:
    """`12.34 CNY (1234 fen)`: both ways of writing it, because slips cost money."""
    name = currency.upper()
    if currency in WITHOUT_MINOR_UNITS:
        return f"{amount} {name}"
    whole, part = divmod(abs(amount), 100)
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{part:02d} {name} ({amount} {MINOR_UNITS.get(currency, 'minor units')})"


def data(message: Message) -> dict[str, Any]:
    """Every field by its proto name: amounts as numbers, states without prefix, times in UTC."""
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def state(message: Charge | Refund) -> str:
    """The state without its prefix."""
    return str(_value(message, message.DESCRIPTOR.fields_by_name["state"]))


def show_charge(charge: Charge) -> None:
    """Print the charge and its refunds."""
    title = f"Charge {money(charge.amount, charge.currency)}: {state(charge)}"
    rows = _rows(charge, _CHARGE_FIELDS)
    if charge.amount_refunded or charge.amount_refundable:
        rows.append(("refunded", money(charge.amount_refunded, charge.currency)))
        rows.append(("refundable", money(charge.amount_refundable, charge.currency)))
    if not charge.livemode:
        rows.append(("mode", "test: no real money"))
    _print(title, rows)
    for refund in charge.refunds:
        show_refund(refund)


def show_refund(refund: Refund) -> None:
    """Print the refund."""
    title = f"Refund {money(refund.amount, refund.currency)}: {state(refund)}"
    _print(title, _rows(refund, _REFUND_FIELDS))


def local_time(time: Timestamp) -> str:
    """The time on this machine's clock and in its zone, to the second."""
    try:
        return f"{time.ToDatetime(UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return _time(time)


def _rows(message: Charge | Refund, names: tuple[str, ...]) -> list[tuple[str, str]]:
    values = data(message)
    rows = [(name, _for_people(message, name, values[name])) for name in names if values[name]]
    flags = [name for name in _FLAGS if values.get(name)]
    return rows + ([("note", ", ".join(flags))] if flags else [])


def _for_people(message: Charge | Refund, name: str, plain: Any) -> str:
    value = getattr(message, name)
    if not isinstance(value, Timestamp):
        return str(plain)
    return local_time(value)


def _print(title: str, rows: list[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(f"  {name}", style="dim"), Text(value, overflow="fold"))
    console = Console(highlight=False, soft_wrap=False)
    console.print(Text(title, style="bold"))
    console.print(table)
    click.echo()


def _value(message: Message, field: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(getattr(message, field.name))
    if field.is_repeated:
        return [_single(each, field) for each in getattr(message, field.name)]
    if field.message_type is not None and not message.HasField(field.name):
        return None
    return _single(getattr(message, field.name), field)


def _single(value: Any, field: Any) -> Any:
    if isinstance(value, Timestamp):
        return _time(value)
    if isinstance(value, Message):
        return data(value)
    if field.enum_type is not None:
        return _enum(value, field)
    return value


def _time(value: Timestamp) -> str:
    try:
        return value.ToDatetime(UTC).isoformat()
    except (ValueError, OverflowError):  # no time that a calendar has
        return f"{value.seconds} s"


def _enum(number: int, field: Any) -> str:
    values = field.enum_type.values
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    known = field.enum_type.values_by_number.get(number)
    return known.name.removeprefix(prefix) if known is not None else str(number)
