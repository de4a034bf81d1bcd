"""Rows in which money goes back."""

from midas.cli.demo.scene import Scene
from midas.cli.show import state

FETCH = "GET /v1/charges/{id}"
REFUND = "POST /v1/charges/{id}/refunds"
DONE = "refund.succeeded"


def refunded(scene: Scene) -> str:
    """Row 7."""
    charge = scene.paid("wx_pub_qr", 2000)
    number = charge.out_trade_no
    scene.lookalike.plan_refund(number, "pending")
    before = len(scene.lookalike.requests(number))
    scene.hold("Refund", state(scene.refund("R7-1", 2000)), "PENDING")
    sent = scene.lookalike.requests(number)[before:]
    scene.step(f"Midas asked Ping++: {', '.join(sent)}")
    scene.hold("the charge was fetched before anything was sent", sent, [FETCH, REFUND])
    scene.hold_ledger(2000)
    scene.hold_received("PayOrderSuccess")
    scene.lookalike.approve(number)
    scene.step("the channel carries it out")
    scene.webhooks(number, DONE)
    found = scene.query()[0]
    scene.hold("Query, without refresh", [state(each) for each in found.refunds], ["SUCCEEDED"])
    scene.hold("amount_refunded", found.amount_refunded, 2000)
    received = scene.hold_received("PayOrderSuccess", "RefundSuccess R7-1")
    scene.hold("how it was found", received[-1].found_by, "webhook")
    scene.hold("Refund repeated", state(scene.refund("R7-1", 2000)), "SUCCEEDED")
    scene.hold_ledger(2000, refunded=2000)
    scene.hold_count(number, REFUND, 1)
    scene.hold_received("PayOrderSuccess", "RefundSuccess R7-1")
    return f"charge fetched first; {state(found.refunds[0])} by webhook; received: {received[-1]}"


def in_parts(scene: Scene) -> str:
    """Row 9."""
    charge = scene.paid("alipay_qr", 1000)
    for refund_no, amount, wanted in (("R9-1", 300, 300), ("R9-2", 450, 450), ("R9-3", 0, 250)):
        refund = scene.refund(refund_no, amount)
        scene.hold(f"{refund_no} state", state(refund), "SUCCEEDED")
        scene.hold(f"{refund_no} amount", refund.amount, wanted)
    more = scene.refund_refused("R9-4", 1)
    scene.hold("one more", more.reason, "REFUND_EXCEEDS_REMAINING")
    scene.hold("what remains, in the error", more.ids.get("remaining"), "0")
    scene.hold("money moved by it", more.money_moved, "NO")
    scene.webhooks(charge.out_trade_no, DONE, 3)
    found = scene.query()[0]
    scene.hold("refundable", found.amount_refundable, 0)
    scene.hold("refund numbers", [r.refund_no for r in found.refunds], ["R9-1", "R9-2", "R9-3"])
    scene.hold_ledger(1000, refunded=1000)
    scene.hold_count(charge.out_trade_no, REFUND, 3)
    each = [f"RefundSuccess {number}" for number in ("R9-1", "R9-2", "R9-3")]
    received = scene.hold_received("PayOrderSuccess", *each)
    refunds = ", ".join(map(str, received[1:]))
    return f"received: {refunds}; one more: {more.reason}, {more.ids.get('remaining')} remaining"


def waits_for_a_person(scene: Scene) -> str:
    """Row 10."""
    charge = scene.paid("alipay_qr", 700)
    scene.lookalike.plan_refund(charge.out_trade_no, "alipay_link")
    refund = scene.refund("R10-1", 700)
    scene.hold("Refund", state(refund), "PENDING")
    scene.step(f"action_url {refund.action_url}")
    scene.hold("it has a link", refund.action_url.startswith(scene.lookalike.url))
    entries = scene.stage.books.journal("R10-1")
    noted = [event for event, detail in entries if '"action_url"' in detail]
    scene.hold("the link is in the journal", noted, ["refund_pending"])
    scene.hold_ledger(700)
    scene.hold_received("PayOrderSuccess")
    scene.hold("the page opens", scene.lookalike.open(refund.action_url).status, 200)
    approved = scene.lookalike.press(refund.action_url, "confirm")
    scene.step(f"a person approves it there → {approved.status}")
    scene.hold("approved", approved.shows("succeeded"))
    scene.webhooks(charge.out_trade_no, DONE)
    found = scene.query()[0].refunds[0]
    scene.hold("Query, without refresh", state(found), "SUCCEEDED")
    scene.hold("no link is left", found.action_url, "")
    scene.hold_ledger(700, refunded=700)
    scene.hold_count(charge.out_trade_no, REFUND, 1)
    received = scene.hold_received("PayOrderSuccess", "RefundSuccess R10-1")
    return f"link returned and journaled; then {state(found)}; received: {received[-1]}"


def refused_by_channel(scene: Scene) -> str:
    """Row 11."""
    charge = scene.paid("wx_pub_qr", 800)
    scene.lookalike.plan_refund(charge.out_trade_no, "failed")
    refused = scene.refund("R11-1", 800)
    scene.hold("Refund", state(refused), "FAILED")
    scene.hold("the channel's reason", refused.failure_code, "refund_refused_msg")
    scene.step(f"in the channel's words: {refused.failure_message}")
    scene.hold("in the channel's words", refused.failure_message != "")
    scene.webhooks(charge.out_trade_no, "refund.failed")
    scene.hold_ledger(800)
    scene.hold_received("PayOrderSuccess", "RefundFailed R11-1")
    scene.hold("the same number again", state(scene.refund("R11-1", 800)), "FAILED")
    scene.hold("a new number", state(scene.refund("R11-2", 800)), "SUCCEEDED")
    scene.webhooks(charge.out_trade_no, DONE)
    scene.hold_ledger(800, refunded=800)
    scene.hold_count(charge.out_trade_no, REFUND, 2)
    received = scene.hold_received("PayOrderSuccess", "RefundFailed R11-1", "RefundSuccess R11-2")
    refunds = ", ".join(map(str, received[1:]))
    return f"{state(refused)} {refused.failure_code}; received: {refunds}"
