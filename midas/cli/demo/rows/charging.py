"""Rows in which an order is charged and paid."""

import hashlib
import json

from midas.cli.demo.scene import Scene
from midas.cli.show import state

CREATE = "POST /v1/charges"
REVERSE = "POST /v1/charges/{id}/reverse"


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
    scene.hold_ledger(paid=0)
    scene.hold_count(charge.out_trade_no, CREATE, 1)
    scene.hold_queued()
    return f"{len(sent.body)} bytes of JSON unmodified, page {page.status}, {state(charge)}"


def paid_without_webhook(scene: Scene) -> str:
    """Row 3."""
    charge = scene.charge("alipay_qr", 5600).charge
    scene.hold("paid at Ping++", scene.pays(charge.charge_id).shows("paid"))
    scene.hold("Query before", [state(each) for each in scene.query()], ["PENDING"])
    scene.hold_queued()
    found = scene.query(refresh=True)[0]
    scene.hold("Query with refresh", state(found), "SUCCEEDED")
    scene.hold("the channel's number is known", found.transaction_no != "")
    scene.query(refresh=True)
    again = scene.charge_refused("alipay_qr", 5600)
    scene.hold("charging again", again.reason, "ORDER_ALREADY_PAID")
    scene.hold_ledger(paid=5600)
    scene.hold_count(charge.out_trade_no, CREATE, 1)
    queued = scene.hold_queued("PayOrderSuccess")
    return f"Query says {state(found)}; queued: {queued}; again: {again.reason}"


def cancelled_and_paid_elsewhere(scene: Scene) -> str:
    """Row 5."""
    first = scene.charge("wx_pub_qr", 900).charge
    scene.cancels(first.charge_id)
    again = scene.charge("wx_pub_qr", 900)
    scene.hold("the same channel again: reused", again.reused)
    scene.hold("the same charge", again.charge.charge_id, first.charge_id)
    scene.cancels(first.charge_id)
    second = scene.charge("alipay_qr", 900).charge
    scene.hold("another channel: another charge", second.charge_id != first.charge_id)
    scene.hold("the payer on the abandoned page", scene.pays(first.charge_id).status, 409)
    scene.hold("the payer on the new page", scene.pays(second.charge_id).shows("paid"))
    states = {each.charge_id: state(each) for each in scene.query(refresh=True)}
    scene.hold("states", states, {first.charge_id: "CLOSED", second.charge_id: "SUCCEEDED"})
    scene.hold_ledger(paid=900)
    scene.hold_count(first.out_trade_no, CREATE, 1)
    scene.hold_count(first.out_trade_no, REVERSE, 1)
    scene.hold_count(second.out_trade_no, CREATE, 1)
    queued = scene.hold_queued("PayOrderSuccess")
    return f"charges {' and '.join(states.values())}; one payment; queued: {queued}"
