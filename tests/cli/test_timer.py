"""`midas timer`: its schedule on a clock of the test, and its ends as a real process."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from midas.cli.app import cli
from midas.cli.call_errors import Failed
from midas.cli.fields import Period
from midas.cli.timer import Stop, Stopped, Timer
from midas.cli.wire import Wire
from midas.runtime.command_errors import Trouble
from midas.v1.payment_service_pb2 import PollPendingRequest, PollPendingResponse
from midas.v1.payment_service_pb2_grpc import (
    PaymentServiceServicer,
    add_PaymentServiceServicer_to_server,
)
from tests.cli.double import run_alone
from tests.patience import PATIENCE_S

QUIET = PollPendingResponse()
DONE = PollPendingResponse(examined=2, changed=1, still_pending=1, psp_calls=2)
MORE = PollPendingResponse(examined=2, still_pending=1, failed=1, more_due=True)
ALL_FAILED = PollPendingResponse(examined=2, failed=2, more_due=True)
EVERY_S = 30


class Stage:
    """Midas as a script, a clock that only pauses and calls move, and what happened."""

    def __init__(self, script: list[PollPendingResponse | None], call_s: float = 0) -> None:
        self.events: list[Any] = []
        self._script, self._call_s, self._now = deque(script), call_s, 1000.0

    def run(self, *targets: str, every_s: float = EVERY_S) -> list[Any]:
        """What happened until the script was over: names of targets that are called, pauses."""
        wires = deque(Wire(target) for target in targets or ("a",))
        every = timedelta(seconds=every_s)
        timer = Timer(wires, every, self._ask, self, self._pause, lambda: self._now)
        with pytest.raises(Stopped):
            timer.run()
        return self.events

    def answered(self, target: str, response: PollPendingResponse) -> None:
        """Note the line."""
        self.events.append((target, response.examined))

    def failed(self, target: str, trouble: Trouble) -> None:
        """Note the line."""
        self.events.append((target, trouble.reason))

    def _ask(self, _wire: Wire) -> PollPendingResponse:
        if not self._script:
            raise Stopped
        self._now += self._call_s
        response = self._script.popleft()
        if response is None:
            raise Failed(Trouble("AWAY", "nobody is there"))
        return response

    def _pause(self, seconds: float) -> None:
        self.events.append(seconds)
        self._now += seconds


def test_it_calls_at_once_and_then_on_schedule() -> None:
    """One line for each run. A call's own time is a part of the period."""
    assert Stage([QUIET, DONE]).run() == [("a", 0), 30, ("a", 2), 30]
    assert Stage([QUIET, DONE], call_s=12).run() == [("a", 0), 18, ("a", 2), 18]
    assert Stage([QUIET, QUIET], call_s=45).run() == [("a", 0), 0, ("a", 0), 0]


def test_while_more_is_due_it_calls_again_at_once() -> None:
    """The period begins with the last call."""
    assert Stage([MORE, MORE, DONE], call_s=1).run() == [("a", 2), ("a", 2), ("a", 2), 29]


def test_a_run_that_gained_nothing_is_not_repeated_at_once() -> None:
    """Otherwise a Ping++ that is away were asked without a pause."""
    assert Stage([ALL_FAILED, DONE]).run() == [("a", 2), 30, ("a", 2), 30]


def test_the_next_target_is_called_at_once_and_stays_the_first() -> None:
    """Whoever answered last is called first; the one that is away is called when that one is."""
    events = Stage([None, DONE, DONE, None, QUIET]).run("a", "b")
    assert events == [("a", "AWAY"), ("b", 2), 30, ("b", 2), 30, ("b", "AWAY"), ("a", 0), 30]


def test_while_nobody_answers_the_pauses_double() -> None:
    """Up to five minutes; with the first answer the usual schedule is back."""
    away = [None] * 14
    events = Stage([*away, DONE, None, None, DONE]).run("a", "b")
    pauses = [each for each in events if not isinstance(each, tuple)]
    assert pauses == [30, 60, 120, 240, 300, 300, 300, 30, 30, 30]
    assert events[:3] == [("a", "AWAY"), ("b", "AWAY"), 30]


def test_a_period_above_the_longest_pause_is_kept() -> None:
    """Nobody is called more often because nobody answers."""
    assert Stage([None, None]).run(every_s=600) == [("a", "AWAY"), 600, ("a", "AWAY"), 600]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1m", 60), ("90", 90), ("1", 1), ("1m30s", 90), ("10m", 600), ("600", 600)],
)
def test_how_often(text: str, seconds: int) -> None:
    """As a length of time, or as a number of seconds."""
    assert Period().convert(text, None, None) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-5", "1.5", "10 s", "s", "soon", "601", "11m", "1d", "９", "9" * 30]
)
def test_how_often_is_checked(text: str) -> None:
    """Status 2 and what to write; Midas is not called."""
    plain = run_alone("timer", "--every", text)
    assert plain.exit_code == 2
    assert "write how often, from 1s to 10m, such as 30s, 1m or 90 (seconds)" in plain.stderr
    data = run_alone("timer", "--every", text, "--json")
    assert (data.exit_code, json.loads(data.stdout)["error"]["reason"]) == (2, "USAGE")


def test_a_signal_ends_only_what_it_may_end() -> None:
    """A line that is being printed is printed; the next call or pause does not begin."""
    stop = Stop()
    stop.on_signal(signal.SIGTERM, None)
    with pytest.raises(Stopped), stop.may_end():
        pytest.fail("this was begun")


def test_a_second_signal_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With status 0, too, even if the first one did not end what hangs."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    stop = Stop()
    with pytest.raises(Stopped), stop.may_end():
        stop.on_signal(signal.SIGTERM, None)
    assert ended == []
    stop.on_signal(signal.SIGTERM, None)
    assert ended == [0]


def test_no_signal_is_slept_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes just before a sleep does not end that, so no sleep is long."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            signal.raise_signal(signal.SIGTERM)

    clock = SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
    monkeypatch.setattr("midas.cli.timer_command.time", clock)
    with midas(lambda: DONE) as (_, target):
        result = CliRunner().invoke(cli, ["timer", "--every", "10m", "--target", target])
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    assert len(slept) == 3
    assert max(slept) <= 0.5


class _Midas(PaymentServiceServicer):
    """Answers as the test wants it, and counts the calls."""

    def __init__(self, answer: Callable[[], PollPendingResponse]) -> None:
        self._answer = answer
        self.requests: list[PollPendingRequest] = []
        self.asked = threading.Event()

    def PollPending(self, request: PollPendingRequest, context: Any) -> PollPendingResponse:  # noqa: N802
        self.requests.append(request)
        self.asked.set()
        return self._answer()


@contextmanager
def midas(answer: Callable[[], PollPendingResponse], port: int = 0) -> Iterator[tuple[_Midas, str]]:
    """It, over a real socket, and its address."""
    service = _Midas(answer)  # type: ignore[abstract]
    server = grpc.server(ThreadPoolExecutor(2))
    add_PaymentServiceServicer_to_server(service, server)
    target = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield service, target
    finally:
        server.stop(None).wait()


class Running:
    """`midas timer` as a process of its own, and its lines."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-m", "midas", "timer", *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        for stream in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self._read, args=[stream], daemon=True).start()

    def line(self) -> str:
        """The next line that it prints, on either stream."""
        return self._lines.get(timeout=PATIENCE_S)

    def ends(self, number: signal.Signals) -> int:
        """Its status after this signal."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _read(self, stream: Any) -> None:
        with stream:
            for line in stream:
                self._lines.put(line)


def unused_target() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return f"127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_a_pause(number: signal.Signals) -> None:
    """The pause would take ten minutes more."""
    with (
        midas(lambda: DONE) as (service, target),
        Running("--every", "10m", "--target", target) as timer,
    ):
        line = timer.line()
        assert f" {target} 2 looks, 2 calls to Ping++: 1 changed, 1 pending; no look" in line
        assert timer.ends(number) == 0
    assert service.requests == [PollPendingRequest()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_a_call(number: signal.Signals) -> None:
    """Midas has the call, and does not answer before the process has ended."""
    over = threading.Event()

    def hang() -> PollPendingResponse:
        over.wait(PATIENCE_S)
        return DONE

    with midas(hang) as (service, target), Running("--target", target) as timer:
        assert service.asked.wait(PATIENCE_S)
        status = timer.ends(number)
        over.set()
    assert status == 0
    with pytest.raises(queue.Empty):
        timer._lines.get(timeout=0)


def test_stopped_while_nobody_is_there() -> None:
    """In the pause after a failure, or in the next try to connect."""
    with Running("--target", unused_target(), "--timeout", "0.2", "--every", "1") as timer:
        assert "[MIDAS_UNREACHABLE]" in timer.line()
        assert timer.ends(signal.SIGTERM) == 0


def test_midas_may_start_later_and_go_away() -> None:
    """It goes on through both, with a line of JSON for each call."""
    target = unused_target()
    port = int(target.rpartition(":")[2])
    options = ["--every", "1", "--timeout", "0.5", "--json"]
    with Running(*options, MIDAS_TARGET=target) as timer:
        away = json.loads(timer.line())
        assert (away["ok"], away["error"]["reason"]) == (False, "MIDAS_UNREACHABLE")
        for _ in range(2):
            with midas(lambda: DONE, port):
                here = next(each for each in _objects(timer) if each["ok"])
                assert (here["target"], here["examined"], here["changed"]) == (target, 2, 1)
            away = next(each for each in _objects(timer) if not each["ok"])
            assert set(away) == {"ok", "at", "target", "error"}
        assert timer.ends(signal.SIGTERM) == 0


def test_another_midas_answers_meanwhile() -> None:
    """The one that is away is named with the reason, and the run is made all the same."""
    away = unused_target()
    with midas(lambda: DONE) as (_, target):
        targets = ["--target", away, "--target", target]
        with Running("--every", "1", "--timeout", "2", *targets) as timer:
            first, second, third = timer.line(), timer.line(), timer.line()
            assert timer.ends(signal.SIGINT) == 0
    lines = sorted((first, second), key=lambda line: target in line)  # two streams: either is first
    assert f" {away} cannot reach Midas" in lines[0]
    assert f" {target} 2 looks" in lines[1]
    assert f" {target} 2 looks" in third


def test_more_is_due() -> None:
    """Over a real socket: the second call follows at once, though the period is ten minutes."""
    answers = deque([MORE, DONE])
    with (
        midas(answers.popleft) as (service, target),
        Running("--every", "10m", "--json", "--target", target) as timer,
    ):
        lines = [json.loads(timer.line()) for _ in range(2)]
        assert timer.ends(signal.SIGTERM) == 0
    assert [each["more_due"] for each in lines] == [True, False]
    assert len(service.requests) == 2


def _objects(timer: Running) -> Iterator[Any]:
    while True:
        yield json.loads(timer.line())
