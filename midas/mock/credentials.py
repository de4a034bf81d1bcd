"""What a client SDK gets to open the payment: one canned credential per channel.

The shapes are those of test mode, as far as they are known (pingpp.md sections 2, 7, 10 and 12).
Every value in them is made up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from midas.psp import channels

Json = dict[str, Any]
UNDOCUMENTED = "what this channel's credential looks like is not documented"


@dataclass(frozen=True, slots=True)
class Terms:
    """The parts of a charge that its credential shows."""

    charge_id: str
    out_trade_no: str
    channel: str
    amount: int
    subject: str
    created: int


def credential(terms: Terms) -> Json:
    """`{}` where the payer has nothing to open, else the object with the channel's own part."""
    known = channels.find(terms.channel)
    if known is not None and known.pays_at_create:
        return {}
    shape = _SHAPES.get(terms.channel, {"mock": UNDOCUMENTED})
    return {"object": "credential", terms.channel: _filled(shape, terms)}


def _filled(shape: Any, terms: Terms) -> Any:
    """The shape with the charge's own values instead of `<names>`."""
    if isinstance(shape, dict):
        return {name: _filled(each, terms) for name, each in shape.items()}
    if shape == "<created>":
        return terms.created  # a number in test mode, a string in live mode
    if not isinstance(shape, str):
        return shape
    for name in ("charge_id", "out_trade_no", "channel", "amount", "subject"):
        shape = shape.replace(f"<{name}>", str(getattr(terms, name)))
    return shape


_PAGE = "https://sissi.pingxx.com/mock.php?ch_id=<charge_id>&channel=<channel>"
_SIGN = "bW9jay1zaWduYXR1cmUtb2YtdGhlLWNoYW5uZWw="
_NONCE = "0123456789abcdef0123456789abcdef"
_PREPAY = "1101000000260101mock0123456789ab"

_WX_APP = {
    "appId": "wxp4ihq5y1sytowvjl",
    "partnerId": "1238560201",
    "prepayId": _PREPAY,
    "nonceStr": _NONCE,
    "timeStamp": "<created>",
    "packageValue": "Sign=WXPay",
    "sign": "0123456789abcdef0123456789abcdef01234567",
}
_WX_PUB = {
    "appId": "wxp4ihq5y1sytowvjl",
    "timeStamp": "<created>",
    "nonceStr": _NONCE,
    "package": f"prepay_id={_PREPAY}",
    "signType": "MD5",
    "paySign": "0123456789ABCDEF0123456789ABCDEF",
}
_ALIPAY_FORM = {
    "app_id": "2016110302520983",
    "format": "JSON",
    "charset": "utf-8",
    "sign_type": "RSA2",
    "version": "1.0",
    "biz_content": '{"out_trade_no":"<out_trade_no>"}',
    "notify_url": "https://notify.pingxx.com/notify/charges/<charge_id>",
    "sign": _SIGN,
    "channel_url": "https://openapi.alipay.com/gateway.do",
}
_ALIPAY_WAP = {"method": "alipay.trade.wap.pay", **_ALIPAY_FORM}
_ALIPAY_PC = {"method": "alipay.trade.page.pay", **_ALIPAY_FORM}
_ALIPAY_APP = {
    "orderInfo": "method=alipay.trade.app.pay&biz_content=%7B%22out_trade_no%22%3A%22"
    f"<out_trade_no>%22%2C%22product_code%22%3A%22QUICK_MSECURITY_PAY%22%7D&sign={_NONCE}"
}
_UPACP = {"tn": "202601010000000000000", "mode": "00"}
_UPACP_FORM = {
    "version": "5.1.0",
    "encoding": "UTF-8",
    "orderId": "<out_trade_no>",
    "txnAmt": "<amount>",
    "currencyCode": "156",
    "signature": _SIGN,
}

_SHAPES: Mapping[str, Any] = {
    "alipay": _ALIPAY_APP,
    "alipay_wap": _ALIPAY_WAP,
    "alipay_pc_direct": _ALIPAY_PC,
    "alipay_qr": _PAGE,
    "alipay_lite": "2026010122001400000000000001",
    "cb_alipay": _ALIPAY_APP,
    "cb_alipay_wap": _ALIPAY_WAP,
    "cb_alipay_pc_direct": _ALIPAY_PC,
    "wx": _WX_APP,
    "wx_pub": _WX_PUB,
    "wx_lite": _WX_PUB,
    "wx_pub_qr": _PAGE,
    "wx_wap": _PAGE,
    "cb_wx": _WX_APP,
    "cb_wx_pub": _WX_PUB,
    "cb_wx_pub_qr": _PAGE,
    "upacp": _UPACP,
    "applepay_upacp": {**_UPACP, "merchant_id": "merchant.com.pingxx.mock"},
    "upacp_wap": _UPACP_FORM,
    "upacp_pc": _UPACP_FORM,
    "cp_b2b": _UPACP_FORM,
    "upacp_b2b": {**_UPACP_FORM, "channel_url": _PAGE},
    "upacp_qr": _PAGE,
    "isv_qr": _PAGE,
    "isv_wap": _PAGE,
    "isv_lite": "mock-isv-lite",
    "bfb_wap": {"url": _PAGE, "order_no": "<out_trade_no>"},
    "jdpay_wap": {"channelUrl": _PAGE, "tradeNum": "<out_trade_no>", "sign": _SIGN},
    "yeepay_wap": {
        "merchantaccount": "10000000000",
        "encryptkey": _SIGN,
        "data": _SIGN,
        "mode": "test",
    },
    "qpay": {
        "app_id": "1234567890",
        "bargainor_id": "1900000000",
        "nonce": _NONCE,
        "sign": _SIGN,
        "token_id": _NONCE,
    },
    "qpay_pub": {"token_id": _NONCE},
    "cmb_wallet": {"ChannelUrl": _PAGE, "BillNo": "<out_trade_no>"},
    "paypal": _PAGE,
    "ccb_qr": _PAGE,
    "ccb_wap": {"orderinfo": _SIGN},
}
"""The shape of each channel's credential. It is not documented for channels that are missing."""
