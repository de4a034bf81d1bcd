"""Webhooks as Ping++ sends them (pingpp.md sections 4 and 5), made and signed beforehand."""

import base64
import itertools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

PATH = "/pingpp/webhooks"
SIGNATURE = "X-Pingplusplus-Signature"


class Webhook(NamedTuple):
    """One POST, ready to be written to a connection."""

    order_no: str
    request: bytes


class Psp:
    """Makes the webhooks of payments, with the private key in this file."""

    def __init__(self, private_key: Path) -> None:
        key = load_pem_private_key(private_key.read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self._key = key
        self._numbers = itertools.count(1)

    def paid(self, order_no: str, charge_json: str) -> Webhook:
        """The charge.succeeded of this charge of the order."""
        event = _event(next(self._numbers), _paid(json.loads(charge_json)))
        body = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        return Webhook(order_no, self._request(body))

    def _request(self, body: bytes) -> bytes:
        signature = base64.b64encode(self._key.sign(body, padding.PKCS1v15(), SHA256()))
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: benchmark\r\n"
            f"Accept: */*\r\nContent-Type: application/json;charset=utf-8\r\n"
            f"{SIGNATURE}: {signature.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def _paid(charge: dict[str, Any]) -> dict[str, Any]:
    """The charge of the create answer, as it is once it has been paid."""
    charge.pop("held_us", None)
    return {
        **charge,
        "paid": True,
        "time_paid": int(time.time()),
        "transaction_no": f"40{charge['id'][-24:]}",
        "extra": {**charge["extra"], "open_id": "o" * 28, "bank_type": "your bank type"},
        "credential": {},
    }


def _event(number: int, charge: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"evt_400{time.strftime('%y%m%d%H%M%S')}{number:09}",
        "created": int(time.time()),
        "livemode": charge["livemode"],
        "type": "charge.succeeded",
        "data": {"object": charge},
        "object": "event",
        "request": None,
        "pending_webhooks": 0,
    }
