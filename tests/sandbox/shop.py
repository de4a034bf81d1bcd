"""A merchant who calls the engine, and the clock that both read."""

from __future__ import annotations

import json
from typing import Any

from midas.sandbox.ledger import Lookalike

Json = dict[str, Any]
APP_ID = "app_MidasSandbox0000"

REQUIRED_EXTRA: dict[str, Json] = {
    "alipay_wap": {"success_url": "https://shop.example/ok"},
    "alipay_pc_direct": {"success_url": "https://shop.example/ok"},
    "alipay_scan": {"scan_code": "286123456789012345", "terminal_id": "T1"},
    "wx_pub": {"open_id": "o-1"},
    "wx_lite": {"open_id": "o-1"},
    "wx_pub_qr": {"product_id": "p1"},
    "wx_pub_scan": {"scan_code": "134512345678901234"},
    "cb_wx": {"goods_list": [{"goods_name": "a", "goods_num": 1}]},
    "cb_wx_pub": {"open_id": "o-1", "goods_list": [{"goods_name": "a", "goods_num": 1}]},
    "cb_wx_pub_qr": {"product_id": "p1", "goods_list": [{"goods_name": "a", "goods_num": 1}]},
    "cb_wx_pub_scan": {"scan_code": "134", "goods_list": [{"goods_name": "a", "goods_num": 1}]},
    "upacp_wap": {"result_url": "https://shop.example/ok"},
    "upacp_pc": {"result_url": "https://shop.example/ok"},
    "isv_scan": {"scan_code": "134512345678901234", "terminal_id": "T1"},
    "isv_qr": {"terminal_id": "T1", "pay_channel": "wx"},
    "isv_wap": {
        "terminal_id": "T1",
        "pay_channel": "wx",
        "result_url": "https://shop.example/ok",
    },
    "bfb_wap": {"result_url": "https://shop.example/ok", "bfb_login": True},
    "jdpay_wap": {"success_url": "https://shop.example/ok", "fail_url": "https://shop.example/no"},
    "yeepay_wap": {
        "product_category": "1",
        "identity_id": "u1",
        "identity_type": 2,
        "terminal_type": 3,
        "terminal_id": "T1",
        "user_ua": "ua",
        "result_url": "https://shop.example/ok",
    },
    "qpay": {"device": "ios"},
    "cmb_wallet": {
        "result_url": "https://shop.example/ok",
        "p_no": "1",
        "seq": "1",
        "m_uid": "1",
        "mobile": "13800000000",
    },
    "balance": {"user": "u1"},
}


class Clock:
    """Unix seconds that stand still until `advance`."""

    def __init__(self) -> None:
        self.seconds = 1_763_870_400.0

    def now(self) -> float:
        """The time."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


def terms(order_no: str = "ORDER0000001", channel: str = "wx", **changes: Any) -> Json:
    """A complete and correct create request; `None` removes a member."""
    request: Json = {
        "order_no": order_no,
        "app": {"id": APP_ID},
        "channel": channel,
        "amount": 100,
        "client_ip": "127.0.0.1",
        "currency": "cny",
        "subject": "测试订单",
        "body": "订单详情",
        "extra": REQUIRED_EXTRA.get(channel, {}),
        **changes,
    }
    return {name: value for name, value in request.items() if value is not None}


class Shop:
    """Sends requests to the engine as a merchant would, without HTTP."""

    def __init__(self, lookalike: Lookalike) -> None:
        self.lookalike = lookalike

    def post(self, path: str, request: Json) -> tuple[int, Json]:
        """Status and answer of a POST."""
        return self.lookalike.handle("POST", path, (), json.dumps(request).encode())

    def get(self, path: str, **query: Any) -> tuple[int, Json]:
        """Status and answer of a GET; write `created__gt` for `created[gt]`."""
        named = [(_parameter(name), str(value)) for name, value in query.items()]
        return self.lookalike.handle("GET", path, named, b"")

    def charge(self, order_no: str = "ORDER0000001", channel: str = "wx", **changes: Any) -> Json:
        """A created charge."""
        status, answer = self.post("/v1/charges", terms(order_no, channel, **changes))
        assert status == 200, answer
        return answer

    def refuse(self, request: Json) -> tuple[int, Json]:
        """Status and error of a create that must not work."""
        status, answer = self.post("/v1/charges", request)
        assert "error" in answer, answer
        return status, answer["error"]

    def paid(self, order_no: str = "ORDER0000001", channel: str = "wx", **changes: Any) -> Json:
        """A paid charge."""
        return self.lookalike.pay(self.charge(order_no, channel, **changes)["id"])

    def refund(self, charge: Json, **request: Any) -> tuple[int, Json]:
        """Status and answer of a refund."""
        return self.post(f"/v1/charges/{charge['id']}/refunds", {"description": "d", **request})

    def fetch(self, charge: Json) -> Json:
        """The charge as it is now."""
        status, answer = self.get(f"/v1/charges/{charge['id']}")
        assert status == 200
        return answer

    def list(self, **query: Any) -> list[str]:
        """The ids of one page of charges."""
        status, answer = self.get("/v1/charges", app__id=APP_ID, **query)
        assert status == 200, answer
        return [charge["id"] for charge in answer["data"]]


def _parameter(name: str) -> str:
    outer, _, inner = name.partition("__")
    return f"{outer}[{inner}]" if inner else outer
