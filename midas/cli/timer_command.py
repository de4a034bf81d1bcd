"""`midas timer`."""

import signal
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import click

from midas.cli import polling, show
from midas.cli.call_errors import printable
from midas.cli.exchange import take_signals
from midas.cli.fields import Period
from midas.cli.help import Taught
from midas.cli.options import json_option, print_json
from midas.cli.timer import Output, Stop, Stopped, Timer
from midas.cli.wire import Wire, wires_options
from midas.runtime.command_errors import ExitStatus, Trouble, as_data
from midas.v1.payment_service_pb2 import PollPendingRequest, PollPendingResponse

SLEEP_S = 0.5
"""The longest sleep in one piece: a signal just before it does not end it."""


@click.command(cls=Taught)
@click.option(
    "--every",
    type=Period(),
    default="30s",
    show_default=True,
    help="How often to call: 10s, 1m, or 90 for seconds.",
)
@wires_options
@json_option
def timer(wires: Sequence[Wire], every: timedelta, as_json: bool) -> int:
    """Call PollPending on a schedule, for those who have no timer service.

    It runs until SIGTERM or Ctrl-C, which end it with status 0, also in the middle of a call: Midas
    goes on with that run and records what it finds. It prints one line for each call: what was
    looked at and found, or why there was no answer; with --json, one object on each line. While
    more looks are due it calls again at once. Several of these may run at once.

    If Midas gives no answer, the next --target is called. If none of them gives one, it waits and
    calls again, with pauses that double, up to 5 minutes. So Midas may be away, or start later.

    Wrong options end it with status 2: nothing was called. No answer of Midas ends it.

    For example:
      midas timer
      midas timer --every 1m --target midas-1:6011 --target midas-2:6011 --json
    """
    stop = Stop()
    take_signals(stop.on_signal, (signal.SIGTERM, signal.SIGINT))

    def ask(wire: Wire) -> PollPendingResponse:
        with stop.may_end():
            return polling.ask(wire, PollPendingRequest())

    def pause(seconds: float) -> None:
        ends = time.monotonic() + seconds
        with stop.may_end():
            while (left := ends - time.monotonic()) > 0:
                time.sleep(min(left, SLEEP_S))

    output: Output = _JsonLines() if as_json else _Lines()
    with suppress(Stopped):
        Timer(deque(wires), every, ask, output, pause).run()
    return ExitStatus.DONE


class _Lines:
    """Lines for people: runs on standard output, failures on standard error."""

    def answered(self, target: str, response: PollPendingResponse) -> None:
        """Print what a run did."""
        did, follows = polling.in_words(response), polling.what_follows(response)
        click.echo(f"{_now()} {target} {did}; {follows}")

    def failed(self, target: str, trouble: Trouble) -> None:
        """Print what a target failed with."""
        click.echo(f"{_now()} {target} {printable(trouble.message)} [{trouble.reason}]", err=True)


class _JsonLines:
    """Lines for programs, all on standard output."""

    def answered(self, target: str, response: PollPendingResponse) -> None:
        """Print what a run did."""
        print_json({"at": _utc(), "target": target, **show.data(response)})

    def failed(self, target: str, trouble: Trouble) -> None:
        """Print what a target failed with."""
        print_json({"ok": False, "at": _utc(), "target": target, "error": as_data(trouble)})


def _now() -> str:
    return f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
