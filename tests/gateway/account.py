"""A Ping++ account for the receiver of webhooks: keys, signatures, and bodies to sign."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from webhook_gateway.signature import Key, load_keys

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
ABSENT = "the genuine webhooks are not beside the repository"


class Account:
    """Signs as Ping++ does, with a key made for this run."""

    def __init__(self, name: str = "pingpp", bits: int = 2048) -> None:
        self.name = name
        self.private = rsa.generate_private_key(65537, bits)
        self.pem = self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def key(self) -> Key:
        """What the gateway knows of it."""
        return Key(self.name, self.private.public_key())

    def sign(self, body: bytes) -> str:
        """The value of the signature header."""
        signature = self.private.sign(body, padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(signature).decode()

    def key_file(self, folder: Path) -> Path:
        """A file with its public key."""
        path = folder / f"{self.name}.pem"
        path.write_bytes(self.pem)
        return path


@dataclass(frozen=True)
class Genuine:
    """A webhook that Ping++ itself signed."""

    name: str
    body: bytes
    signature: str
    key: Key


def genuine_webhooks() -> list[Genuine]:
    """All recorded webhooks, each with the key of its account; none where they are absent."""
    made = []
    for path in sorted(FIXTURES.glob("webhooks/*.body.json")):
        stem = path.name.removesuffix(".body.json")
        key_name = path.with_name(f"{stem}.key.txt").read_text().strip()
        signature = path.with_name(f"{stem}.signature.txt").read_text().strip()
        (key,) = load_keys([FIXTURES / "keys" / key_name])
        made.append(Genuine(stem, path.read_bytes(), signature, key))
    return made


def event_body(event_id: str = "evt_1", kind: str = "charge.succeeded", **more: Any) -> bytes:
    """A body in Ping++'s layout: compact, raw UTF-8."""
    charge = {"id": "ch_1", "object": "charge", "paid": True, "amount": 1, "subject": "云"}
    event = {"id": event_id, "object": "event", "type": kind, "data": {"object": charge}} | more
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
