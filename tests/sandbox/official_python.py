"""The stock examples of the official Python SDK, against a sandbox; prints their results.

    python official_python.py URL API_KEY APP_ID PRIVATE_KEY CHARGE REFUND EVENT < WEBHOOK

The calls are those of the examples beside the SDK's source (charge/, charge_refund/, event.py,
verify_demo.py), made here as they make them: the package on the index holds none. A process of its
own, because the SDK's configuration is global and its sources are old.
"""

from __future__ import annotations

import base64
import json
import random
import string
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

# The SDK's own copy of six does not import on Python 3.12 and later.
for name in ("", ".moves", ".moves.urllib", ".moves.urllib.parse"):
    __import__("six" + name)
    sys.modules["pingpp.six" + name] = sys.modules["six" + name]

import pingpp  # noqa: E402
from Crypto.Hash import SHA256  # noqa: E402
from Crypto.PublicKey import RSA  # noqa: E402
from Crypto.Signature import PKCS1_v1_5  # noqa: E402

URL, API_KEY, APP_ID, KEY_PATH, CHARGE_ID, REFUND_ID, EVENT_ID = sys.argv[1:8]
pingpp.api_base, pingpp.api_key, pingpp.private_key_path = URL, API_KEY, KEY_PATH

GOODS = {"goods_name": "iPhone", "goods_num": "1"}
EXTRA: dict[str, dict[str, Any]] = {
    "alipay": {},
    "alipay_wap": {"success_url": "http://example.com/success"},
    "alipay_pc_direct": {"success_url": "http://example.com/success"},
    "wx": {},
    "wx_pub": {"open_id": "openidxxxxxxxxxxxx"},
    "wx_lite": {"open_id": "openidxxxxxxxxxxxx"},
    "wx_pub_qr": {"product_id": "Your Product Id"},
    "cb_wx_pub_scan": {"scan_code": "286801346868493272", "goods_list": [GOODS]},
    "upacp": {},
    "upacp_wap": {"result_url": "http://example.com/success"},
    "jdpay_wap": {
        "success_url": "http://example.com/success",
        "fail_url": "http://example.com/fail",
    },
    "yeepay_wap": {
        "product_category": "1",
        "identity_id": "88888888",
        "identity_type": 1,
        "terminal_type": 1,
        "terminal_id": 666666,
        "user_ua": "Chrome/58.0.3029.81",
        "result_url": "http://example.com/success",
    },
    "isv_qr": {"terminal_id": "SH008", "pay_channel": "alipay"},
    "isv_scan": {
        "scan_code": "286801346868493272",
        "terminal_id": "SH008",
        "goods_list": [
            {
                "goods_id": "iphone6s16G",
                "unified_goods_id": "1001",
                "goods_name": "iPhone6s 16G",
                "goods_num": 1,
                "price": "528800",
                "goods_category": "123456",
                "body": "苹果手机16G",
                "show_url": "https://www.example.com",
            }
        ],
    },
}


def str_random(length: int = 20) -> str:
    """An order number, as the examples make it."""
    return "".join(random.choice(string.ascii_letters + string.digits) for _ in range(length))


def create(channel: str) -> Any:
    """charge/create_*.py."""
    return pingpp.Charge.create(
        order_no=str_random(20),
        amount=10000,
        app={"id": APP_ID},
        channel=channel,
        currency="cny",
        client_ip="127.0.0.1",
        subject="Your Subject",
        body="Your Body",
        extra=EXTRA[channel],
    )


def verify(data: str, sig: str, public_key: str) -> bool:
    """verify_demo.py, with decodebytes in the place of decodestring, which Python 3.9 removed."""
    signs = base64.decodebytes(sig.encode("utf-8"))
    digest = SHA256.new(data.encode("utf-8"))
    return bool(PKCS1_v1_5.new(RSA.importKey(public_key)).verify(digest, signs))


def webhook() -> Any:
    """Whether the webhook on standard input verifies, and one with another body."""
    sent = json.load(sys.stdin)
    data, sign, public_key = sent["data"], sent["sign"], sent["public_key"]
    return [verify(data, sign, public_key), verify(data + " ", sign, public_key)]


LISTED = {"app[id]": APP_ID, "limit": 3, "paid": True, "refunded": False}
EXAMPLES: dict[str, Callable[[], Any]] = {
    **{f"charge/create_{channel}": partial(create, channel) for channel in EXTRA},
    "charge/retrieve": lambda: json.loads(pingpp.Charge.retrieve(CHARGE_ID).to_str())["id"],
    "charge/list": lambda: [each.paid for each in pingpp.Charge.list(**LISTED).data],
    "charge/reverse": lambda: pingpp.Charge.reverse(create("isv_qr").id).reversed,
    "charge_refund/create": lambda: (
        pingpp.Charge.refund(CHARGE_ID, description="Your Descripton", amount=1).status
    ),
    "charge_refund/retrieve": lambda: pingpp.Charge.retrieve_refund(CHARGE_ID, REFUND_ID).id,
    "charge_refund/list": lambda: len(pingpp.Charge.list_refunds(CHARGE_ID, limit=3).data),
    "event": lambda: pingpp.Event.retrieve(EVENT_ID).type,
    "verify_demo": webhook,
}


def play() -> dict[str, Any]:
    """The result of each example, or the error that it ended with."""
    results: dict[str, Any] = {}
    for example, run in EXAMPLES.items():
        try:
            results[example] = run()
        except Exception as error:
            results[example] = repr(error)
    return results


if __name__ == "__main__":
    print(json.dumps(play()))
