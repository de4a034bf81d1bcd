"""Refunds: outcomes, limits, windows, links, and no idempotency at all."""

from __future__ import annotations

from typing import Any

import pytest

from midas.sandbox.errors import ControlError
from midas.sandbox.ledger import RefundOutcome
from tests.sandbox.shop import Clock, Shop

DAY_S = 86_400


def test_a_refund_succeeds_at_once_as_in_test_mode(shop: Shop) -> None:
    """HTTP 200, succeeded, all that is left, its number being its id without the prefix."""
    charge = shop.paid()
    status, refund = shop.refund(charge, metadata={"refund_no": "R1"})
    assert status == 200
    assert (refund["status"], refund["succeed"], refund["amount"]) == ("succeeded", True, 100)
    assert refund["time_succeed"] == refund["created"]
    assert refund["order_no"] == refund["id"].removeprefix("re_")
    assert len(refund["id"]) == 27
    assert (refund["charge"], refund["charge_order_no"]) == (charge["id"], "ORDER0000001")
    assert refund["metadata"] == {"refund_no": "R1"}
    assert "funding_source" not in refund
    after = shop.fetch(charge)
    assert (after["paid"], after["refunded"], after["amount_refunded"]) == (True, True, 100)
    assert after["refunds"]["data"] == [refund]
    assert shop.lookalike.ledger.refunded(charge["id"]) == 100
    assert [e["type"] for e in shop.lookalike.events.values()][-1] == "refund.succeeded"


def test_the_same_refund_twice_is_two_refunds(shop: Shop) -> None:
    """There is no idempotency: metadata does not count."""
    charge = shop.paid()
    first = shop.refund(charge, amount=10, metadata={"refund_no": "R1"})[1]
    second = shop.refund(charge, amount=10, metadata={"refund_no": "R1"})[1]
    assert first["id"] != second["id"]
    assert shop.lookalike.ledger.refunded(charge["id"]) == 20


def test_partial_refunds_until_nothing_is_left(shop: Shop) -> None:
    """More than is left is refused; after the last one the recorded text gives the reason."""
    charge = shop.paid()
    for _ in range(2):
        assert shop.refund(charge, amount=40)[0] == 200
    status, answer = shop.refund(charge, amount=21)
    assert (status, answer["error"]["param"]) == (400, "amount")
    assert shop.refund(charge)[1]["amount"] == 20
    status, answer = shop.refund(charge, amount=1)
    assert status == 400
    assert answer == {
        "error": {
            "type": "invalid_request_error",
            "message": "不能对订单号 ORDER0000001 发起退款，因为已经全额退款了。"
            f"Charge id: {charge['id']}。",
        }
    }


def test_pending_refunds_hold_their_amount(shop: Shop) -> None:
    """What is pending cannot be refunded again, but does not count as refunded yet."""
    charge = shop.paid()
    shop.lookalike.plan_refund("pending")
    refund = shop.refund(charge, amount=60)[1]
    assert (refund["status"], refund["succeed"], refund["time_succeed"]) == ("pending", False, None)
    assert shop.refund(charge, amount=41)[0] == 400
    after = shop.fetch(charge)
    assert (after["refunded"], after["amount_refunded"]) == (True, 0)
    shop.lookalike.approve_refund(refund["id"])
    assert shop.fetch(charge)["amount_refunded"] == 60
    assert shop.lookalike.ledger.refunded(charge["id"]) == 60


def test_a_refund_can_fail_with_http_200(shop: Shop) -> None:
    """The channel's refusal is a refund with status failed and the recorded text."""
    charge = shop.paid(channel="wx_pub")
    shop.lookalike.plan_refund("failed")
    status, refund = shop.refund(charge)
    assert (status, refund["status"], refund["succeed"]) == (200, "failed", False)
    assert refund["failure_code"] == "refund_refused_msg"
    assert refund["failure_msg"] == (
        "退款 wx_pub 已被支付渠道拒绝。来自渠道的信息：交易未结算资金不足，请使用可用余额退款"
    )
    assert shop.fetch(charge)["refunded"] is True
    assert shop.lookalike.ledger.refunded(charge["id"]) == 0
    assert [e["type"] for e in shop.lookalike.events.values()][-1] == "refund.failed"
    again = shop.refund(charge, funding_source="recharge_funds")[1]
    assert (again["status"], again["funding_source"]) == ("succeeded", "recharge_funds")


def test_a_pending_refund_can_fail_later_and_succeed_after_all(shop: Shop) -> None:
    """fail_refund and approve_refund move a refund; a failed one may still be paid late."""
    charge = shop.paid()
    shop.lookalike.plan_refund("pending")
    refund = shop.refund(charge)[1]
    failed = shop.lookalike.fail_refund(refund["id"], "refund_manual_intervention", "线下")
    assert (failed["status"], failed["failure_code"]) == ("failed", "refund_manual_intervention")
    with pytest.raises(ControlError):
        shop.lookalike.fail_refund(refund["id"])
    assert shop.lookalike.approve_refund(refund["id"])["status"] == "succeeded"
    assert shop.lookalike.ledger.refunded(charge["id"]) == 100


def test_a_failed_refund_is_not_paid_late_when_too_little_is_left(shop: Shop) -> None:
    """Late success never gives back more than was paid."""
    charge = shop.paid()
    shop.lookalike.plan_refund("failed")
    failed = shop.refund(charge)[1]
    shop.refund(charge, amount=1)
    with pytest.raises(ControlError):
        shop.lookalike.approve_refund(failed["id"])


def test_old_alipay_waits_for_a_person_behind_a_link(shop: Shop, clock: Clock) -> None:
    """Pending, refund_wait_operation, a link to our page that each retrieve makes afresh."""
    charge = shop.paid(channel="alipay")
    shop.lookalike.plan_refund("alipay_link")
    refund = shop.refund(charge)[1]
    assert (refund["status"], refund["failure_code"]) == ("pending", "refund_wait_operation")
    text, _, link = refund["failure_msg"].partition("http")
    assert text == "需要打开地址进行下一步退款操作: "
    assert link.startswith(f"s://sandbox.invalid/refund-approve/{refund['id']}?service=")
    clock.advance(60)
    path = f"/v1/charges/{charge['id']}/refunds/{refund['id']}"
    fresh = shop.get(path)[1]
    assert fresh["status"] == "pending"
    assert fresh["failure_msg"] != refund["failure_msg"]
    shop.lookalike.approve_refund(refund["id"])
    done = shop.get(path)[1]
    assert (done["status"], done["failure_code"], done["failure_msg"]) == ("succeeded", None, None)


def test_links_exist_on_alipay_only(shop: Shop) -> None:
    """A link plan waits for the next Alipay refund and leaves others alone."""
    shop.lookalike.plan_refund("alipay_link")
    assert shop.refund(shop.paid("ORDER0000001", "wx"))[1]["status"] == "succeeded"
    assert shop.refund(shop.charge("ORDER0000002", "alipay_scan"))[1]["status"] == "succeeded"
    assert shop.refund(shop.paid("ORDER0000003", "alipay"))[1]["status"] == "pending"


def test_plans_are_used_in_order_and_can_be_aimed(shop: Shop) -> None:
    """Plans match by channel and order, are used up, and None lasts until cleared."""
    first, second = shop.paid("ORDER0000001"), shop.paid("ORDER0000002", "alipay")
    shop.lookalike.plan_refund("failed", order_no="ORDER0000002")
    shop.lookalike.plan_refund("pending", channel="wx", times=2)
    outcomes = [shop.refund(first, amount=1)[1]["status"] for _ in range(3)]
    assert outcomes == ["pending", "pending", "succeeded"]
    assert shop.refund(second, amount=1)[1]["status"] == "failed"
    shop.lookalike.plan_refund("pending", times=None)
    assert {shop.refund(second, amount=1)[1]["status"] for _ in range(3)} == {"pending"}
    shop.lookalike.clear_refund_plans()
    assert shop.refund(second, amount=1)[1]["status"] == "succeeded"


def test_a_refused_request_uses_no_plan_up(shop: Shop) -> None:
    """Only a refund that is made takes the next plan."""
    charge = shop.paid()
    shop.lookalike.plan_refund("failed")
    assert shop.refund(charge, amount=101)[0] == 400
    assert shop.refund(charge)[1]["status"] == "failed"


def test_an_unknown_outcome_is_a_control_error(shop: Shop) -> None:
    """A misspelt plan is refused at once."""
    outcome: Any = "perhaps"
    with pytest.raises(ControlError):
        shop.lookalike.plan_refund(outcome)
    with pytest.raises(ControlError):
        shop.lookalike.plan_refund("failed", times=0)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"description": None}, "description"),
        ({"description": "述" * 256}, "description"),
        ({"amount": 0}, "amount"),
        ({"amount": "1"}, "amount"),
        ({"metadata": {"a": []}}, "metadata"),
        ({"funding_source": "pocket"}, "funding_source"),
    ],
)
def test_wrong_parameters_are_refused(shop: Shop, request_: dict[str, Any], param: str) -> None:
    """Each is a 400 that names it and makes no refund."""
    charge = shop.paid()
    status, answer = shop.refund(charge, **request_)
    assert (status, answer["error"]["param"]) == (400, param)
    assert shop.fetch(charge)["refunded"] is False


def test_only_paid_charges_are_refunded(shop: Shop) -> None:
    """An unpaid charge is a 400, one that is not there a 404."""
    assert shop.refund(shop.charge())[0] == 400
    assert shop.refund({"id": "ch_x"})[0] == 404


@pytest.mark.parametrize(("channel", "days"), [("wx", 365), ("alipay", 92), ("upacp", 31)])
def test_refund_windows(shop: Shop, clock: Clock, channel: str, days: int) -> None:
    """A year on WeChat, three months on Alipay, a month elsewhere; then the recorded error."""
    charge = shop.paid(channel=channel)
    clock.advance(days * DAY_S)
    assert shop.refund(charge, amount=1)[0] == 200
    clock.advance(1)
    status, answer = shop.refund(charge, amount=1)
    assert status == 400
    assert answer["error"]["message"] == f"退款时间超出渠道 {channel} 允许的最晚退款时间"
    assert answer["error"]["param"] == "Refund_time"


def test_a_refund_at_the_dashboard_has_no_metadata(shop: Shop) -> None:
    """A person's refund shows in the list and the ledger, and sends its event."""
    charge = shop.paid()
    refund = shop.lookalike.refund_at_dashboard(charge["id"], 30)
    assert (refund["status"], refund["metadata"], refund["amount"]) == ("succeeded", {}, 30)
    listed = shop.get(f"/v1/charges/{charge['id']}/refunds")[1]
    assert listed["data"] == [refund]
    assert shop.lookalike.ledger.refunded(charge["id"]) == 30
    with pytest.raises(ControlError):
        shop.lookalike.refund_at_dashboard(charge["id"], 71)


@pytest.mark.parametrize("outcome", ["succeeded", "pending", "failed"])
def test_money_never_exceeds_what_was_paid(shop: Shop, outcome: RefundOutcome) -> None:
    """With every outcome, refunds that hold money never sum to more than the charge."""
    charge = shop.paid()
    shop.lookalike.plan_refund(outcome, times=3)
    for _ in range(6):
        shop.refund(charge, amount=30)
    refunds = shop.lookalike.refunds_of(charge["id"])
    assert sum(r["amount"] for r in refunds if r["status"] != "failed") <= 100
