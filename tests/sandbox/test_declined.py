"""Declined bar codes: answered with an error, and payable all the same until they are reversed."""

from __future__ import annotations

from pathlib import Path

import pytest

from midas.sandbox.errors import ControlError
from midas.sandbox.ledger import Lookalike
from tests.sandbox.shop import APP_ID, Clock, Json, Shop, terms


def create(shop: Shop, **changes: str) -> tuple[int, Json]:
    """Status and answer of a create."""
    return shop.post("/v1/charges", terms(**changes))


@pytest.mark.parametrize("channel", ["wx_pub_scan", "alipay_scan", "isv_scan", "balance"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_declined_bar_code(shop: Shop, channel: str, listed: bool) -> None:
    """402 with the channel's code; shown unpaid, or not at all until its payer has confirmed."""
    shop.lookalike.decline_bar_code(listed=listed, code="channel_auth_error", msg="no")
    status, answer = create(shop, channel=channel)
    assert status == 402
    assert answer["error"] == {
        "type": "channel_error",
        "message": "no",
        "code": "channel_auth_error",
    }
    (charge_id,) = shop.lookalike.unpaid_bar_codes()
    assert len(shop.lookalike.newest_charges(9)) == listed
    assert shop.get(f"/v1/charges/{charge_id}")[0] == (200 if listed else 404)
    assert shop.lookalike.ledger.paid("ORDER0000001") == 0
    shop.lookalike.pay(charge_id)
    assert shop.get(f"/v1/charges/{charge_id}")[1]["paid"]
    assert len(shop.lookalike.newest_charges(9)) == 1
    assert [event["type"] for event in shop.lookalike.events.values()] == ["charge.succeeded"]


def test_a_plan_takes_what_matches_and_no_more(shop: Shop) -> None:
    """Other channels, other numbers and everything that is no bar code are charged as ever."""
    shop.lookalike.decline_bar_code(channel="wx_pub_scan", order_no="ORDER0000002")
    assert create(shop, channel="wx_pub_scan")[0] == 200
    assert create(shop, channel="wx", order_no="ORDER0000002")[0] == 200
    assert create(shop, channel="alipay_scan", order_no="ORDER0000002")[0] == 200
    shop.lookalike.clear_declines()
    shop.lookalike.decline_bar_code(times=2)
    numbers = [f"ORDER000001{n}" for n in range(3)]
    statuses = [create(shop, channel="alipay_scan", order_no=each)[0] for each in numbers]
    assert statuses == [402, 402, 200]


def test_a_reversed_one_cannot_be_confirmed(shop: Shop) -> None:
    """That is what a reversal is for."""
    shop.lookalike.decline_bar_code()
    create(shop, channel="wx_pub_scan")
    (charge_id,) = shop.lookalike.unpaid_bar_codes()
    assert shop.post(f"/v1/charges/{charge_id}/reverse", {})[1]["reversed"]
    assert shop.lookalike.unpaid_bar_codes() == []
    with pytest.raises(ControlError):
        shop.lookalike.pay(charge_id)


def test_it_outlives_a_restart(tmp_path: Path, clock: Clock) -> None:
    """What is hidden stays hidden, and payable."""
    path = tmp_path / "ledger"
    before = Shop(Lookalike(APP_ID, now=clock.now, rng_seed=1, ledger_path=path))
    before.lookalike.decline_bar_code(listed=False)
    create(before, channel="wx_pub_scan")
    before.lookalike.close()
    after = Lookalike(APP_ID, now=clock.now, rng_seed=1, ledger_path=path)
    (charge_id,) = after.unpaid_bar_codes()
    assert after.newest_charges(9) == []
    assert after.pay(charge_id)["paid"]
    after.close()
