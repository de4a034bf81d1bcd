"""`midas query`."""

import pytest

from midas.v1 import charge_pb2, refund_pb2
from midas.v1.charge_pb2 import Charge
from midas.v1.payment_service_pb2 import QueryResponse
from midas.v1.refund_pb2 import Refund
from tests.cli.double import answered, run, run_alone

PAID = QueryResponse(
    charges=[
        Charge(out_trade_no="FIRST", state=charge_pb2.CHARGE_STATE_CLOSED, currency="cny"),
        Charge(
            out_trade_no="SECOND",
            state=charge_pb2.CHARGE_STATE_SUCCEEDED,
            amount=1000,
            currency="cny",
            amount_refunded=300,
            amount_refundable=700,
            late=True,
            livemode=True,
            refunds=[
                Refund(
                    refund_no="R1",
                    state=refund_pb2.REFUND_STATE_SUCCEEDED,
                    amount=300,
                    currency="cny",
                )
            ],
        ),
    ]
)


@pytest.mark.parametrize("key", ["order-no", "out-trade-no", "charge-id", "refund-no", "refund-id"])
def test_each_key_names_a_payment(key: str) -> None:
    """Every key of the contract has its option."""
    request = run("Query", ["query", f"--{key}", "X"], answered(PAID)).request
    assert request.WhichOneof("key") == key.replace("-", "_")
    assert request.refresh is False


def test_people_see_all_charges_and_refunds() -> None:
    """Every charge is printed with its refunds, what is left, and its flags."""
    ran = run("Query", ["query", "--order-no", "A1", "--refresh"], answered(PAID))
    assert ran.request.refresh is True
    assert ran.status == 0
    for text in ("FIRST", "CLOSED", "SECOND", "10.00 CNY (1000 fen)", "7.00 CNY (700 fen)",
                 "Refund 3.00 CNY (300 fen): SUCCEEDED", "late"):  # fmt: skip
        assert text in ran.result.stdout


def test_json_has_the_charges() -> None:
    """--json gives the charges in order."""
    data = run("Query", ["query", "--order-no", "A1", "--json"], answered(PAID)).data
    assert [each["out_trade_no"] for each in data["charges"]] == ["FIRST", "SECOND"]
    assert data["charges"][1]["refunds"][0]["amount"] == 300


def test_exactly_one_key() -> None:
    """No key and two keys are wrong usage."""
    for keys in ([], ["--order-no", "A1", "--refund-no", "R1"]):
        result = run_alone("query", *keys)
        assert result.exit_code == 2
        assert "exactly one" in result.stderr
