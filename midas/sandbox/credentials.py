"""What the client SDK gets to open the payment, in the shapes of test mode (pingpp.md 7 and 10).

Every link leads to the sandbox's own payment page. Values are derived from the charge id, so the
same charge always shows the same credential, also after a restart.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode

from midas.sandbox.errors import Json
from midas.sandbox.records import Charge

BEIJING = timezone(timedelta(hours=8))
TEST_WX_APP_ID = "wxp4ihq5y1sytowvjl"


def credential_for(charge: Charge, public_url: str) -> Json:
    """`{}` where the channel needs none, else `{"object": "credential", <channel>: ...}`."""
    shape = charge.rules.credential
    if shape == "none":
        return {}
    return {"object": "credential", charge.channel: _SHAPES[shape](charge, public_url)}


def _fake(charge: Charge, what: str, length: int = 32) -> str:
    return hashlib.sha256(f"{charge.id}/{what}".encode()).hexdigest()[:length]


def _page(charge: Charge, public_url: str) -> str:
    return f"{public_url}/pay/{charge.id}"


def _stamp(charge: Charge) -> int | str:
    # An integer in test mode and a string in live mode (section 10).
    return str(charge.created) if charge.livemode else charge.created


def _local_time(charge: Charge, layout: str) -> str:
    return datetime.fromtimestamp(charge.created, BEIJING).strftime(layout)


def _wx_app(charge: Charge, _: str) -> Json:
    return {
        "appId": TEST_WX_APP_ID,
        "partnerId": "1238560201",
        "prepayId": f"1101000000{_local_time(charge, '%y%m%d')}{_fake(charge, 'prepay', 16)}",
        "nonceStr": _fake(charge, "nonce"),
        "timeStamp": _stamp(charge),
        "packageValue": "Sign=WXPay",
        "sign": _fake(charge, "sign", 40),
    }


def _wx_jsapi(charge: Charge, _: str) -> Json:
    prepay = f"1101000000{_local_time(charge, '%y%m%d')}{_fake(charge, 'prepay', 16)}"
    return {
        "appId": TEST_WX_APP_ID,
        "timeStamp": _stamp(charge),
        "nonceStr": _fake(charge, "nonce"),
        "package": f"prepay_id={prepay}",
        "signType": "MD5",
        "paySign": _fake(charge, "sign").upper(),
    }


def _link(charge: Charge, public_url: str) -> str:
    return f"{_page(charge, public_url)}?channel={charge.channel}"


def _alipay_app(charge: Charge, public_url: str) -> Json:
    fields = _alipay_form(charge, public_url)
    return {"orderInfo": urlencode(fields)}


def _alipay_form(charge: Charge, public_url: str) -> Json:
    wap = charge.channel.endswith("wap")
    content = {
        "body": charge.body,
        "subject": charge.subject,
        "out_trade_no": charge.order_no,
        "total_amount": f"{charge.amount / 100:.2f}",
        "product_code": "QUICK_WAP_PAY" if wap else "FAST_INSTANT_TRADE_PAY",
        "timeout_express": f"{(charge.time_expire - charge.created) // 60}m",
    }
    return {
        "app_id": "2016110302520983",
        "method": "alipay.trade.wap.pay" if wap else "alipay.trade.page.pay",
        "format": "JSON",
        "charset": "utf-8",
        "sign_type": "RSA2",
        "timestamp": _local_time(charge, "%Y-%m-%d %H:%M:%S"),
        "version": "1.0",
        "biz_content": json.dumps(content, ensure_ascii=False, separators=(",", ":")),
        "notify_url": f"{public_url}/notify/charges/{charge.id}",
        "return_url": charge.extra.get("success_url", ""),
        "sign": _fake(charge, "sign", 64),
        "channel_url": _page(charge, public_url),
    }


def _upacp_app(charge: Charge, _: str) -> Json:
    digits = str(int(_fake(charge, "tn", 12), 16))[:7].zfill(7)
    return {"tn": _local_time(charge, "%Y%m%d%H%M%S") + digits, "mode": "00"}


def _upacp_form(charge: Charge, public_url: str) -> Json:
    return {
        "version": "5.0.0",
        "encoding": "UTF-8",
        "orderId": charge.order_no,
        "txnAmt": charge.amount,
        "txnTime": _local_time(charge, "%Y%m%d%H%M%S"),
        "currencyCode": "156",
        "frontUrl": charge.extra.get("result_url", ""),
        "signature": _fake(charge, "sign", 64),
        "channel_url": _page(charge, public_url),
    }


def _form(charge: Charge, public_url: str) -> Json:
    return {
        "out_trade_no": charge.order_no,
        "amount": charge.amount,
        "sign": _fake(charge, "sign"),
        "channel_url": _page(charge, public_url),
    }


def _object(charge: Charge, _: str) -> Json:
    return {"tokenId": _fake(charge, "token"), "sign": _fake(charge, "sign")}


_SHAPES = {
    "wx_app": _wx_app,
    "wx_jsapi": _wx_jsapi,
    "link": _link,
    "alipay_app": _alipay_app,
    "alipay_form": _alipay_form,
    "upacp_app": _upacp_app,
    "upacp_form": _upacp_form,
    "form": _form,
    "object": _object,
}
