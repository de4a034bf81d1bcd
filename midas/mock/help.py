"""The text of `midas mock --help`: plain ASCII, so that every terminal can show it."""

import argparse
from typing import Any

from midas.mock.failures import NAMES, failure
from midas.mock.magic import STATES
from midas.v1 import errors_pb2

WIDTH = 100
_CHARGE = "midas.v1.PaymentService/Charge"

DESCRIPTION = """\
Answer every call of Midas's contract at once with canned data: no state, no timing, no Ping++.

It needs nothing but what the stubs need. Give your service its address as that of Midas and call
midas.v1.PaymentService and midas.v1.EventService. What Midas refuses of a request by its own and
the channel's rules is refused in the same words; everything else succeeds. A charge waits for the
payer, with the channel's credential in charge_json, or is paid where the channel takes the money
at once. A query finds a paid charge, a refund has succeeded. The same key has the same ids every
time, and nothing else is kept: no call has an effect on another one. You ask for any other answer
with a magic value. grpc.health.v1 says SERVING."""

EPILOG = """\
magic values, which name the answer that you want
  a key that ends with a hyphen   order_no A1001-OUTCOME_UNKNOWN; also refund_no, charge_id,
  and a name, or is a name        out_trade_no, refund_id, page_token, the id of an event
  or an amount of the lists       amount 990009
  or gRPC metadata, on any call   midas-mock: OUTCOME_UNKNOWN

For example:
  midas mock
  midas mock --notify PayOrderSuccess --order-no A1001 --order-target 127.0.0.1:6030
  midas mock --notify all --order-no A1001

Every notification is about the charge that Charge answers for this order_no. Only a duplicate
payment came by another charge; and with --notify all an earlier charge was closed, unless the
payment is --late.

Exit status:
    0  stopped by SIGTERM or Ctrl-C, or the order service acknowledged every notification
    1  the order service did not answer OK. No money moves here: status 1 is about your service
    2  wrong usage, or it cannot listen there: nothing was started
  130  stopped by Ctrl-C while a notification was under way
"""

_EVENTS = """
An event's id that ends with -DUPLICATE or -IGNORED is answered so; in RecordEvents one that ends
with an error's name is that event's own error. A lease_token that ends with -LEASE_LOST is settled
without effect. LeaseNotifications hands out the same four notifications every time and never waits,
so that a real gateway would deliver them for ever: for that one use midas serve.
"""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Formats the help as wide as that of the other commands."""

    def __init__(self, prog: str, **given: Any) -> None:
        super().__init__(prog, **{**given, "width": WIDTH, "max_help_position": 28})


def magic_values() -> str:
    """The lists of names, made from the real answers."""
    lines = ["", "errors: name, amount, and what is answered to a Charge"]
    for name, amount in NAMES.items():
        lines.append(f"  {name:<28} {amount or '':>6}  {_described(name)}")
    lines += ["", "answers that are no errors: name, amount, and what they mean"]
    lines += [f"  {name:<28} {amount:>6}  {what}" for name, (amount, what) in STATES.items()]
    return "\n".join(lines) + "\n" + _EVENTS


def _described(name: str) -> str:
    failed = failure(name, "", _CHARGE, moves_money=True)
    if not failed.details:
        return f"{failed.code.name} without details, as gRPC itself says it"
    money = errors_pb2.MoneyMoved.Name(failed.money_moved).removeprefix("MONEY_MOVED_")
    return f"{failed.code.name}, {failed.reason}, money_moved {money}"
