"""The row in which the order service is away."""

import time
from collections.abc import Sequence
from dataclasses import replace

from midas.cli.demo.scene import Scene
from midas.cli.show import state
from midas.v1.charge_pb2 import Charge

ORDERS = 3
ATTEMPTS = 3
"""How many attempts fail for each order before the order service comes back. The pauses between
attempts are 1, 2, 4 … seconds, and each is shortened by up to half. So these attempts take about
two seconds, and the next one follows about two seconds later."""


def order_service_down(scene: Scene) -> str:
    """Row 14."""
    scenes = [replace(scene, order_no=f"{scene.order_no}-{n}") for n in range(1, ORDERS + 1)]
    charges = [each.charge("alipay_qr", 600).charge for each in scenes]
    gone_at = time.monotonic()
    standby = scene.stage.orders.go_away()
    scene.step("the process of the order service is ended")
    for each, charge in zip(scenes, charges, strict=True):
        _paid_and_refunded_twice(each, charge)
    scene.until(
        f"{ATTEMPTS} attempts have failed for each of {ORDERS} orders",
        lambda: min(_attempts(scenes)) >= ATTEMPTS,
    )
    attempts = sum(_attempts(scenes))
    scene.stage.orders.come_back(standby)
    down = f"{time.monotonic() - gone_at:.1f} s"
    scene.step(f"the order service is back on its file. It really was down for {down}, not an hour")
    scene.step("(in an hour the pauses grow to 5 minutes; there is no limit on attempts)")
    _all_arrive_in_order(scene, scenes)
    every = ORDERS * len(_wanted(scene))
    return f"down for {down}, {attempts} attempts failed; then all {every} arrived, in order"


def _paid_and_refunded_twice(scene: Scene, charge: Charge) -> None:
    scene.hold("paid at Ping++", scene.pays(charge.charge_id).shows("paid"))
    scene.webhooks(charge.out_trade_no, "charge.succeeded")
    first, second = _refund_nos(scene)
    for refund_no, amount in ((first, 200), (second, 0)):
        scene.hold("Refund", state(scene.refund(refund_no, amount)), "SUCCEEDED")
    scene.webhooks(charge.out_trade_no, "refund.succeeded", 2)
    scene.hold_ledger(600, refunded=600)


def _all_arrive_in_order(scene: Scene, scenes: Sequence[Scene]) -> None:
    for each in scenes:
        each.hold_received(*_wanted(each))
    ours = {each.order_no for each in scenes}
    arrived = [each for each in scene.stage.orders.received() if each.order_no in ours]
    scene.step(
        "as they arrived: " + ", ".join(f"{each.order_no} #{each.sequence}" for each in arrived)
    )
    scene.until(
        "Midas has written down that all of them were taken", lambda: not any(_attempts(scenes))
    )


def _wanted(scene: Scene) -> list[str]:
    return ["PayOrderSuccess", *(f"RefundSuccess {number}" for number in _refund_nos(scene))]


def _refund_nos(scene: Scene) -> tuple[str, str]:
    number = scene.order_no.removeprefix("ORDER-")
    return f"R{number}-1", f"R{number}-2"


def _attempts(scenes: Sequence[Scene]) -> list[int]:
    return [each.stage.books.attempts(each.order_no) for each in scenes]
