"""Every end of a command that may have sent something: the table of `midas/cli/exchange.py`."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from midas import errors
from midas.cli.app import COMMANDS, cli
from midas.rpc.errors import DETAILS_KEY
from midas.v1 import charge_pb2, errors_pb2, refund_pb2
from midas.v1.charge_pb2 import Charge
from midas.v1.payment_service_pb2 import (
    ChargeResponse,
    PollPendingResponse,
    QueryResponse,
    RefundResponse,
)
from midas.v1.payment_service_pb2_grpc import (
    PaymentServiceServicer,
    add_PaymentServiceServicer_to_server,
)
from midas.v1.refund_pb2 import Refund
from tests.cli.double import Terminate, answered, broken, late, midas_that, refused, run
from tests.patience import PATIENCE_S

TEA = "茶 é \N{TEACUP WITHOUT HANDLE}"
CHARGE = ["charge", "--order-no", "A1", "--channel", "wx_pub_qr", "--amount", "1"]
CHARGE += ["--subject", TEA]
REFUND = ["refund", "--refund-no", "R1", "--order-no", "A1", "--description", "cold"]
CHECK = [*REFUND, "--validate-only"]
QUERY = ["query", "--order-no", "A1"]
POLL = ["poll"]

MADE = ChargeResponse(
    charge=Charge(order_no="A1", state=charge_pb2.CHARGE_STATE_PENDING, subject=TEA)
)
GIVEN_BACK = {
    state: RefundResponse(
        refund=Refund(
            refund_no="R1",
            state=refund_pb2.RefundState.Value(f"REFUND_STATE_{state}"),
            description=TEA,
        )
    )
    for state in ("SUCCEEDED", "PENDING", "FAILED", "SUBMITTING")
}
FOUND = QueryResponse(charges=[MADE.charge])

SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
STATUS = {"Ctrl-C": 130, "SIGTERM": 143, "SIGHUP": 129}


def stopped_by(name: str) -> Terminate:
    """The process gets this signal while Midas has the call."""
    main = threading.main_thread().ident or 0

    def terminate(call: Any) -> None:
        signal.pthread_kill(main, SIGNALS[name])
        # A signal just before the command waits does not end that: the fake channel waits in one
        # piece, where grpc itself wakes up a few times a second. This wakes it.
        call.send_initial_metadata(())

    return terminate


def breaking_the_command() -> Terminate:
    """Details that look like Midas's and that this program cannot read."""
    status = status_pb2.Status(code=grpc.StatusCode.ABORTED.value[0], message="odd")
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain="midas", reason="ODD"))
    endless = errors_pb2.PaymentErrorDetail(
        money_moved=errors_pb2.MONEY_MOVED_NO, query_after=Duration(seconds=2**62)
    )
    status.details.add().Pack(endless)
    return broken(grpc.StatusCode.ABORTED, "odd", ((DETAILS_KEY, status.SerializeToString()),))


UNANSWERED: dict[str, Terminate] = {
    **{name: stopped_by(name) for name in SIGNALS},
    "lost server": broken(grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    "cancelled": broken(grpc.StatusCode.CANCELLED),
    "own time over": late(60),
    "unknown to Midas": refused(errors.OutcomeUnknown("A1")),
    "queued in Midas": refused(errors.PspUnavailable(queued=True)),
    "defect": breaking_the_command(),
}


@pytest.mark.parametrize("end", UNANSWERED)
@pytest.mark.parametrize(("method", "arguments"), [("Charge", CHARGE), ("Refund", REFUND)])
def test_sent_and_not_answered(end: str, method: str, arguments: list[str]) -> None:
    """Status 3, in words and as JSON, with the key to ask and to repeat with."""
    person = run(method, arguments, UNANSWERED[end])
    assert person.status == 3
    assert "Money may have moved. Ask again" in person.result.stderr
    assert "No money moved" not in person.result.output
    key = "--order-no A1" if method == "Charge" else "--refund-no R1"
    program = run(method, [*arguments, "--json"], UNANSWERED[end])
    assert (program.status, program.data["ok"]) == (3, False)
    error = program.data["error"]
    assert (error["money_moved"], error["retry"]) == ("UNKNOWN", "SAME_KEY")
    assert error["query_after"]
    if end not in ("unknown to Midas", "queued in Midas"):
        assert f"midas query {key} --refresh" in person.result.stderr


@pytest.mark.parametrize("end", UNANSWERED)
def test_a_run_that_is_sent_and_not_answered(end: str) -> None:
    """Status 3: Midas may go on with it. There is no order or refund to ask about."""
    person = run("PollPending", POLL, UNANSWERED[end])
    assert person.status == 3
    assert "Running the same command again is safe." in person.result.stderr
    assert "midas query" not in person.result.stderr
    assert "No money moved" not in person.result.output
    program = run("PollPending", [*POLL, "--json"], UNANSWERED[end])
    error = program.data["error"]
    assert (program.status, error["money_moved"], error["retry"]) == (3, "UNKNOWN", "SAME_KEY")


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("arguments", [CHARGE, REFUND, QUERY, POLL])
def test_stopped_before_anything_was_sent(name: str, arguments: list[str]) -> None:
    """The signal's own status, and certainly no money."""

    def connect(_: object) -> grpc.Channel:
        signal.raise_signal(SIGNALS[name])
        raise AssertionError("the signal did not stop it")

    person = CliRunner().invoke(cli, arguments, obj=connect)
    assert person.exit_code == STATUS[name]
    assert f"stopped by {name} before anything was sent [STOPPED]" in person.stderr
    assert "No money moved by this call." in person.stderr
    program = CliRunner().invoke(cli, [*arguments, "--json"], obj=connect)
    assert program.exit_code == STATUS[name]
    assert json.loads(program.stdout)["error"]["money_moved"] == "NO"


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(("method", "arguments"), [("Query", QUERY), ("Refund", CHECK)])
def test_stopped_where_no_money_can_move(name: str, method: str, arguments: list[str]) -> None:
    """A query or a check that was stopped has moved no money."""
    ran = run(method, arguments, stopped_by(name))
    assert ran.status == STATUS[name]
    assert "No money moved by this call." in ran.result.stderr


@pytest.mark.parametrize(("sent", "status"), [(False, 143), (True, 3)])
def test_a_second_signal_ends_it_at_once(
    sent: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with the status of the table, even if the first signal did not end what hangs."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)

    def hang_on(*_: object, **__: object) -> None:
        with pytest.raises(BaseException, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        raise errors.Throttled

    if sent:
        monkeypatch.setattr("midas.cli.exchange.call", hang_on)
        channel = grpc.insecure_channel("127.0.0.1:1")
    CliRunner().invoke(cli, REFUND, obj=lambda _: channel if sent else hang_on())
    assert ended == [status]


class Stopping(io.StringIO):
    """Output during which the process gets a signal."""

    def write(self, text: str) -> int:
        """Be stopped in the middle of it."""
        signal.raise_signal(signal.SIGTERM)
        return super().write(text)


def full() -> TextIO:
    """A disk without space."""
    return Path("/dev/full").open("w")


def closed_pipe() -> TextIO:
    """A pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def in_encoding(name: str) -> Callable[[], TextIO]:
    """A terminal that knows these characters only."""
    return lambda: io.TextIOWrapper(io.BytesIO(), encoding=name)


OUTPUTS: dict[str, Callable[[], TextIO | None]] = {
    "none": lambda: None,
    "full": full,
    "closed pipe": closed_pipe,
    "SIGTERM on the way": Stopping,
    "ascii": in_encoding("ascii"),
    "iso-8859-1": in_encoding("iso-8859-1"),
    "gbk": in_encoding("gbk"),
}
ANSWERS = [
    ("Charge", CHARGE, MADE, 0),
    ("Refund", REFUND, GIVEN_BACK["SUCCEEDED"], 0),
    ("Refund", REFUND, GIVEN_BACK["PENDING"], 0),
    ("Refund", REFUND, GIVEN_BACK["FAILED"], 1),
    ("Refund", REFUND, GIVEN_BACK["SUBMITTING"], 3),
    ("Query", QUERY, FOUND, 0),
    ("PollPending", POLL, PollPendingResponse(examined=1, more_due=True), 0),
]


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["words", "json"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("method", "arguments", "answer", "status"), ANSWERS)
def test_output_never_decides(
    method: str,
    arguments: list[str],
    answer: Any,
    status: int,
    output: str,
    form: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer does, and a person reads what is missing."""
    stdout, stderr = OUTPUTS[output](), io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    with midas_that(method, answered(answer)) as (channel, _), pytest.raises(SystemExit) as ended:
        cli.main([*arguments, *form], obj=lambda _: channel)
    assert ended.value.code == status
    if output in ("none", "full", "closed pipe"):
        assert f"Exit status {status} says what came of the command." in stderr.getvalue()
    if stdout is not None and output != "closed pipe":
        stdout.close()  # nothing waits that could fail once more


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "gbk", "utf-8"])
def test_json_keeps_every_character(encoding: str) -> None:
    """Escaped where the terminal does not know it."""
    ran = run("Charge", [*CHARGE, "--json"], answered(MADE), encoding)
    assert (ran.status, ran.data["charge"]["subject"]) == (0, TEA)


def test_what_cannot_be_shown_is_no_failure_either() -> None:
    """A time that no calendar has, from a Midas that is out of its mind."""
    odd = ChargeResponse(charge=Charge(order_no="A1", created_at=Timestamp(seconds=2**60)))
    for form in ([], ["--json"]):
        assert run("Charge", [*CHARGE, *form], answered(odd)).status == 0


def test_a_defect_in_printing_is_none_of_the_charge(monkeypatch: pytest.MonkeyPatch) -> None:
    """If anything breaks after the answer, the answer counts."""

    def break_down(_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("midas.cli.show.show_charge", break_down)
    ran = run("Charge", CHARGE, answered(MADE))
    assert ran.status == 0
    assert "could not be printed in full (RuntimeError)" in ran.result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "gbk"])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_in_every_terminal(command: str, encoding: str) -> None:
    """Nothing in it needs a character that cannot be written in some other way."""
    result = CliRunner(charset=encoding).invoke(cli, [*filter(None, [command]), "--help"])
    assert (result.exit_code, result.exception) == (0, None)
    assert result.stdout.lower().startswith("usage: midas")
    assert "\\u" not in result.stdout


def test_the_mock_is_read_in_every_terminal() -> None:
    """It is the only command that runs without this command line."""
    process = subprocess.run(
        [sys.executable, "-m", "midas", "mock", "--help"],
        env={"PATH": os.environ["PATH"], "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert "\\u" not in process.stdout


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "gbk"])
def test_a_migration_is_done_on_every_terminal(encoding: str, tmp_path: Path) -> None:
    """Its sentence has an arrow, which many terminals lack."""
    url = f"sqlite:///{tmp_path / 'midas.sqlite3'}"
    result = CliRunner(charset=encoding).invoke(cli, ["migrate"], env={"DATABASE_URL": url})
    assert (result.exit_code, result.exception) == (0, None)
    assert result.stdout.startswith("Schema none")


class _Slow(PaymentServiceServicer):
    """A Midas that has the refund and does not answer."""

    def __init__(self) -> None:
        self.asked, self.over = threading.Event(), threading.Event()

    def Refund(self, request: Any, context: grpc.ServicerContext) -> RefundResponse:  # noqa: N802
        self.asked.set()
        self.over.wait(PATIENCE_S)
        return RefundResponse()


@contextmanager
def slow_midas() -> Iterator[tuple[_Slow, str]]:
    """It, over a real socket, and its address."""
    service = _Slow()  # type: ignore[abstract]
    server = grpc.server(ThreadPoolExecutor(1))
    add_PaymentServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield service, f"127.0.0.1:{port}"
    finally:
        service.over.set()
        server.stop(None).wait()


def started(*arguments: str, **how: Any) -> subprocess.Popen[str]:
    """`python -m midas` as a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "midas", *arguments], text=True, **how)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_process_that_is_stopped(number: signal.Signals) -> None:
    """The socket and the signal are real."""
    with slow_midas() as (midas, target):
        process = started(*REFUND, "--target", target, "--json", stdout=subprocess.PIPE)
        assert midas.asked.wait(PATIENCE_S)
        process.send_signal(number)
        stdout, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3
    assert json.loads(stdout)["error"]["money_moved"] == "UNKNOWN"


@pytest.mark.parametrize("output", ["/dev/full", "closed"])
def test_a_real_process_without_output(output: str, tmp_path: Path) -> None:
    """What Python itself flushes at its end does not change the status either."""
    url = f"sqlite:///{tmp_path / 'midas.sqlite3'}"
    where = ">&-" if output == "closed" else f">{output}"
    process = subprocess.run(
        ["sh", "-c", f'exec "$0" -m midas migrate {where}', sys.executable],
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url},
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
    )
    assert process.returncode == 0, process.stderr
    assert "Exit status 0 says what came of the command." in process.stderr
