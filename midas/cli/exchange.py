"""One call of Midas by a command, and its exit status, however the command ends.

| what ends the command | nothing sent yet | sent, no answer yet | answered |
|---|---|---|---|
| Ctrl-C, SIGTERM, SIGHUP | 130, 143, 129 | 3 | the status of the answer |
| Midas is not there, or is lost | 1 | 3 | the status of the answer |
| the caller's own time is over | 1 | 3 | – |
| an error with PaymentErrorDetail | – | – | 3 if `money_moved` is UNKNOWN, otherwise 1 |
| an error without | – | 3 | – |
| output that is closed, full or cannot be encoded | – | – | the status of the answer |
| a defect of this program | 1 | 3 | the status of the answer |

"3" is for calls that may move money. `query` moves none; it ends with 1, 130, 143 or 129.
A second signal ends the process at once, with the status that the table says.
`tests/cli/test_ends.py` goes through all of it.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from google.protobuf.message import Message

from midas.cli.call_errors import Failed, print_trouble
from midas.cli.calls import QUERY_AFTER, call
from midas.cli.options import print_json
from midas.cli.wire import Wire, connected
from midas.runtime.command_errors import ExitStatus, Trouble, as_data
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub

_SIGNALS = {
    signal.SIGINT: (ExitStatus.INTERRUPTED, "Ctrl-C"),
    signal.SIGTERM: (ExitStatus.TERMINATED, "SIGTERM"),
    signal.SIGHUP: (ExitStatus.HUNG_UP, "SIGHUP"),
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """A call of Midas, and how its answer is judged and shown."""

    method: str
    request: Message
    ids: Mapping[str, str]
    moves_money: bool
    as_data: Callable[[Any], dict[str, Any]]
    show: Callable[[Any], None]
    judge: Callable[[Any], Trouble | None] = lambda _: None
    """Returns what is wrong although Midas answered OK, or None."""
    advice: Callable[[Trouble], str] = lambda _: ""
    """What to do about a failure of a call that has no key, as a sentence."""


def exchange(wire: Wire, asked: Exchange, as_json: bool) -> ExitStatus:
    """Call Midas and print its answer. Returns the exit status or raises Failed, as in the table.

    The handlers of signals stay until the process ends, because nothing else follows.
    """
    progress = _Progress(asked)
    try:
        try:
            take_signals(progress.on_signal)
            _go_through(wire, asked, as_json, progress)
        finally:
            progress.over = True
    except BaseException as error:  # the table says what each of them means
        return progress.ended_by(error)
    return progress.status or ExitStatus.DONE


def _go_through(wire: Wire, asked: Exchange, as_json: bool, progress: "_Progress") -> None:
    with connected(wire) as channel:
        method = getattr(PaymentServiceStub(channel), asked.method)
        progress.sent = True
        answer = call(
            method,
            asked.request,
            wire.timeout_s,
            moves_money=asked.moves_money,
            ids=dict(asked.ids),
        )
        trouble = asked.judge(answer)
        progress.status = ExitStatus.DONE if trouble is None else trouble.status
    if as_json:
        error = {} if trouble is None else {"ok": False, "error": as_data(trouble)}
        print_json({**asked.as_data(answer), **error})
        return
    asked.show(answer)
    if trouble is not None:
        print_trouble(trouble, as_json=False)


class _Progress:
    """How far a call has come."""

    def __init__(self, asked: Exchange) -> None:
        self._asked = asked
        self._stopped = False
        self.sent = False
        self.over = False
        self.status: ExitStatus | None = None

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Stop the call. If it is being stopped already, end the process at once."""
        if self._stopped or self.over:
            os._exit(self._status_now(number))
        self._stopped = True
        raise _Stopped(number)

    def ended_by(self, error: BaseException) -> ExitStatus:
        """The exit status if the answer is known. Otherwise raises the error to print."""
        if self.status is not None:
            print(
                f"midas: the answer could not be printed in full ({_word(error)})", file=sys.stderr
            )
            return self.status
        if isinstance(error, KeyboardInterrupt):
            error = _Stopped(signal.SIGINT)
        if isinstance(error, _Stopped):
            error = Failed(self._stop(error.number))
        elif not isinstance(error, Failed) and self._may_have_moved_money:
            error = Failed(self._unknown("BROKEN", f"this command broke ({_word(error)})"))
        if isinstance(error, Failed):
            self.status = error.trouble.status
            advice = error.trouble.advice or self._asked.advice(error.trouble)
            error = Failed(replace(error.trouble, advice=advice))
        raise error

    @property
    def _may_have_moved_money(self) -> bool:
        return self.sent and self._asked.moves_money

    def _status_now(self, number: int) -> ExitStatus:
        if self.status is not None:
            return self.status
        return ExitStatus.UNKNOWN if self._may_have_moved_money else _SIGNALS[_named(number)][0]

    def _stop(self, number: int) -> Trouble:
        status, name = _SIGNALS[_named(number)]
        if self._may_have_moved_money:
            return self._unknown("STOPPED", f"stopped by {name} after the call was sent")
        sent = "while Midas was asked" if self.sent else "before anything was sent"
        return Trouble(
            "STOPPED",
            f"stopped by {name} {sent}",
            status=status,
            retry="SAME_KEY",
            ids=self._asked.ids,
        )

    def _unknown(self, reason: str, message: str) -> Trouble:
        return Trouble(
            reason,
            message,
            status=ExitStatus.UNKNOWN,
            money_moved="UNKNOWN",
            retry="SAME_KEY",
            query_after=QUERY_AFTER,
            ids=self._asked.ids,
        )


class _Stopped(BaseException):
    """A signal asks the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(_SIGNALS[_named(number)][1])
        self.number = number


def take_signals(
    handler: Callable[[int, FrameType | None], None], numbers: Iterable[int] = tuple(_SIGNALS)
) -> None:
    """Let the handler have these signals, but not those that the process was started to ignore."""
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, handler)


def _named(number: int) -> signal.Signals:
    return signal.Signals(number)


def _word(error: BaseException) -> str:
    return f"stopped by {error}" if isinstance(error, _Stopped) else type(error).__name__
