"""`midas refund`: what it sends, what it prints, and with which status it ends."""

import pytest
from google.protobuf.json_format import MessageToDict

from midas.v1 import refund_pb2
from midas.v1.payment_service_pb2 import RefundResponse
from midas.v1.refund_pb2 import Refund
from tests.cli.double import answered, run, run_alone

ASKED = ["refund", "--refund-no", "R1", "--description", "cold"]
OF_ORDER = [*ASKED, "--order-no", "A1"]


def made(state: str, **fields: str) -> RefundResponse:
    """A refund in this state."""
    number = refund_pb2.RefundState.Value(f"REFUND_STATE_{state}")
    return RefundResponse(
        refund=Refund(refund_no="R1", state=number, amount=300, currency="cny", **fields)  # type: ignore[arg-type]
    )


def test_every_option_reaches_its_field() -> None:
    """Each option of the command is a field of the request."""
    more = ["--charge-id", "ch_1", "--amount", "300", "--metadata", "a=b"]
    more += ["--funding-source", "recharge", "--validate-only"]
    ran = run("Refund", [*ASKED, *more], answered(made("SUBMITTING")))
    assert MessageToDict(ran.request, preserving_proto_field_name=True) == {
        "refund_no": "R1",
        "charge_id": "ch_1",
        "amount": "300",
        "description": "cold",
        "metadata": {"a": "b"},
        "funding_source": "FUNDING_SOURCE_RECHARGE_FUNDS",
        "validate_only": True,
    }
    assert ran.status == 0
    assert "Nothing was refunded" in ran.result.stdout


def test_no_amount_means_all_that_is_left() -> None:
    """Without --amount 0 is sent."""
    assert run("Refund", OF_ORDER, answered(made("SUCCEEDED"))).request.amount == 0
    wrong = run_alone(*OF_ORDER, "--amount", "19.90")
    assert (wrong.exit_code, "write 1990" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("state", "status"), [("SUCCEEDED", 0), ("PENDING", 0), ("FAILED", 1), ("SUBMITTING", 3)]
)
def test_the_state_decides_the_status(state: str, status: int) -> None:
    """Done or accepted is 0, refused by the channel 1, unknown 3; `ok` in JSON agrees."""
    assert run("Refund", OF_ORDER, answered(made(state))).status == status
    ran = run("Refund", [*OF_ORDER, "--json"], answered(made(state)))
    assert ran.status == status
    assert ran.data["ok"] is (status == 0)
    assert ran.data["refund"]["state"] == state
    assert ("error" in ran.data) is (status != 0)


def test_a_state_that_is_not_known_is_no_success() -> None:
    """A state of a newer Midas is no success, nor is a missing state."""
    newer = RefundResponse(refund=Refund(refund_no="R1", state=99))  # type: ignore[arg-type]
    for answer in (newer, RefundResponse()):
        ran = run("Refund", OF_ORDER, answered(answer))
        assert ran.status == 3
        assert "Money may have moved" in ran.result.stderr


def test_people_see_the_reason_and_the_link() -> None:
    """The channel's reason and the link that a person must open are printed."""
    link = "https://example.invalid/" + "x" * 200
    fields = {"failure_code": "refund_wait_operation", "action_url": link}
    text = run("Refund", OF_ORDER, answered(made("PENDING", **fields))).result.stdout
    assert "Refund 3.00 CNY (300 fen): PENDING" in text
    assert "refund_wait_operation" in text
    assert link in "".join(text.split())


def test_exactly_one_target() -> None:
    """Neither and both of --order-no and --charge-id are wrong usage."""
    for target in ([], ["--order-no", "A1", "--charge-id", "ch_1"]):
        result = run_alone(*ASKED, *target)
        assert result.exit_code == 2
        assert "either --order-no or --charge-id" in result.stderr
