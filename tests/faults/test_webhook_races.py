"""T4: webhooks that come ten at once, too early, or never (W1, W2, W18), over real sockets."""

import asyncio

import pytest

from midas.v1 import charge_pb2, refund_pb2
from tests.faults.books import books_agree
from tests.faults.processes import REFUNDS, until
from tests.faults.webhook_stage import Chain, free_port, webhook_url

pytestmark = pytest.mark.long
"""T1 walks the same races in memory at every run."""

COPIES = 5
"""To each of two gateways."""
ANSWER_TAKES_S = 6.0
"""Longer than a webhook and what comes of it, also on a busy machine."""
PATIENT = {"PSP_TOTAL_TIMEOUT_S": "20", "SETTLE_WINDOW_S": "20"}


async def test_w1_ten_at_once_through_two_gateways(postgres_chain: Chain) -> None:
    """Two gateways, two Midas: all are accepted, one has an effect, each is announced once."""
    chain = postgres_chain
    ports = {"MIDAS": free_port(), "WEBHOOK": free_port()}
    second = {"WEBHOOK_PORT": str(ports["WEBHOOK"]), "MIDAS_TARGET": f"127.0.0.1:{ports['MIDAS']}"}
    midas, _, *gateways, _ = await asyncio.gather(
        chain.midas(WORKERS="2"),
        chain.midas(WORKERS="2", PORT=str(ports["MIDAS"])),
        chain.gateway(),
        chain.gateway(**second),
        chain.orders(),
    )
    await asyncio.gather(*(each.connected() for each in gateways))
    chain.webhooks.urls = tuple(webhook_url(each.port) for each in gateways)
    chain.webhook_fault("webhook_duplicate", count=None, times=COPIES, together=True)
    orders = [f"o-{n}" for n in range(5)]
    charges = await asyncio.gather(*(midas.charge(each) for each in orders))
    for charge in charges:
        chain.harness.pay(charge)
    copies = 2 * COPIES * len(orders)
    deliveries = await chain.sent(copies, outcome="accepted")
    assert all([each.status for each in one.sends] == [200] for one in deliveries)
    verdicts = [one for each in gateways for one in await each.verdicts(copies // 2)]
    assert verdicts.count("accepted") == len(orders)
    assert verdicts.count("duplicate") == copies - len(orders)
    for order_no in orders:
        assert (await chain.notified(order_no)).pay_order_success == 1
    await chain.all_delivered()
    chain.assert_in_order(*orders)
    await books_agree(chain.database_url, orders, chain.harness.sandbox.lookalike)


@pytest.mark.parametrize("channel", ["wx_pub_qr", "wx_pub_scan"])
async def test_w2_paid_before_the_create_call_is_answered(channel: str, chain: Chain) -> None:
    """The order service is notified while Charge still waits for Ping++; the answer agrees."""
    midas, _, _ = await chain.all_up(PATIENT)
    harness = chain.harness
    harness.fault("delay", seconds=ANSWER_TAKES_S, when="after")
    calling = asyncio.ensure_future(midas.charge("early", channel=channel))
    await until(lambda: harness.posts("early") and harness.posts("early")[0].handled, "the POST")
    if channel == "wx_pub_qr":  # a bar code is paid by the create call itself
        charge_id = harness.posts("early")[0].charge_id
        assert charge_id is not None
        harness.sandbox.lookalike.pay(charge_id)
    await chain.notified("early")
    assert not calling.done(), "the webhook waited for the answer"
    response = await calling
    assert response.charge.state == charge_pb2.CHARGE_STATE_SUCCEEDED
    assert response.charge_json, "what the client SDK needs"
    await _once(chain, "early", 1)


async def test_w2_refunded_before_the_refund_call_is_answered(chain: Chain) -> None:
    """RefundSuccess comes while Refund is still waiting; one refund, announced once."""
    midas, _, _ = await chain.all_up(PATIENT)
    await chain.paid(midas, "early")
    await chain.notified("early")
    chain.harness.fault("delay", path=REFUNDS, seconds=ANSWER_TAKES_S, when="after")
    calling = asyncio.ensure_future(midas.refund("r-early", "early"))
    order = await chain.notified("early", lambda order: order.refund_success)
    assert order.refunds == {"r-early": "SUCCEEDED"}
    assert not calling.done(), "the webhook waited for the answer"
    assert (await calling).refund.state == refund_pb2.REFUND_STATE_SUCCEEDED
    assert len(chain.harness.refund_posts("r-early")) == 1
    await _once(chain, "early", 2)


async def test_w2_refund_succeeded_before_charge_succeeded(chain: Chain) -> None:
    """Stored, then applied after asking Ping++: announced in the order in which it happened."""
    midas, _, _ = await chain.all_up()
    chain.webhook_fault("webhook_drop", match={"event": "charge.succeeded"})
    charge = await chain.paid(midas, "crossed")
    chain.harness.sandbox.lookalike.refund_at_dashboard(charge.charge.charge_id, 40)
    await chain.sent(type="refund.succeeded", outcome="accepted")
    order = await chain.notified("crossed", lambda order: order.refund_success)
    assert (order.state, order.amount_refunded) == ("PAID", 40)
    await chain.schedule_passes()
    await _once(chain, "crossed", 2)


async def test_w18_no_webhook_ever_comes(chain: Chain) -> None:
    """A query that asks Ping++ finds the payment, and the order service is still notified."""
    midas, _, _ = await chain.all_up()
    chain.webhook_fault("webhook_drop", count=None)
    await chain.paid(midas, "no-webhook")
    await chain.sent(sends=1)
    assert (await midas.query("no-webhook")).charges[0].state == charge_pb2.CHARGE_STATE_PENDING
    found = (await midas.query("no-webhook", refresh=True)).charges[0]
    assert found.state == charge_pb2.CHARGE_STATE_SUCCEEDED
    await chain.notified("no-webhook")
    (notice,) = chain.book.received("no-webhook")
    assert notice.request.observed_by == charge_pb2.OBSERVED_BY_QUERY
    await _once(chain, "no-webhook", 1)


async def test_another_replica_wrote_the_notification(postgres_chain: Chain) -> None:
    """The relay waits at one Midas and gets what the other one has written."""
    chain = postgres_chain
    other, _, _, _ = await asyncio.gather(
        chain.midas(WORKERS="2", PORT=str(free_port())),
        chain.midas(WORKERS="2"),
        chain.gateway(),
        chain.orders(),
    )
    chain.webhook_fault("webhook_drop", count=None)
    await chain.paid(other, "elsewhere")
    await other.query("elsewhere", refresh=True)
    await chain.notified("elsewhere")
    await _once(chain, "elsewhere", 1)


async def _once(chain: Chain, order_no: str, notices: int) -> None:
    """So many notices, in order, each once; Midas and Ping++ agree."""
    await chain.all_delivered()
    chain.assert_in_order(order_no)
    assert len(chain.book.received()) == notices
    await books_agree(chain.database_url, [order_no], chain.harness.sandbox.lookalike)
