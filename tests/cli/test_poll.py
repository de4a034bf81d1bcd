"""`midas poll`."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from midas import errors, limits
from midas.cli.show import local_time
from midas.errors import MidasError
from midas.v1 import payment_service_pb2 as pb
from tests.cli.double import answered, broken, refused, run, run_alone


def at(seconds: int) -> Timestamp:
    """A time, so many seconds after another one."""
    time = Timestamp()
    time.FromDatetime(datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(seconds=seconds))
    return time


NEXT, OLDEST = at(30), at(-90)
NOTHING = pb.PollPendingResponse()
FOUND = pb.PollPendingResponse(
    examined=12,
    changed=3,
    still_pending=7,
    unknown=1,
    failed=2,
    found_by_poll=2,
    psp_calls=15,
    more_due=True,
    oldest_due_at=OLDEST,
    next_due_at=NEXT,
)


@pytest.mark.parametrize(
    ("options", "kinds", "limit"),
    [
        ([], [], 0),
        (["--kinds", "charges"], [pb.POLL_KIND_CHARGES], 0),
        (["--kinds", "refunds", "--limit", "5"], [pb.POLL_KIND_REFUNDS], 5),
        (
            ["--kinds", "charges", "--kinds", "refunds", "--limit", str(limits.POLL_ROWS_MAX)],
            [pb.POLL_KIND_CHARGES, pb.POLL_KIND_REFUNDS],
            limits.POLL_ROWS_MAX,
        ),
    ],
)
def test_what_is_asked_for(options: list[str], kinds: list[int], limit: int) -> None:
    """Without options Midas decides: both kinds, and its own limit."""
    request = run("PollPending", ["poll", *options], answered(NOTHING)).request
    assert (list(request.kinds), request.limit) == (kinds, limit)


@pytest.mark.parametrize(
    "options",
    [
        ["--kinds", "orders"],
        ["--limit", "0"],
        ["--limit", "-1"],
        ["--limit", str(limits.POLL_ROWS_MAX + 1)],
        ["--limit", "many"],
        ["all"],
    ],
)
def test_wrong_usage(options: list[str]) -> None:
    """Status 2, and Midas is not called."""
    result = run_alone("poll", *options)
    assert (result.exit_code, "[USAGE]" in result.stderr) == (2, True)


REST = "7 pending, 1 unknown, 2 failed"
SENTENCES = [
    (NOTHING, ["Nothing was due.", "No look is planned."]),
    (
        pb.PollPendingResponse(next_due_at=NEXT),
        ["Nothing was due.", f"The next look is due at {local_time(NEXT)}."],
    ),
    (
        pb.PollPendingResponse(examined=1, psp_calls=1, still_pending=1),
        ["1 look, 1 call to Ping++: 1 pending.", "No look is planned."],
    ),
    (
        pb.PollPendingResponse(examined=2, changed=2, psp_calls=2, next_due_at=NEXT),
        ["2 looks, 2 calls to Ping++: 2 changed.", f"The next look is due at {local_time(NEXT)}."],
    ),
    (
        pb.PollPendingResponse(examined=1),
        ["1 look, 0 calls to Ping++: none changed.", "No look is planned."],
    ),
    (
        FOUND,
        [
            f"12 looks, 15 calls to Ping++: 3 changed (2 that no webhook brought), {REST}.",
            f"More looks are due, the oldest since {local_time(OLDEST)}.",
            "A look that failed comes up again later.",
            "Run the same command again at once.",
        ],
    ),
    (
        pb.PollPendingResponse(more_due=True),
        ["No look was possible.", "More looks are due.", "Run the same command again at once."],
    ),
]


@pytest.mark.parametrize(("response", "lines"), SENTENCES)
def test_people_read_what_was_done(response: pb.PollPendingResponse, lines: list[str]) -> None:
    """Sentences with every number that is not 0, and status 0 also where more is due."""
    ran = run("PollPending", ["poll"], answered(response))
    assert (ran.status, ran.result.stderr) == (0, "")
    assert ran.result.stdout.splitlines() == lines


def test_programs_read_every_field() -> None:
    """By the names of the contract; a time that is not set is null."""
    data = run("PollPending", ["poll", "--json"], answered(FOUND)).data
    assert data == {
        "ok": True,
        "examined": 12,
        "changed": 3,
        "still_pending": 7,
        "unknown": 1,
        "failed": 2,
        "found_by_poll": 2,
        "psp_calls": 15,
        "more_due": True,
        "next_due_at": "2026-03-01T12:00:30+00:00",
        "oldest_due_at": "2026-03-01T11:58:30+00:00",
    }
    nothing = run("PollPending", ["poll", "--json"], answered(NOTHING)).data
    assert (nothing["next_due_at"], nothing["oldest_due_at"]) == (None, None)


KEPT = "What was not looked at stays due. Run the same command again"


@pytest.mark.parametrize(
    ("error", "reason", "advice"),
    [
        (errors.PspUnavailable(), "PSP_UNAVAILABLE", f"{KEPT} after 5s."),
        (errors.StorageUnavailable(), "STORAGE_UNAVAILABLE", f"{KEPT} after 1s."),
        (errors.Overloaded(), "OVERLOADED", f"{KEPT} after 1s."),
        (errors.Throttled(timedelta(seconds=2)), "PSP_THROTTLED", f"{KEPT} after 2s."),
        (errors.PspRejectsMidas(), "PSP_REJECTS_MIDAS", "until something else has changed."),
    ],
)
def test_nothing_could_be_asked(error: MidasError, reason: str, advice: str) -> None:
    """Status 1: no money moved; the advice names no key, because this call has none."""
    person = run("PollPending", ["poll"], refused(error))
    assert (person.status, person.result.stdout) == (1, "")
    assert f"[{reason}]" in person.result.stderr
    assert "No money moved by this call." in person.result.stderr
    assert advice in person.result.stderr
    assert "with the same key" not in person.result.stderr
    program = run("PollPending", ["poll", "--json"], refused(error))
    assert (program.status, program.data["ok"]) == (1, False)
    assert program.data["error"]["reason"] == reason


def test_a_midas_that_has_no_such_call_yet() -> None:
    """A proxy may answer so, too, after the call was made: status 3, as for every other code."""
    ran = run("PollPending", ["poll"], broken(grpc.StatusCode.UNIMPLEMENTED))
    assert ran.status == 3


def test_no_calendar_has_this_time() -> None:
    """The answer counts, also where it cannot be shown as a time."""
    odd = pb.PollPendingResponse(next_due_at=Timestamp(seconds=2**60))
    for form in ([], ["--json"]):
        ran = run("PollPending", ["poll", *form], answered(odd))
        assert (ran.status, str(2**60) in ran.result.stdout) == (0, True)
