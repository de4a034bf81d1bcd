"""Rows in which an order is charged and paid."""

import hashlib
import json
from dataclasses import replace

from midas.cli.demo.scene import Scene
from midas.cli.show import state

CREATE = "POST /v1/charges"
REVERSE = "POST /v1/charges/{id}/reverse"
PAID = "charge.succeeded"


def opens_the_page(scene: Scene) -> str:
    """Row 1."""
    answer = scene.charge("wx_pub_qr", 1234)
    charge = answer.charge
    scene.hold("state", state(charge), "PENDING")
    scene.hold("a new charge", answer.reused, False)
    digest = hashlib.sha256(answer.charge_json.encode()).hexdigest()
    answered = scene.lookalike.answers(charge.out_trade_no, CREATE)
    scene.hold("SHA-256 of charge_json and of Ping++'s answer", [digest], answered)
    sent = scene.lookalike.as_sent(charge.charge_id)
    scene.hold("charge_json is what Ping++ still says", answer.charge_json.encode() == sent.body)
    scene.hold("its signature is Ping++'s", scene.lookalike.signed(sent, answer.charge_json))
    scene.step(f"charge_json: {len(sent.body)} bytes as Ping++ answered, correctly signed")
    link = json.loads(answer.charge_json)["credential"]["wx_pub_qr"]
    page = scene.lookalike.open(link)
    scene.step(f"the payer opens {link} → {page.status}")
    scene.hold("the payment page shows the price", page.shows("12.34 CNY"))
    scene.hold("Query", [state(each) for each in scene.query()], ["PENDING"])
    scene.hold_ledger()
    scene.hold_count(charge.out_trade_no, CREATE, 1)
    scene.hold_received()
    return f"{len(sent.body)} bytes of JSON unmodified, page {page.status}, {state(charge)}"


def paid(scene: Scene) -> str:
    """Row 2."""
    charge = scene.charge("wx_pub_qr", 3400).charge
    scene.hold("paid at Ping++", scene.pays(charge.charge_id).shows("paid"))
    (event_id,) = scene.webhooks(charge.out_trade_no, PAID)
    standing = scene.stage.books.events(event_id)
    scene.step(f"the event in Midas's database: {', '.join(standing)}")
    scene.hold("the event in Midas's database", standing, ["APPLIED"])
    (found,) = scene.query()
    scene.hold("Query, without refresh", state(found), "SUCCEEDED")
    scene.hold("the channel's number is known", found.transaction_no != "")
    asked = scene.lookalike.requests(charge.out_trade_no)
    scene.step(f"Midas asked Ping++: {', '.join(asked)}, and nothing since")
    scene.hold("all that Midas asked Ping++", asked, [CREATE])
    (notification,) = scene.hold_received("PayOrderSuccess")
    scene.hold("how it was found", notification.found_by, "webhook")
    order = scene.stage.orders.order(scene.order_no)
    scene.step(f"the order service takes the order for {order['state']}: {order['paid_by']}")
    scene.hold("the order at the order service", order["state"], "PAID")
    scene.hold("paid by", order["paid_by"], charge.charge_id)
    scene.hold("the amount that it was notified of", order["amount_paid"], 3400)
    scene.hold_ledger(3400)
    return f"webhook verified and recorded; {state(found)}; received: {notification}"


def paid_without_webhook(scene: Scene) -> str:
    """Row 3."""
    charge = scene.charge("alipay_qr", 5600).charge
    number = charge.out_trade_no
    scene.lose_webhooks(number)
    scene.hold("paid at Ping++", scene.pays(charge.charge_id).shows("paid"))
    scene.hold("the webhook is sent and lost", scene.is_lost(number, PAID))
    scene.hold("Query before", [state(each) for each in scene.query()], ["PENDING"])
    scene.hold_received()
    found = scene.query(refresh=True)[0]
    scene.hold("Query with refresh", state(found), "SUCCEEDED")
    scene.hold("the channel's number is known", found.transaction_no != "")
    (notification,) = scene.hold_received("PayOrderSuccess")
    scene.hold("how it was found", notification.found_by, "query")
    scene.query(refresh=True)
    again = scene.charge_refused("alipay_qr", 5600)
    scene.hold("charging again", again.reason, "ORDER_ALREADY_PAID")
    scene.hold_ledger(5600)
    scene.hold_count(number, CREATE, 1)
    scene.hold("the webhook never arrived", scene.is_lost(number, PAID))
    scene.hold_received("PayOrderSuccess")
    return f"Query says {state(found)}; received: {notification}; again: {again.reason}"


def cancelled_and_paid(scene: Scene) -> str:
    """Row 5, on the same channel and on another one."""
    same = replace(scene, order_no=f"{scene.order_no}-same")
    other = replace(scene, order_no=f"{scene.order_no}-other")
    return f"{_on_the_same_channel(same)}; other channel: {_on_another_channel(other)}"


def _on_the_same_channel(scene: Scene) -> str:
    first = scene.charge("wx_pub_qr", 900).charge
    scene.cancels(first.charge_id)
    again = scene.charge("wx_pub_qr", 900)
    scene.hold("the same channel again: reused", again.reused)
    scene.hold("the same charge", again.charge.charge_id, first.charge_id)
    scene.hold("the payer confirms", scene.pays(first.charge_id).shows("paid"))
    scene.webhooks(first.out_trade_no, PAID)
    states = [state(each) for each in scene.query()]
    scene.hold("states", states, ["SUCCEEDED"])
    scene.hold_ledger(900)
    scene.hold_count(first.out_trade_no, CREATE, 1)
    (notification,) = scene.hold_received("PayOrderSuccess")
    return f"same channel: one charge, {states[0]}, received: {notification}"


def _on_another_channel(scene: Scene) -> str:
    first = scene.charge("wx_pub_qr", 900).charge
    scene.cancels(first.charge_id)
    second = scene.charge("alipay_qr", 900).charge
    scene.hold("another channel: another charge", second.charge_id != first.charge_id)
    scene.hold("the payer on the abandoned page", scene.pays(first.charge_id).status, 409)
    scene.hold("the payer on the new page", scene.pays(second.charge_id).shows("paid"))
    scene.webhooks(second.out_trade_no, PAID)
    states = {each.charge_id: state(each) for each in scene.query()}
    scene.hold("states", states, {first.charge_id: "CLOSED", second.charge_id: "SUCCEEDED"})
    scene.hold_ledger(900)
    scene.hold_count(first.out_trade_no, CREATE, 1)
    scene.hold_count(first.out_trade_no, REVERSE, 1)
    scene.hold_count(second.out_trade_no, CREATE, 1)
    (notification,) = scene.hold_received("PayOrderSuccess")
    return f"{' and '.join(states.values())}, received: {notification}"


def paid_twice(scene: Scene) -> str:
    """Row 13."""
    first = scene.charge("alipay", 4200).charge
    scene.cancels(first.charge_id)
    second = scene.charge("wx_pub_qr", 4200).charge
    scene.step("Ping++ cannot reverse a charge on alipay: the first page can still be paid")
    scene.hold(
        "no reversal was tried", scene.lookalike.requests(first.out_trade_no).count(REVERSE), 0
    )
    watched = {each.charge_id: each for each in scene.query()}[first.charge_id]
    scene.hold("the first charge", (state(watched), watched.superseded), ("PENDING", True))
    for charge in (second, first):
        scene.hold("the payer confirms", scene.pays(charge.charge_id).shows("paid"))
        scene.webhooks(charge.out_trade_no, PAID)
    found = {each.charge_id: (state(each), each.duplicate_payment) for each in scene.query()}
    wanted = {first.charge_id: ("SUCCEEDED", True), second.charge_id: ("SUCCEEDED", False)}
    scene.hold("states, and which one is the duplicate", found, wanted)
    scene.hold_ledger(4200, 4200)
    received = scene.hold_received("PayOrderSuccess", "PayOrderSuccess duplicate_payment")
    order = scene.stage.orders.order(scene.order_no)
    back = order["money_to_give_back"]
    scene.step(f"the order service: paid by {order['paid_by']}; to give back: {back}")
    scene.hold("paid by", order["paid_by"], second.charge_id)
    scene.hold("money to give back", back, [[first.charge_id, 4200]])
    return f"both SUCCEEDED; received: {', '.join(map(str, received))}"
