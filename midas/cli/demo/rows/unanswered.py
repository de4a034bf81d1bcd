"""Rows in which Ping++ does not answer."""

from dataclasses import replace

from midas.cli.demo.scene import Scene
from midas.cli.show import state

LOST = (
    ("wx_pub_qr", "lose_response", "the answer is lost after Ping++ made the charge"),
    ("alipay_qr", "lose_request", "the request is lost before Ping++ made anything"),
)


def create_without_answer(scene: Scene) -> str:
    """Row 12, once with a lost answer and once with a lost request."""
    halves = []
    for channel, fault, what in LOST:
        half = replace(scene, order_no=f"{scene.order_no}-{channel}")
        _is_not_answered(half, channel, fault, what)
        halves.append((half, channel))
    ends = [_ends_by_itself(half, channel) for half, channel in halves]
    return f"OUTCOME_UNKNOWN, then by itself {' and '.join(ends)}; one charge each"


def _is_not_answered(scene: Scene, channel: str, fault: str, what: str) -> None:
    match = {"method": "POST", "path": "/v1/charges$", "channel": channel}
    scene.lookalike.add_fault({"match": match, "action": {"kind": fault}})
    scene.step(what)
    trouble = scene.charge_refused(channel, 1500)
    scene.hold("gRPC status", trouble.code, "UNKNOWN")
    scene.hold("reason", trouble.reason, "OUTCOME_UNKNOWN")
    scene.hold("money moved", trouble.money_moved, "UNKNOWN")
    scene.hold("retry", trouble.retry, "SAME_KEY")
    scene.hold("it says when to query", trouble.query_after != "")
    scene.step(f"the caller may query after {trouble.query_after}")
    meanwhile = state(scene.query()[0])  # on a slow machine it may be resolved already
    scene.hold("Query claims nothing else", meanwhile in ("SUBMITTING", "PENDING"))


def _ends_by_itself(scene: Scene, channel: str) -> str:
    scene.until(
        f"{scene.order_no} became PENDING",
        lambda: [state(each) for each in scene.query(quietly=True)] == ["PENDING"],
    )
    found = scene.query()[0]
    number = found.out_trade_no
    again = scene.charge(channel, 1500)
    scene.hold("Charge repeated: reused", again.reused)
    scene.hold("Charge repeated: the same charge", again.charge.charge_id, found.charge_id)
    at_psp = [each["charge"]["id"] for each in scene.lookalike.charges(number)]
    scene.step(f"charges at the sandbox under {number}: {len(at_psp)}")
    scene.hold("charges at the sandbox", at_psp, [found.charge_id])
    scene.hold_count(number, "POST /v1/charges", 2)  # the lost call, and its repeat to find out
    scene.hold_ledger()
    scene.hold_received()
    return state(again.charge)
