"""The control API and the pages, as another process or a person uses them."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from midas.sandbox.app import SandboxServer
from tests.sandbox.shop import APP_ID, terms


class Remote:
    """The sandbox from another process."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def post(self, path: str, **sent: Any) -> Any:
        """The answer of a control that works."""
        async with self.session.post(f"/_sandbox/{path}", json=sent) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def get(self, path: str) -> Any:
        """What a GET shows."""
        async with self.session.get(f"/_sandbox/{path}") as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def delete(self, path: str) -> Any:
        """The answer of a DELETE."""
        async with self.session.delete(f"/_sandbox/{path}") as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def refused(self, path: str, sent: object) -> tuple[int, str]:
        """Status and sentence of a control that does not work."""
        async with self.session.post(f"/_sandbox/{path}", json=sent) as response:
            return response.status, (await response.json())["error"]

    async def charge(self, order_no: str = "ORDER0000001", channel: str = "wx") -> dict[str, Any]:
        """A new charge."""
        async with self.session.post("/v1/charges", json=terms(order_no, channel)) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
            return answer

    async def refund(self, charge: dict[str, Any], **sent: Any) -> dict[str, Any]:
        """A new refund."""
        path = f"/v1/charges/{charge['id']}/refunds"
        async with self.session.post(path, json={"description": "d", **sent}) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
            return answer


@pytest.fixture
def remote(http: aiohttp.ClientSession) -> Remote:
    """The sandbox from another process."""
    return Remote(http)


async def test_paying_by_order_number_and_reading_the_ledger(remote: Remote) -> None:
    """The newest unpaid charge of the order is paid, and the ledger says so."""
    await remote.charge(channel="alipay")
    newest = await remote.charge(channel="wx")
    assert (await remote.post("cancel", order_no="ORDER0000001"))["paid"] is False
    paid = await remote.post("pay", order_no="ORDER0000001")
    assert (paid["id"], paid["paid"]) == (newest["id"], True)
    (entry,) = (await remote.get("ledger?order_no=ORDER0000001&money=true"))["entries"]
    assert (entry["kind"], entry["amount"]) == ("charge_paid", 100)
    shown = (await remote.get("charge?order_no=ORDER0000001"))["charges"]
    assert [stand["charge"]["paid"] for stand in shown] == [False, True]
    assert len((await remote.get("events"))["events"]) == 1


async def test_refunds_are_planned_approved_and_failed(remote: Remote) -> None:
    """Pending refunds wait for the control that ends them."""
    charge = await remote.charge()
    await remote.post("pay", charge_id=charge["id"])
    await remote.post("plan_refund", outcome="pending", times=2)
    first = await remote.refund(charge, amount=10)
    await remote.refund(charge, amount=20)
    assert (await remote.post("fail", order_no="ORDER0000001", msg="不行"))["failure_msg"] == "不行"
    assert (await remote.post("approve", charge_id=charge["id"]))["id"] == first["id"]
    dashboard = await remote.post("refund-at-dashboard", order_no="ORDER0000001", amount=5)
    assert dashboard["metadata"] == {}
    (stand,) = (await remote.get(f"charge?charge_id={charge['id']}"))["charges"]
    assert stand["money_refunded"] == 15
    assert [refund["status"] for refund in stand["refunds"]] == ["succeeded", "failed", "succeeded"]
    await remote.post("plan_refund", outcome="failed", times=None)
    await remote.delete("plan_refund")
    assert (await remote.refund(charge, amount=1))["status"] == "succeeded"


@pytest.mark.parametrize("listed", [True, False])
async def test_a_bar_code_is_declined_and_confirmed_later(remote: Remote, listed: bool) -> None:
    """402 once; the payer confirms by the charge's number, whether Ping++ shows it or not."""
    await remote.post("decline", listed=listed, channel="wx_pub_scan")
    request = terms(channel="wx_pub_scan")
    async with remote.session.post("/v1/charges", json=request) as response:
        assert response.status == 402
    shown = (await remote.get("charge?order_no=ORDER0000001"))["charges"]
    assert len(shown) == listed
    paid = await remote.post("pay", order_no="ORDER0000001")
    assert paid["paid"]
    (stand,) = (await remote.get("charge?order_no=ORDER0000001"))["charges"]
    assert stand["charge"]["id"] == paid["id"]
    await remote.post("decline", times=None)
    await remote.delete("decline")
    assert (await remote.charge(channel="wx_pub_scan", order_no="ORDER0000002"))["paid"]


async def test_time_moves_on_demand(remote: Remote, server: SandboxServer) -> None:
    """Advancing the clock expires a charge; a late payment is still possible."""
    charge = await remote.charge()
    before = (await remote.get("clock"))["now"]
    assert (await remote.post("clock", advance_s=7200))["now"] >= before + 7200
    assert server.lookalike.is_expired(charge["id"])
    assert (await remote.refused("pay", {"charge_id": charge["id"]}))[0] == 409
    assert (await remote.post("pay", charge_id=charge["id"], late=True))["paid"] is True


async def test_requests_are_counted(remote: Remote) -> None:
    """What reached the API can be counted by method, path and order, also what was refused."""
    charge = await remote.charge()
    async with remote.session.get(f"/v1/charges/{charge['id']}"):
        pass
    logged = await remote.get("requests?method=POST&path=/v1/charges&order_no=ORDER0000001")
    assert logged["count"] == 1
    assert logged["requests"][0]["status"] == 200
    assert (await remote.get("requests"))["requests"][1]["order_no"] == "ORDER0000001"
    await remote.delete("requests")
    assert (await remote.get("requests"))["count"] == 0


async def test_faults_are_added_shown_and_removed(remote: Remote) -> None:
    """Over HTTP as in Python, one or several at once."""
    two = [{"action": {"kind": "garbage"}}, {"action": {"kind": "stall"}}]
    async with remote.session.post("/_sandbox/faults", json=two) as response:
        added = (await response.json())["faults"]
    assert [one["action"]["kind"] for one in added] == ["garbage", "stall"]
    left = await remote.delete(f"faults/{added[0]['id']}")
    assert [one["action"]["kind"] for one in left["faults"]] == ["stall"]
    await remote.delete("faults")
    assert (await remote.get("faults"))["faults"] == []


async def test_public_key_state_and_reset(remote: Remote, server: SandboxServer) -> None:
    """The key is there to verify with; reset forgets charges but neither key nor clock."""
    async with remote.session.get("/_sandbox/public-key") as response:
        assert await response.text() == server.public_key_pem
    await remote.charge()
    state = await remote.get("state")
    assert (state["charges"], state["requests"], state["app_id"]) == (1, 1, APP_ID)
    await remote.post("reset")
    assert (await remote.get("state"))["charges"] == 0


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("pay", {}, 409),
        ("pay", {"charge_id": "ch_x"}, 409),
        ("pay", [], 400),
        ("approve", {}, 400),
        ("approve", {"refund_id": "re_x"}, 409),
        ("plan_refund", {"outcome": "perhaps"}, 409),
        ("decline", {"listed": 1}, 409),
        ("decline", {"times": 0}, 409),
        ("decline", {"maybe": 1}, 400),
        ("plan_refund", {"outcome": "failed", "maybe": 1}, 400),
        ("faults", {"action": {"kind": "explode"}}, 409),
        ("clock", {"advance_s": -1}, 409),
        ("clock", {"advance_s": "x"}, 400),
    ],
)
async def test_senseless_controls_are_refused_with_a_sentence(
    remote: Remote, path: str, sent: object, status: int
) -> None:
    """Nothing changes and the caller learns why."""
    answered, sentence = await remote.refused(path, sent)
    assert answered == status
    assert sentence


async def press(remote: Remote, path: str, decision: str) -> tuple[int, str]:
    """Press a button on a page."""
    async with remote.session.post(path, data={"decision": decision}) as response:
        return response.status, await response.text()


async def look(remote: Remote, path: str) -> tuple[int, str]:
    """Open a page."""
    async with remote.session.get(path) as response:
        return response.status, await response.text()


async def test_a_person_cancels_then_confirms_a_payment(
    remote: Remote, server: SandboxServer
) -> None:
    """The page shows subject and amount; only Confirm moves money; then the buttons are gone."""
    charge = await remote.charge()
    page = f"/pay/{charge['id']}"
    status, text = await look(remote, page)
    assert status == 200
    assert "测试订单" in text
    assert ">1.00</span> CNY" in text
    assert "waiting for payment" in text
    assert "without paying" in (await press(remote, page, "cancel"))[1]
    assert server.lookalike.ledger.paid("ORDER0000001") == 0
    text = (await press(remote, page, "confirm"))[1]
    assert "<button" not in text
    assert server.lookalike.ledger.paid("ORDER0000001") == 100
    assert charge["order_no"] in (await look(remote, "/"))[1]


async def test_an_expired_payment_cannot_be_confirmed(
    remote: Remote, server: SandboxServer
) -> None:
    """The page says expired, without buttons, and a stale form is refused."""
    charge = await remote.charge()
    server.clock.advance(7200)
    text = (await look(remote, f"/pay/{charge['id']}"))[1]
    assert "expired" in text
    assert "<button" not in text
    assert (await press(remote, f"/pay/{charge['id']}", "confirm"))[0] == 409
    assert (await look(remote, "/pay/ch_x"))[0] == 404


async def test_what_the_merchant_wrote_is_escaped(remote: Remote) -> None:
    """A subject cannot put markup into the page."""
    request = terms(channel="alipay", subject="<script>x</script>")
    async with remote.session.post("/v1/charges", json=request) as response:
        charge = await response.json()
    assert "<script>" not in (await look(remote, f"/pay/{charge['id']}"))[1]


@pytest.mark.parametrize(("decision", "status"), [("confirm", "succeeded"), ("refuse", "failed")])
async def test_a_person_decides_an_old_alipay_refund(
    remote: Remote, server: SandboxServer, decision: str, status: str
) -> None:
    """The link inside failure_msg leads to a page that ends the refund."""
    charge = await remote.charge(channel="alipay")
    await remote.post("pay", charge_id=charge["id"])
    await remote.post("plan_refund", outcome="alipay_link")
    refund = await remote.refund(charge)
    link = refund["failure_msg"][refund["failure_msg"].index("http") :]
    assert link.startswith(server.url)
    assert "Approve refund" in (await look(remote, link))[1]
    await press(remote, link, decision)
    assert server.lookalike.refund(refund["id"])["status"] == status


async def test_an_alipay_link_is_good_for_its_day_only(
    remote: Remote, server: SandboxServer
) -> None:
    """Yesterday's link says so; retrieving the refund gives a new one."""
    charge = await remote.charge(channel="alipay")
    await remote.post("pay", charge_id=charge["id"])
    await remote.post("plan_refund", outcome="alipay_link")
    refund = await remote.refund(charge)
    server.clock.advance(86_400)
    link = refund["failure_msg"][refund["failure_msg"].index("http") :]
    assert (await look(remote, link))[0] == 410
    async with remote.session.get(f"/v1/charges/{charge['id']}/refunds/{refund['id']}") as response:
        fresh = (await response.json())["failure_msg"]
    assert (await look(remote, fresh[fresh.index("http") :]))[0] == 200
