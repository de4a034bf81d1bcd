"""How each failure of a call is printed: sentence, JSON and exit status."""

from collections.abc import Iterator
from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from midas import errors
from midas.errors import FieldViolation, MidasError
from midas.rpc.errors import DETAILS_KEY, failure_of
from midas.v1 import errors_pb2
from tests.cli.double import Ran, broken, late, refused, run

CHARGE = ["charge", "--order-no", "A1", "--channel", "wx_pub_qr", "--amount", "1"]
CHARGE += ["--subject", "Tea"]
REFUND = ["refund", "--refund-no", "R1", "--order-no", "A1", "--description", "cold"]
QUERY = ["query", "--order-no", "A1"]

TREE: list[tuple[MidasError, str, int]] = [
    (errors.InvalidRequest((FieldViolation("amount", "give more"),)), "INVALID_REQUEST", 1),
    (errors.NotFound("order", "A1"), "NOT_FOUND", 1),
    (errors.OrderAlreadyPaid("A1", "N1"), "ORDER_ALREADY_PAID", 1),
    (errors.ChargeRefused("A1", "N1", "code", "words"), "CHARGE_REFUSED", 1),
    (errors.RefundNotAllowed("ORDER_NOT_PAID", "A1"), "REFUND_NOT_ALLOWED", 1),
    (errors.RefundExceedsRemaining("A1", "N1", 5, 4, "cny"), "REFUND_EXCEEDS_REMAINING", 1),
    (errors.RefundNoReused("R1"), "REFUND_NO_REUSED", 1),
    (errors.EventIdReused("evt_1"), "EVENT_ID_REUSED", 1),
    (errors.OutcomeUnknown("A1", "N1"), "OUTCOME_UNKNOWN", 3),
    (errors.OutcomeUnknown("A1", needs_operator=True), "OUTCOME_NEEDS_OPERATOR", 3),
    (errors.ChargeStillOpen("A1", "N1"), "CHARGE_STILL_OPEN", 1),
    (errors.ChargeNotMade("A1", "N1"), "CHARGE_NOT_MADE", 1),
    (errors.Throttled(), "PSP_THROTTLED", 1),
    (errors.PspRejectsMidas(), "PSP_REJECTS_MIDAS", 1),
    (errors.PspUnavailable(), "PSP_UNAVAILABLE", 1),
    (errors.PspUnavailable(queued=True), "PSP_UNAVAILABLE", 3),
    (errors.Overloaded(), "OVERLOADED", 1),
    (errors.StorageUnavailable(), "STORAGE_UNAVAILABLE", 1),
    (errors.StorageUnavailable(may_have_written=True), "STORAGE_UNAVAILABLE", 3),
]


@pytest.mark.parametrize(("error", "reason", "status"), TREE)
def test_every_error_of_midas_has_its_status(error: MidasError, reason: str, status: int) -> None:
    """Each error of the tree has its reason, and status 3 exactly where the outcome is unknown."""
    ran = run("Charge", [*CHARGE, "--json"], refused(error))
    printed = ran.data["error"]
    assert (ran.status, ran.data["ok"], printed["reason"]) == (status, False, reason)
    assert (printed["money_moved"] == "UNKNOWN") is (status == 3)
    assert bool(printed["query_after"]) is (status == 3)
    assert printed["retry"] in ("SAME_KEY", "NEW_KEY", "NEVER")
    assert printed["code"] == failure_of(error).code.name
    person = run("Charge", CHARGE, refused(error))
    assert person.status == status
    assert person.result.stdout == ""
    assert f"[{reason}]" in person.result.stderr
    assert len(person.result.stderr.splitlines()) >= 2


def test_the_whole_tree_is_covered() -> None:
    """No error of Midas is missing from the table above."""
    assert set(_subclasses(MidasError)) == {type(error) for error, _, _ in TREE}


def _subclasses(kind: type[MidasError]) -> Iterator[type[MidasError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


def test_refused_fields_are_listed() -> None:
    """Each bad field is printed with what to do, for people and for programs."""
    error = errors.InvalidRequest((FieldViolation("extra.open_id", "is missing"),))
    assert "extra.open_id: is missing" in run("Charge", CHARGE, refused(error)).result.stderr
    printed = run("Charge", [*CHARGE, "--json"], refused(error)).data["error"]
    assert printed["violations"] == [{"field": "extra.open_id", "description": "is missing"}]


def test_an_unknown_outcome_has_the_command_to_find_out() -> None:
    """The sentence has the command to ask with and the time to wait."""
    error = errors.OutcomeUnknown("A1", "N1", query_after=timedelta(seconds=7))
    text = run("Charge", CHARGE, refused(error)).result.stderr
    assert "Ask again in 7s: midas query --order-no A1 --refresh" in text
    assert "safe" in text
    printed = run("Charge", [*CHARGE, "--json"], refused(error)).data["error"]
    assert printed["query_after"] == "7s"
    assert printed["ids"] == {"order_no": "A1", "out_trade_no": "N1"}


def test_only_a_person_can_find_out() -> None:
    """Where an operator is needed, the advice is not to repeat the command."""
    error = errors.OutcomeUnknown("A1", needs_operator=True)
    text = run("Charge", CHARGE, refused(error)).result.stderr
    assert "Repeating" not in text
    assert "Only a person can tell" in text


def test_where_waiting_helps_it_names_the_time() -> None:
    """A passing failure names the pause, a spent key asks for another one."""
    passing = errors.Throttled(retry_after=timedelta(seconds=2))
    text = run("Charge", CHARGE, refused(passing)).result.stderr
    assert "No money moved by this call. Try again after 2s, with the same key." in text
    spent = run("Refund", REFUND, refused(errors.RefundNoReused("R1"))).result.stderr
    assert "use another one" in spent


@pytest.mark.parametrize("arguments", [("Charge", CHARGE), ("Refund", REFUND)])
@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL]
)
def test_a_broken_connection_leaves_the_outcome_unknown(
    arguments: tuple[str, list[str]], code: grpc.StatusCode
) -> None:
    """A failure without Midas's details may have come after the money moved: status 3."""
    ran = run(arguments[0], [*arguments[1], "--json"], broken(code, "Socket closed"))
    printed = ran.data["error"]
    assert ran.status == 3
    assert (printed["money_moved"], printed["retry"], printed["query_after"]) == (
        "UNKNOWN",
        "SAME_KEY",
        "5s",
    )
    assert "Socket closed" in printed["message"]


def test_the_callers_own_deadline_leaves_the_outcome_unknown() -> None:
    """When the time is over before Midas answers, the charge goes on without the caller."""
    ran = run("Charge", [*CHARGE, "--timeout", "3"], late(3))
    assert ran.status == 3
    assert "DEADLINE_EXCEEDED" in ran.result.stderr
    assert "midas query --order-no A1 --refresh" in ran.result.stderr


def test_a_refund_is_asked_about_by_its_own_number() -> None:
    """The advice names the refund, not its order."""
    text = run("Refund", REFUND, broken(grpc.StatusCode.UNAVAILABLE)).result.stderr
    assert "midas query --refund-no R1 --refresh" in text


def test_what_moves_no_money_is_never_unknown() -> None:
    """A query or a check that broke is a plain failure."""
    for method, arguments in (("Query", QUERY), ("Refund", [*REFUND, "--validate-only"])):
        ran = run(method, arguments, broken(grpc.StatusCode.UNAVAILABLE))
        assert ran.status == 1
        assert "No money moved" in ran.result.stderr


@pytest.mark.parametrize("code", [each for each in grpc.StatusCode if each.value[0]])
def test_no_code_alone_means_that_nothing_happened(code: grpc.StatusCode) -> None:
    """Only Midas's own details do: a proxy that tried twice answers for the second time."""
    ran = run("Charge", [*CHARGE, "--json"], broken(code))
    assert ran.status == 3
    printed = ran.data["error"]
    assert (printed["money_moved"], printed["retry"]) == ("UNKNOWN", "SAME_KEY")


def test_an_unknown_value_of_money_moved_is_not_taken_for_no() -> None:
    """A value that this version does not know counts as none, and the outcome is unknown."""
    status = status_pb2.Status(code=grpc.StatusCode.ABORTED.value[0], message="new")
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain="midas", reason="NEW"))
    newer = errors_pb2.PaymentErrorDetail(money_moved=9, retry=9)  # type: ignore[arg-type]
    status.details.add().Pack(newer)
    trailers = ((DETAILS_KEY, status.SerializeToString()),)
    ran = run("Refund", REFUND, broken(grpc.StatusCode.ABORTED, "new", trailers))
    assert ran.status == 3
    assert "Money may have moved" in ran.result.stderr


@pytest.mark.parametrize("details", [b"\xff\xff", b"", failure_of(errors.Throttled()).details])
def test_details_that_do_not_fit_are_not_believed(details: bytes) -> None:
    """Unreadable details, empty ones, or those of another status count as none at all."""
    ran = _with_details(details)
    assert ran.status == 3
    assert ran.data["error"]["reason"] == "UNAVAILABLE"


def _with_details(details: bytes) -> Ran:
    ends = broken(grpc.StatusCode.UNAVAILABLE, "gone", ((DETAILS_KEY, details),))
    return run("Charge", [*CHARGE, "--json"], ends)


def test_nothing_steers_the_terminal() -> None:
    """Control characters in what others wrote are not passed on to the terminal."""
    error = errors.NotFound("order", "A1\x1b[2J")
    text = run("Query", QUERY, refused(error)).result.stderr
    assert "\x1b" not in text
