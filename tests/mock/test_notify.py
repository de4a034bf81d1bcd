"""The other direction: canned notifications reach an order service, and it keeps its promises."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from midas.cli.app import cli
from midas.mock import answers, notifications
from midas.mock.notifications import METHODS, Notice, notification, request
from midas.sandbox.orders.server import OrderOptions, OrderServer
from midas.sandbox.orders.tls import OrderTls
from midas.v1 import charge_pb2, refund_pb2
from tests.mock.call_everything import CHARGE
from tests.rpc.certificates import Authority


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[OrderServer]:
    """The sample order service."""
    async with OrderServer(OrderOptions(file=tmp_path / "orders.sqlite3")) as server:
        yield server


async def notify(shop: OrderServer, *arguments: str) -> tuple[int, Any]:
    """Run `midas mock --notify`; its status, and what it printed."""
    where = ["mock", "--json", "--order-target", shop.target, "--order-no", "A1001"]
    done = await asyncio.to_thread(CliRunner().invoke, cli, [*where, *arguments])
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.parametrize("method", METHODS)
def test_a_notification_is_whole(method: str) -> None:
    """Everything that the contract has of it is set, and belongs together."""
    message: Any = request(Notice(method, "A1001", 1))
    refunded = method.startswith("Refund")
    assert (message.order_no, message.sequence) == ("A1001", 1) == (message.charge.order_no, 1)
    assert message.notification_id.startswith("A1001/1/")
    assert message.occurred_at.seconds > 0
    assert message.observed_by == charge_pb2.OBSERVED_BY_WEBHOOK
    closed = method == "PayOrderClosed"
    assert message.charge.state == (
        charge_pb2.CHARGE_STATE_CLOSED if closed else charge_pb2.CHARGE_STATE_SUCCEEDED
    )
    if refunded:
        assert message.refund.charge_id == message.charge.charge_id
        assert message.refund in message.charge.refunds
        failed = method == "RefundFailed"
        assert (message.refund.state == refund_pb2.REFUND_STATE_FAILED) == failed
        assert message.charge.amount_refunded == (0 if failed else message.charge.amount)


def test_an_id_stands_for_one_thing() -> None:
    """A repetition has the same one; any other content has another."""
    notice = Notice("PayOrderSuccess", "A1", 7)
    others = [
        Notice("PayOrderClosed", "A1", 7),
        Notice("PayOrderSuccess", "A1", 8),
        Notice("PayOrderSuccess", "A1", 7, late=True),
    ]
    ids = [notification(each).notification_id for each in (notice, *others)]
    assert ids[0] == notification(notice).notification_id
    assert len(set(ids)) == 4


def test_sequences_begin_in_an_epoch_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later one is above, all are below 2^53, and none has bits of the place in its epoch."""
    epochs = []
    for now in (1_800_000_000.0, 1_800_000_000.2, 2_600_000_000.0):
        monkeypatch.setattr("time.time", lambda now=now: now)
        epochs.append(notifications.fresh_epoch())
    assert epochs == sorted(set(epochs))
    assert all(each % (1 << 20) == 0 and 0 < each < 2**53 for each in epochs)


async def test_all_of_them_reach_the_order_service(shop: OrderServer) -> None:
    """One order is notified of everything, in order and without a gap; and later once more."""
    sequences = []
    for _ in range(2):
        status, printed = await notify(shop, "--notify", "all")
        assert (status, printed["ok"]) == (0, True)
        assert [each["method"] for each in printed["notifications"]] == list(METHODS)
        order = shop.book.order("A1001")
        sequences.append(order.last_sequence)
        counts = (order.pay_order_closed, order.pay_order_success, order.refund_failed)
        assert (*counts, order.refund_success, order.missed) == (1, 1, 1, 1, 0)
        assert (order.state, order.amount_paid, order.amount_refunded) == ("PAID", 1990, 1990)
    assert sequences[0] < sequences[1]


CHARGED = answers.charge(CHARGE, "").charge.out_trade_no


@pytest.mark.parametrize(
    ("kind", "flag", "of_the_charge"),
    [
        *((method, "", [True]) for method in METHODS),
        ("PayOrderSuccess", "--late", [True]),
        ("PayOrderSuccess", "--duplicate-payment", [False]),
        ("RefundSuccess", "--duplicate-payment", [False]),
        ("all", "", [False, True, True, True]),
        ("all", "--late", [True, True, True, True]),
        ("all", "--duplicate-payment", [False, False, False, False]),
    ],
)
async def test_both_directions_belong_together(
    shop: OrderServer, kind: str, flag: str, of_the_charge: list[bool]
) -> None:
    """The notifications are about the charge that Charge answers, unless another one is meant."""
    assert (await notify(shop, "--notify", kind, *filter(None, [flag])))[0] == 0
    charges = [each.request.charge for each in shop.book.received("A1001")]
    assert [each.out_trade_no == CHARGED for each in charges] == of_the_charge
    paid = {
        each.out_trade_no for each in charges if each.state == charge_pb2.CHARGE_STATE_SUCCEEDED
    }
    closed = [each for each in charges if each.state == charge_pb2.CHARGE_STATE_CLOSED]
    assert len(paid) <= 1
    assert all((each.out_trade_no in paid) == (flag == "--late") for each in closed if paid)
    for each in charges:
        if each not in closed:
            flags = (each.late, each.duplicate_payment)
            assert flags == (flag == "--late", flag == "--duplicate-payment")


async def test_a_second_payment_is_to_be_given_back(shop: OrderServer) -> None:
    """The order was paid by its charge; what another one paid beside it is too much."""
    for flag in ((), ("--duplicate-payment",), ("--late",)):
        assert (await notify(shop, "--notify", "PayOrderSuccess", *flag))[0] == 0
    assert len(shop.book.order("A1001").money_to_give_back) == 1


async def test_the_content_can_be_chosen(shop: OrderServer) -> None:
    """Amount, channel, flags and the sequence; the same one again has no second effect."""
    options = ["--notify", "PayOrderSuccess", "--sequence", "1", "--late", "--amount", "5"]
    for _ in range(2):
        assert (await notify(shop, *options, "--channel", "wx_pub"))[0] == 0
    order = shop.book.order("A1001")
    assert (order.pay_order_success, order.amount_paid, order.late) == (1, 5, True)
    external = ["--notify", "RefundSuccess", "--external", "--refund-amount", "2"]
    assert (await notify(shop, *external))[0] == 0
    assert shop.book.order("A1001").amount_refunded == 2
    (refund,) = [
        each.request.refund for each in shop.book.received() if each.kind == "refund_success"
    ]
    assert refund.external
    assert refund.refund_no.startswith("re_")


async def test_any_file_for_tls_turns_it_on(tmp_path: Path) -> None:
    """A certificate alone does it, too: nothing is sent in the clear then."""
    authority = Authority()
    pair = authority.issue("shop")
    files = {"ca": authority.pem, "cert": pair.certificate, "key": pair.key}
    named = {name: tmp_path / f"{name}.pem" for name in files}
    for name, content in files.items():
        named[name].write_bytes(content)
    ca, cert, key = ([f"--tls-{name}", str(path)] for name, path in named.items())
    book = tmp_path / "orders.sqlite3"
    tls = OrderTls(cert=named["cert"], key=named["key"], client_ca=named["ca"])
    async with OrderServer(OrderOptions(file=book, tls=tls)) as encrypted:
        assert (await notify(encrypted, "--notify", "all", *ca, *cert, *key))[0] == 0
    async with OrderServer(OrderOptions(file=book)) as plain:
        before = len(plain.book.received())
        assert (await notify(plain, "--notify", "all", *cert, *key))[0] == 1
        assert len(plain.book.received()) == before > 0


@pytest.mark.parametrize(
    ("code", "meaning"), [("NOT_FOUND", "would park"), ("UNAVAILABLE", "would send it again")]
)
async def test_a_refusal_is_printed(shop: OrderServer, code: str, meaning: str) -> None:
    """Status 1, what Midas would make of the answer, and nothing is sent after it."""
    shop.faults.add({"match": {}, "action": {"kind": "refuse", "code": code}})
    status, printed = await notify(shop, "--notify", "all")
    assert (status, printed["ok"], printed["error"]["reason"]) == (1, False, code)
    assert meaning in printed["error"]["message"]
    assert [each["code"] for each in printed["notifications"]] == [code]
