"""Lists: pages, cursors and filters."""

from __future__ import annotations

from typing import Any

import pytest

from midas.sandbox.ledger import Lookalike
from tests.sandbox.shop import APP_ID, Clock, Shop


def make(shop: Shop, clock: Clock, count: int) -> list[str]:
    """Charges one second apart; their ids, newest first."""
    ids = []
    for number in range(count):
        ids.append(shop.charge(f"ORDER{number:07d}", "alipay")["id"])
        clock.advance(1)
    return ids[::-1]


def test_lists_are_newest_first_ten_by_default(shop: Shop, clock: Clock) -> None:
    """Ten charges come back, the newest first, and more are announced."""
    ids = make(shop, clock, 12)
    status, answer = shop.get("/v1/charges", app__id=APP_ID)
    assert status == 200
    assert (answer["object"], answer["url"], answer["has_more"]) == ("list", "/v1/charges", True)
    assert [charge["id"] for charge in answer["data"]] == ids[:10]
    assert answer["data"][0]["credential"]["object"] == "credential"


def test_cursors_walk_through_everything_once_in_both_directions(shop: Shop, clock: Clock) -> None:
    """starting_after goes to older ones, ending_before back to newer ones."""
    ids = make(shop, clock, 7)
    assert shop.list(limit=3) == ids[:3]
    assert shop.list(limit=3, starting_after=ids[2]) == ids[3:6]
    assert shop.list(limit=3, starting_after=ids[5]) == ids[6:]
    assert shop.list(limit=3, ending_before=ids[6]) == ids[3:6]
    assert shop.list(limit=3, ending_before=ids[2]) == ids[:2]
    last = shop.get("/v1/charges", app__id=APP_ID, limit=3, starting_after=ids[3])[1]
    assert last["has_more"] is False


def test_filters_by_state_channel_and_time(shop: Shop, clock: Clock) -> None:
    """paid, refunded, reversed, channel and created select as documented, also together."""
    start = int(clock.now())
    ids = make(shop, clock, 4)
    shop.lookalike.pay(ids[0])
    shop.lookalike.refund_at_dashboard(ids[0])
    shop.lookalike.pay(ids[1])
    wx = shop.charge("ORDER9999999", "wx")
    shop.post(f"/v1/charges/{wx['id']}/reverse", {})
    assert shop.list(paid="true") == ids[:2]
    assert shop.list(paid="false") == [wx["id"], *ids[2:]]
    assert shop.list(refunded="true") == ids[:1]
    assert shop.list(paid="true", refunded="false") == ids[1:2]
    assert shop.list(reversed="true") == [wx["id"]]
    assert shop.list(channel="wx") == [wx["id"]]
    assert shop.list(created__gt=start, created__lte=start + 2) == ids[1:3]
    assert shop.list(created__gte=start, created__lt=start + 1) == ids[3:]
    assert shop.list(paid="true", limit=1, starting_after=ids[0]) == ids[1:2]


def test_booleans_of_the_python_sdk_are_taken_unless_strict(shop: Shop, clock: Clock) -> None:
    """It sends True and False, and no document says that Ping++ refuses them."""
    ids = make(shop, clock, 2)
    shop.lookalike.pay(ids[0])
    assert shop.list(paid="True") == ids[:1]
    assert shop.list(paid="False", reversed="False", refunded="False") == ids[1:]
    strict = Lookalike(APP_ID, now=clock.now, strict=True)
    for name in ("paid", "refunded", "reversed"):
        status, answer = strict.handle(
            "GET", "/v1/charges", [("app[id]", APP_ID), (name, "True")], b""
        )
        assert (status, answer["error"]["param"]) == (400, name)


def test_order_no_is_no_filter(shop: Shop, clock: Clock) -> None:
    """Ping++ documents none, so a client that relies on it gets everything."""
    ids = make(shop, clock, 2)
    assert shop.list(order_no="ORDER0000000") == ids


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({}, "app[id]"),
        ({"app__id": APP_ID, "paid": "yes"}, "paid"),
        ({"app__id": APP_ID, "refunded": ""}, "refunded"),
        ({"app__id": APP_ID, "reversed": "1"}, "reversed"),
        ({"app__id": APP_ID, "limit": "0"}, "limit"),
        ({"app__id": APP_ID, "limit": "101"}, "limit"),
        ({"app__id": APP_ID, "limit": "x"}, "limit"),
        ({"app__id": APP_ID, "created__gt": "yesterday"}, "created[gt]"),
    ],
)
def test_wrong_queries_are_refused(shop: Shop, query: dict[str, Any], param: str) -> None:
    """Capitalised booleans, odd limits and a missing app are a 400 that names them."""
    status, answer = shop.get("/v1/charges", **query)
    assert (status, answer["error"]["param"]) == (400, param)


def test_a_cursor_must_exist(shop: Shop) -> None:
    """An unknown cursor is a 404."""
    assert shop.get("/v1/charges", app__id=APP_ID, starting_after="ch_x")[0] == 404


def test_refunds_are_listed_newest_first_and_paged(shop: Shop) -> None:
    """The refunds of one charge are pages too; the charge shows the newest ten."""
    charge = shop.paid()
    ids = [shop.refund(charge, amount=1)[1]["id"] for _ in range(12)][::-1]
    path = f"/v1/charges/{charge['id']}/refunds"
    assert [r["id"] for r in shop.get(path, limit=100)[1]["data"]] == ids
    page = shop.get(path, limit=5, starting_after=ids[4])[1]
    assert ([r["id"] for r in page["data"]], page["has_more"]) == (ids[5:10], True)
    inside = shop.fetch(charge)["refunds"]
    assert ([r["id"] for r in inside["data"]], inside["has_more"]) == (ids[:10], True)
