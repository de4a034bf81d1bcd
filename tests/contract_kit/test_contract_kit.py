"""The contract kit says of each order service exactly which promises it breaks."""

import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from midas.cli.contract_kit.promises import PROMISES, RESTART
from tests.contract_kit import restart

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable

BREAKS: dict[str, set[str]] = {
    "right": set(),
    "applies-all": {
        "ignores-repeats",
        "ignores-copies-at-once",
        "ignores-older",
        "ignores-repeats-after-a-restart",
        "counts-money-once",
    },
    "forgets": {"ignores-repeats-after-a-restart", "counts-money-once"},
    "answers-first": {"durable-before-ok"},
    "refuses-older": {"acknowledges-older", "remembers-over-a-restart"},
    "refuses-repeats": {
        "acknowledges-repeats",
        "acknowledges-copies-at-once",
        "remembers-over-a-restart",
        "survives-callers-that-go-away",
    },
    "applies-older": {
        "ignores-older",
        "ignores-repeats-after-a-restart",
        "counts-money-once",
    },
    "refuses-gaps": {"takes-gaps", "takes-new-epochs"},
    "looks-then-writes": {"ignores-copies-at-once", "counts-money-once"},
    "one-at-a-time": {"keeps-orders-apart", "answers-in-time"},
    "too-slow": {"answers-in-time", "takes-late-money"},
    "knows-no-new-values": {"takes-what-is-new"},
    "refuses-late-money": {"takes-late-money"},
    "keeps-the-lock": {"survives-callers-that-go-away"},
    "drops-closings": {"applies-once"},
    "knows-its-orders": {"takes-every-kind"},
    "knows-its-refunds": {"takes-refunds-made-elsewhere"},
    "half-done": {"takes-every-kind"},
    "counts-messages": {"counts-money-once"},
    "believes-the-flag": {"counts-money-once"},
    "small-numbers": {"takes-new-epochs"},
    "notices-used-sequences": set(),
}
"""What each naive service breaks, and nothing else."""
OPTIONAL = {"notices-used-sequences"}
"""What a simple service may leave out: the kit says what is lost without it, and passes."""
AT_EVERY_RUN = ("forgets", "half-done")
"""The others are played by .ci/run: each takes seconds of a whole core."""


@dataclass
class Service:
    """A running order service and the commands of its side."""

    port: int
    effects: str
    restart: str


def run(service: Service, *options: str) -> tuple[int, dict[str, Any]]:
    """The kit's exit status and what it printed."""
    target = ["--target", f"127.0.0.1:{service.port}", "--timeout", "3", "--json"]
    command = [PYTHON, "-m", "midas", "contract-kit", *target, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=ROOT)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def judged(service: Service) -> tuple[int, dict[str, Any]]:
    """With everything that it needs to judge."""
    return run(service, "--effects-command", service.effects, "--restart-command", service.restart)


def of_state(judgement: dict[str, Any], state: str) -> set[str]:
    """The promises with this verdict."""
    return {each["id"] for each in judgement["promises"] if each["state"] == state}


@contextmanager
def started(folder: Path, port: int, command: list[str], effects: list[str]) -> Iterator[Service]:
    """Run the command as a process that can be killed and started again."""
    pid_file = folder / "pid"
    again = [PYTHON, "-m", "tests.contract_kit.restart", str(pid_file), str(port), *command]
    subprocess.run(again, check=True, cwd=ROOT, timeout=60)
    try:
        yield Service(port, shlex.join(effects), shlex.join(again))
    finally:
        restart.stop(pid_file)


@contextmanager
def naive(folder: Path, variant: str) -> Iterator[Service]:
    """One of the naive ones."""
    port, module = free_port(), [PYTHON, "-m", "tests.contract_kit.naive"]
    serve = [*module, "serve", variant, str(port), str(folder / "file")]
    with started(folder, port, serve, [*module, "show", str(port), "{order_no}"]) as service:
        yield service


@contextmanager
def sample(folder: Path) -> Iterator[Service]:
    """`midas orders`."""
    port, file = free_port(), ["--file", str(folder / "orders.sqlite3")]
    command = [PYTHON, "-m", "midas", "orders", *file]
    serve = [*command, "--port", str(port), "--control-port", "0"]
    with started(folder, port, serve, [*command, "--show", "{order_no}"]) as service:
        yield service


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_the_sample_order_service_keeps_every_promise(tmp_path: Path) -> None:
    """All of them judged, all of them kept, also what may be left out; status 0."""
    with sample(tmp_path) as service:
        status, judgement = judged(service)
    assert of_state(judgement, "kept") == {promise.id for promise in PROMISES}, judgement
    assert (status, judgement["ok"]) == (0, True)


@pytest.mark.parametrize(
    "variant",
    [pytest.param(each, marks=() if each in AT_EVERY_RUN else pytest.mark.long) for each in BREAKS],
)
def test_a_naive_one_breaks_what_it_breaks(variant: str, tmp_path: Path) -> None:
    """Exactly the promises of its mistake, each with evidence and advice."""
    with naive(tmp_path, variant) as service:
        status, judgement = judged(service)
    assert of_state(judgement, "broken") == BREAKS[variant], judgement
    assert status == (1 if BREAKS[variant] else 0)
    for each in judgement["promises"]:
        wanting = each["state"] in ("broken", "left_out")
        assert bool(each["evidence"]) == bool(each["advice"]) == wanting
        assert bool(each["lost"]) == (each["state"] == "left_out")
    assert of_state(judgement, "left_out") <= OPTIONAL
    noticed = variant == "notices-used-sequences"
    assert ("notices-used-sequences" in of_state(judgement, "kept")) == noticed


def test_every_promise_has_one_that_breaks_it() -> None:
    """A promise that no naive service breaks would not be tested here."""
    assert set().union(*BREAKS.values()) == {promise.id for promise in PROMISES} - OPTIONAL


def test_what_cannot_be_observed_is_not_judged(tmp_path: Path) -> None:
    """Without the two commands exactly the promises that need them are open, and it is no pass."""
    with naive(tmp_path, "applies-all") as service:
        status, judgement = run(service)
    hidden = {promise.id for promise in PROMISES if promise.needs}
    assert of_state(judgement, "not_judged") == hidden
    assert of_state(judgement, "broken") == set()
    assert (status, judgement["ok"]) == (1, False)
    assert judgement["error"]["reason"] == "PROMISES_NOT_KEPT"
    assert f"0 promises are broken, {len(hidden)} could" in judgement["error"]["message"]
    assert "--effects-command" in str(judgement["promises"])


def test_a_call_that_is_missing_leaves_the_rest_unjudged(tmp_path: Path) -> None:
    """Nothing is called kept that could only be half tried."""
    with naive(tmp_path, "half-done") as service:
        _, judgement = run(service)
    assert "takes-late-money" in of_state(judgement, "kept")
    assert {"acknowledges-repeats", "takes-what-is-new"} <= of_state(judgement, "not_judged")


def test_orders_can_be_created_first(tmp_path: Path) -> None:
    """A service that knows its orders is judged like any other one."""
    with naive(tmp_path, "knows-its-orders") as service:
        create = f"touch {shlex.quote(str(tmp_path))}/{{order_no}}"
        _, judgement = run(
            service, "--effects-command", service.effects, "--create-command", create
        )
    without_restart = {each.id for each in PROMISES if RESTART not in each.needs}
    assert of_state(judgement, "kept") == without_restart - OPTIONAL, judgement
    assert of_state(judgement, "left_out") == OPTIONAL


def test_it_can_be_read(tmp_path: Path) -> None:
    """For people: each promise on a line, what was observed, what to change, what is missing."""
    with naive(tmp_path, "refuses-older") as service:
        command = [PYTHON, "-m", "midas", "contract-kit", "--target", f"127.0.0.1:{service.port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=ROOT)
    assert done.returncode == 1
    for promise in PROMISES:
        assert promise.text in done.stdout
    text = " ".join(done.stdout.split())
    assert "FAILED_PRECONDITION (out of order)" in text
    assert "which parks the order" in text
    assert "change: A sender that was paused sends an old one late." in text
    assert "left out answers SEQUENCE_REUSED" in text
    assert "lost: Midas never uses a sequence twice, but by a mistake of people" in text
    assert "needs --restart-command and --effects-command" in text
    assert max(len(line) for line in done.stdout.splitlines()) <= 100


def test_nobody_there_is_reported() -> None:
    """A sentence, status 1, and nothing judged."""
    status, judgement = run(Service(free_port(), "", ""))
    assert status == 1
    assert judgement["error"]["reason"] == "ORDER_SERVICE_UNREACHABLE"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("/nowhere/show {order_no}", "cannot be started"),
        ("sh -c 'echo broken >&2; exit 3'", "ended with status 3: broken"),
        ("echo nothing", "must print one JSON object with pay_order_success"),
        ("echo '{}'", "must print one JSON object with pay_order_success"),
        ("'", "is not a command line"),
    ],
)
def test_a_command_that_does_not_work_is_no_verdict(
    command: str, sentence: str, tmp_path: Path
) -> None:
    """Status 2 and a sentence: the order service is not to blame."""
    with naive(tmp_path, "right") as service:
        status, judgement = run(service, "--effects-command", command)
    assert status == 2
    assert sentence in judgement["error"]["message"]
