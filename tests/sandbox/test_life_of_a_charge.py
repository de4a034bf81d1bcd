"""Paying, cancelling, expiring and reversing."""

from __future__ import annotations

from datetime import datetime

import pytest

from midas.sandbox.channel_table import CHANNELS
from midas.sandbox.credentials import BEIJING
from midas.sandbox.errors import ControlError
from midas.sandbox.ledger import Lookalike
from tests.sandbox.shop import APP_ID, Clock, Shop


def reverse(shop: Shop, charge: dict[str, object]) -> tuple[int, dict[str, object]]:
    """Ask for the charge to be reversed."""
    return shop.post(f"/v1/charges/{charge['id']}/reverse", {})


def test_paying_sets_what_the_channel_reports(shop: Shop, clock: Clock) -> None:
    """A paid charge has its time, the channel's number and extra, and no credential."""
    charge = shop.charge(channel="wx_pub")
    clock.advance(5)
    paid = shop.lookalike.pay(charge["id"])
    assert paid["paid"] is True
    assert paid["time_paid"] == charge["created"] + 5
    assert paid["transaction_no"].isdigit()
    assert paid["extra"] == {"open_id": "o-1", "bank_type": "your bank type"}
    assert paid["credential"] == {}


def test_a_payment_makes_one_event_with_the_charge_inside(shop: Shop) -> None:
    """charge.succeeded carries the full charge as of that moment and can be retrieved."""
    announced: list[str] = []
    shop.lookalike.on_event = lambda event: announced.append(event["id"])
    charge = shop.paid()
    (event,) = shop.lookalike.events.values()
    assert event["type"] == "charge.succeeded"
    assert event["data"]["object"] == charge
    assert len(event["id"]) == 28
    assert announced == [event["id"]]
    assert shop.get(f"/v1/events/{event['id']}") == (200, event)
    shop.refund(charge)
    assert event["data"]["object"]["refunded"] is False


def test_paying_twice_moves_money_once(shop: Shop) -> None:
    """A second confirmation of the same charge changes nothing."""
    charge = shop.paid()
    assert shop.lookalike.pay(charge["id"]) == charge
    assert shop.lookalike.ledger.paid("ORDER0000001") == 100
    assert len(shop.lookalike.events) == 1


def test_cancelling_changes_nothing(shop: Shop) -> None:
    """The payer who leaves is not noticed by Ping++."""
    charge = shop.charge()
    assert shop.lookalike.cancel(charge["id"]) == charge
    assert shop.fetch(charge) == charge
    assert not shop.lookalike.events


def test_expiry_makes_no_event_and_a_late_payment_is_still_possible(
    shop: Shop, clock: Clock
) -> None:
    """After time_expire: unpaid, no event, no ordinary payment, but late money can arrive."""
    charge = shop.charge()
    clock.advance(7200)
    assert shop.fetch(charge)["paid"] is False
    assert not shop.lookalike.events
    with pytest.raises(ControlError, match="expired"):
        shop.lookalike.pay(charge["id"])
    late = shop.lookalike.pay_late(charge["id"])
    assert late["paid"] is True
    assert late["time_paid"] >= late["time_expire"]


def test_reversing_closes_an_unpaid_charge_for_good(shop: Shop) -> None:
    """After reverse neither an ordinary nor a late payment is possible; there is no event."""
    charge = shop.charge()
    status, answer = reverse(shop, charge)
    assert (status, answer["reversed"], answer["paid"]) == (200, True, False)
    for pay in (shop.lookalike.pay, shop.lookalike.pay_late):
        with pytest.raises(ControlError, match="reversed"):
            pay(charge["id"])
    assert reverse(shop, charge)[0] == 200
    assert not shop.lookalike.events
    assert [entry.kind for entry in shop.lookalike.ledger.entries] == [
        "charge_created",
        "charge_reversed",
    ]


@pytest.mark.parametrize("channel", sorted(CHANNELS))
def test_which_channels_reverse(shop: Shop, channel: str) -> None:
    """Unpaid ones as in pingpp.md section 9, paid ones on bar codes and offline channels only."""
    charge = shop.charge(channel=channel)
    rules = CHANNELS[channel]
    if not charge["paid"]:
        assert (reverse(shop, charge)[0] == 200) == rules.reversible
        return
    status, _ = reverse(shop, charge)
    assert (status == 200) == rules.reversible_when_paid
    returned = shop.lookalike.ledger.reversed(charge["id"])
    assert returned == (100 if status == 200 else 0)


@pytest.mark.parametrize("channel", ["alipay", "alipay_wap", "alipay_pc_direct", "balance"])
def test_these_never_reverse(shop: Shop, channel: str) -> None:
    """The Alipay app and web channels cannot be closed, nor can a balance payment."""
    assert reverse(shop, shop.charge(channel=channel))[0] == 400


def test_a_paid_online_charge_is_not_reversed(shop: Shop) -> None:
    """Refund it instead."""
    status, answer = reverse(shop, shop.paid(channel="wx"))
    assert (status, answer["error"]["code"]) == (400, "charge_unexpected_status")  # type: ignore[index]


def test_reversing_a_paid_isv_charge_gives_the_money_back(shop: Shop) -> None:
    """Both paid and reversed are true, and the ledger shows the money returned."""
    charge = shop.paid(channel="isv_qr")
    answer = reverse(shop, charge)[1]
    assert (answer["paid"], answer["reversed"]) == (True, True)
    assert shop.lookalike.ledger.reversed(str(charge["id"])) == 100
    assert shop.refund(charge)[0] == 400


def test_a_charge_with_refunds_is_not_reversed(shop: Shop) -> None:
    """Money cannot go back twice."""
    charge = shop.charge(channel="wx_pub_scan")
    shop.refund(charge, amount=1)
    assert reverse(shop, charge)[0] == 400


@pytest.mark.parametrize(
    ("channel", "created", "later", "status"),
    [
        ("alipay_scan", "2025-11-23T12:00", "2025-11-24T12:00", 200),
        ("alipay_scan", "2025-11-23T12:00", "2025-11-24T12:01", 400),
        ("wx_pub_scan", "2025-11-23T12:00", "2025-11-30T12:00", 200),
        ("wx_pub_scan", "2025-11-23T12:00", "2025-11-30T12:01", 400),
        ("isv_scan", "2025-11-23T00:01", "2025-11-23T23:59", 200),
        ("isv_scan", "2025-11-23T23:59", "2025-11-24T00:01", 400),
        ("upacp", "2025-11-22T23:01", "2025-11-23T22:59", 200),
        ("upacp", "2025-11-23T22:59", "2025-11-23T23:01", 400),
    ],
)
def test_windows_of_reverse(
    shop: Shop, clock: Clock, channel: str, created: str, later: str, status: int
) -> None:
    """Seven days, 24 hours, the same day, or UnionPay's day from 23:00, all in Beijing."""
    clock.seconds = datetime.fromisoformat(created).replace(tzinfo=BEIJING).timestamp()
    charge = shop.charge(channel=channel)
    clock.seconds = datetime.fromisoformat(later).replace(tzinfo=BEIJING).timestamp()
    assert reverse(shop, charge)[0] == status


def test_wechat_may_refuse_a_reverse_right_after_the_create(clock: Clock) -> None:
    """With the option set, a young WeChat charge is refused by the channel, an older one closed."""
    shop = Shop(Lookalike(APP_ID, now=clock.now, wx_reverse_after_s=300))
    charge = shop.charge(channel="wx")
    assert reverse(shop, charge)[0] == 402
    clock.advance(300)
    assert reverse(shop, charge)[0] == 200
