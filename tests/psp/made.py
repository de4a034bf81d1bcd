"""Keys, charges and answers for these tests, made at run time."""

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from midas.charge import Charge, ChargeTerms
from midas.psp.options import PspOptions
from midas.refund import Refund

API_KEY = "sk_test_MadeForTests000000000000"
APP_ID = "app_MadeForTests0"
CHARGE_ID = "ch_101200415434992752640001"
REFUND_ID = "re_101200415434992752640002"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@cache
def key(name: str) -> rsa.RSAPrivateKey:
    """One RSA key for each name."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(name: str = "merchant", form: PrivateFormat | None = None) -> str:
    """Its private half, PKCS#1 unless another form is wanted."""
    form = form or PrivateFormat.TraditionalOpenSSL
    return key(name).private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def public_pem(name: str = "merchant") -> str:
    """Its public half."""
    public = key(name).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signature(body: bytes, name: str = "pingpp") -> str:
    """What Ping++ would put into X-Pingplusplus-Signature."""
    return base64.b64encode(key(name).sign(body, padding.PKCS1v15(), SHA256())).decode()


def options(base: str = "http://127.0.0.1:9", **changed: Any) -> PspOptions:
    """Options of a test account whose calls do not take long to fail."""
    short: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=2),
        "total_timeout": timedelta(seconds=5),
    }
    return PspOptions(api_key=API_KEY, app_id=APP_ID, api_base=base, **(short | changed))


def charge(**changed: Any) -> Charge:
    """A charge that is about to be asked for."""
    fields: dict[str, Any] = {
        "out_trade_no": "A1B2C3D4E5F6G7H8J9K0",
        "order_no": "order-1",
        "app_id": APP_ID,
        "livemode": False,
        "channel": "wx",
        "amount": 100,
        "currency": "cny",
        "subject": "订单",
        "body": "订单详情",
        "client_ip": "203.0.113.7",
        "extra": {},
        "metadata": {},
        "terms_digest": "",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Charge(**(fields | changed))


def terms(**changed: Any) -> ChargeTerms:
    """Terms that every channel without required extras accepts."""
    fields: dict[str, Any] = {
        "order_no": "order-1",
        "channel": "wx",
        "amount": 100,
        "currency": "cny",
        "subject": "订单",
        "body": "订单详情",
        "client_ip": "203.0.113.7",
    }
    return ChargeTerms(**(fields | changed))


def refund(**changed: Any) -> Refund:
    """A refund that is about to be asked for."""
    fields: dict[str, Any] = {
        "refund_no": "refund-1",
        "order_no": "order-1",
        "out_trade_no": "A1B2C3D4E5F6G7H8J9K0",
        "charge_id": CHARGE_ID,
        "amount": 40,
        "currency": "cny",
        "app_id": APP_ID,
        "description": "不想要了",
        "metadata": {},
        "content_digest": "",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Refund(**(fields | changed))


def charge_data(**changed: Any) -> dict[str, Any]:
    """A charge object in the shape of pingpp.md section 2."""
    data: dict[str, Any] = {
        "id": CHARGE_ID,
        "object": "charge",
        "created": 1_700_000_000,
        "livemode": False,
        "paid": False,
        "refunded": False,
        "reversed": False,
        "app": APP_ID,
        "channel": "wx",
        "order_no": "A1B2C3D4E5F6G7H8J9K0",
        "client_ip": "203.0.113.7",
        "amount": 100,
        "amount_settle": 100,
        "currency": "cny",
        "subject": "订单",
        "body": "订单详情",
        "extra": {},
        "time_paid": None,
        "time_expire": 1_700_007_200,
        "transaction_no": None,
        "refunds": {"object": "list", "url": "/", "has_more": False, "data": []},
        "amount_refunded": 0,
        "failure_code": None,
        "failure_msg": None,
        "metadata": {},
        "credential": {"object": "credential", "wx": {"appId": "wx1"}},
        "description": None,
    }
    return data | changed


def refund_data(**changed: Any) -> dict[str, Any]:
    """A refund object in the shape of pingpp.md section 3."""
    data: dict[str, Any] = {
        "id": REFUND_ID,
        "object": "refund",
        "order_no": REFUND_ID[3:],
        "amount": 40,
        "created": 1_700_000_100,
        "succeed": False,
        "status": "pending",
        "time_succeed": None,
        "description": "不想要了",
        "failure_code": None,
        "failure_msg": None,
        "metadata": {"refund_no": "refund-1"},
        "charge": CHARGE_ID,
        "charge_order_no": "A1B2C3D4E5F6G7H8J9K0",
        "transaction_no": None,
    }
    return data | changed


def text(data: Any) -> str:
    """JSON the way Ping++ lays it out."""
    return json.dumps(data, ensure_ascii=False, indent=4)


def error_body(code: str | None = None, param: str | None = None, kind: str = "api_error") -> bytes:
    """The error envelope of pingpp.md section 6."""
    details = {"type": kind, "message": "不行", "code": code, "param": param}
    return json.dumps({"error": {k: v for k, v in details.items() if v is not None}}).encode()
