"""Rows in which no webhook comes and nobody asks: the timer calls PollPending."""

from midas.cli.demo.scene import Scene
from midas.cli.show import state
from midas.v1.payment_service_pb2 import (
    POLL_KIND_CHARGES,
    POLL_KIND_REFUNDS,
    PollPendingResponse,
)

PAID = "charge.succeeded"
REFUNDED = "refund.succeeded"
REFUND = "R8-1"


def paid_and_nobody_asks(scene: Scene) -> None:
    """The beginning of row 4."""
    charge = scene.charge("alipay_qr", 4500).charge
    scene.lose_webhooks(charge.out_trade_no)
    scene.hold("paid at Ping++", scene.pays(charge.charge_id).shows("paid"))
    scene.hold("the webhook is sent and lost", scene.is_lost(charge.out_trade_no, PAID))


def found_by_the_timer(scene: Scene) -> str:
    """Row 4."""
    (charge,) = scene.query()
    number = charge.out_trade_no
    scene.hold("Query before", state(charge), "PENDING")
    scene.hold_received()
    scene.wait_for_look("charges", number)
    did = scene.poll(POLL_KIND_CHARGES)
    _hold_one_change(scene, did)
    (found,) = scene.query()
    scene.hold("Query, without refresh", state(found), "SUCCEEDED")
    scene.hold("the channel's number is known", found.transaction_no != "")
    (notification,) = scene.hold_received("PayOrderSuccess")
    scene.hold("how it was found", notification.found_by, "poll")
    scene.hold("changes that PollPending reports again", scene.poll(POLL_KIND_CHARGES).changed, 0)
    scene.hold_ledger(4500)
    scene.hold_count(number, "POST /v1/charges", 1)
    scene.hold("the webhook never arrived", scene.is_lost(number, PAID))
    scene.hold_received("PayOrderSuccess")
    return f"PollPending: {did.changed} changed; {state(found)}; received: {notification}"


def refunded_and_nobody_asks(scene: Scene) -> None:
    """The beginning of row 8."""
    number = scene.paid("wx_pub_qr", 2500).out_trade_no
    scene.lookalike.plan_refund(number, "pending")
    scene.hold("Refund", state(scene.refund(REFUND, 2500)), "PENDING")
    scene.lose_webhooks(number)
    scene.lookalike.approve(number)
    scene.step("the channel carries it out")
    scene.hold("the webhook is sent and lost", scene.is_lost(number, REFUNDED))


def refund_found_by_the_timer(scene: Scene) -> str:
    """Row 8."""
    (charge,) = scene.query()
    number = charge.out_trade_no
    scene.hold("Query before", [state(each) for each in charge.refunds], ["PENDING"])
    scene.hold_received("PayOrderSuccess")
    scene.wait_for_look("refunds", REFUND)
    did = scene.poll(POLL_KIND_REFUNDS)
    _hold_one_change(scene, did)
    (found,) = scene.query()
    scene.hold("Query, without refresh", [state(each) for each in found.refunds], ["SUCCEEDED"])
    received = scene.hold_received("PayOrderSuccess", f"RefundSuccess {REFUND}")
    scene.hold("how it was found", received[-1].found_by, "poll")
    scene.hold("Refund repeated", state(scene.refund(REFUND, 2500)), "SUCCEEDED")
    scene.hold_ledger(2500, refunded=2500)
    scene.hold_count(number, "POST /v1/charges/{id}/refunds", 1)
    scene.hold("the webhook never arrived", scene.is_lost(number, REFUNDED))
    scene.hold_received("PayOrderSuccess", f"RefundSuccess {REFUND}")
    return (
        f"PollPending: {did.changed} changed; {state(found.refunds[0])}; received: {received[-1]}"
    )


def _hold_one_change(scene: Scene, did: PollPendingResponse) -> None:
    scene.hold("changes that PollPending reports", did.changed, 1)
    scene.hold("changes that no webhook had brought", did.found_by_poll, 1)
    scene.hold("looks without an answer", did.failed, 0)
