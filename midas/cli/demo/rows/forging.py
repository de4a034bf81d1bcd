"""The row in which somebody else sends webhooks."""

from collections import Counter
from dataclasses import replace
from typing import Any

from midas.cli.demo.scene import TAKEN, Scene
from midas.cli.show import state
from midas.sandbox.forgery import FORGERIES

REPLAYS = 20
REFUSED = 401
REFUSED_AS = {"two_signatures": 400, "gzipped": 415}
"""The answers to forgeries whose mistake is not a wrong signature."""


def not_from_pingpp(scene: Scene) -> str:
    """Row 15."""
    unpaid = replace(scene, order_no=f"{scene.order_no}-unpaid")
    paid = replace(scene, order_no=f"{scene.order_no}-paid")
    waiting = unpaid.charge("wx_pub_qr", 5000).charge
    genuine = _genuine_event(paid)
    before = _everything(scene)
    scene.step(f"before: {_listed(before)}")
    claim = _about(genuine, "evt_never1", id=waiting.charge_id, order_no=waiting.out_trade_no)
    _all_refused(scene, "forged, says that the unpaid order is paid", claim)
    _all_refused(scene, "Ping++'s own, altered on its way", genuine)
    replies = scene.lookalike.post_webhook(genuine, times=REPLAYS)
    scene.step(f"Ping++'s own, replayed {len(replies)} × at once → {_counted(replies)}")
    scene.hold("answers to replays", replies, [TAKEN] * REPLAYS)
    _belongs_to_nobody(scene, genuine)
    after = _everything(scene)
    scene.step(f"after: {_listed(after)}")
    scene.hold("what everybody has written down", after, before)
    scene.hold("the forged event in Midas", scene.stage.books.events("evt_never1"), [])
    scene.hold("the genuine event in Midas", scene.stage.books.events(genuine["id"]), ["APPLIED"])
    scene.hold("Query of the unpaid order", [state(e) for e in unpaid.query()], ["PENDING"])
    unpaid.hold_ledger()
    unpaid.hold_received()
    paid.hold_received("PayOrderSuccess")
    return (
        f"{2 * len(FORGERIES)} forged or altered ones refused, {REPLAYS} replays without effect; "
        "the order service's record is unchanged"
    )


def _genuine_event(scene: Scene) -> dict[str, Any]:
    charge = scene.charge("wx_pub_qr", 5000).charge
    scene.hold("paid at Ping++", scene.pays(charge.charge_id).shows("paid"))
    (event_id,) = scene.webhooks(charge.out_trade_no, "charge.succeeded")
    scene.hold_received("PayOrderSuccess")
    return scene.lookalike.event(event_id)


def _all_refused(scene: Scene, what: str, event: dict[str, Any]) -> None:
    answers = {how: scene.lookalike.post_webhook(event, how)[0] for how in FORGERIES}
    scene.step(f"{what}, in {len(answers)} ways → {_counted(answers.values())}")
    wanted = {how: REFUSED_AS.get(how, REFUSED) for how in FORGERIES}
    scene.hold(f"answers: {what}", answers, wanted)


def _belongs_to_nobody(scene: Scene, genuine: dict[str, Any]) -> None:
    """Send a signed event, as Ping++'s test tool does, about a charge that Midas never had."""
    event = _about(genuine, "evt_never2", id="ch_never2", order_no="never2")
    replies = scene.lookalike.post_webhook(event)
    scene.step(f"rightly signed, about a charge that never was → {_counted(replies)}")
    scene.hold("answer", replies, [TAKEN])
    scene.hold("how Midas took it", scene.stage.books.events("evt_never2"), ["IGNORED"])
    asked = (scene.query_refused(out_trade_no="never2"), scene.query_refused(charge_id="ch_never2"))
    scene.hold("Query by its numbers", [each.code for each in asked], ["NOT_FOUND"] * 2)


def _about(event: dict[str, Any], event_id: str, **changed: str) -> dict[str, Any]:
    about = {**event["data"]["object"], **changed}
    return {**event, "id": event_id, "data": {"object": about}}


def _everything(scene: Scene) -> dict[str, int]:
    """How much the order service and Midas have written down."""
    received = len(scene.stage.orders.received())
    return {"received by the order service": received, **scene.stage.books.size()}


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _counted(statuses: Any) -> str:
    return ", ".join(f"{count} × {status}" for status, count in sorted(Counter(statuses).items()))
