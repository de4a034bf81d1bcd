"""Webhooks that must be refused: wrong signatures, and bodies changed after signing.

Every entry of `FORGERIES` turns the right body into what is sent instead of it. Only `previous_key`
is right for a merchant who still accepts the key before the last rotation.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import padding

from midas.sandbox.errors import Json
from midas.sandbox.signing import Keyring

SIGNATURE_HEADER = "X-Pingplusplus-Signature"
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Post:
    """The body of a webhook and the headers that depend on it."""

    body: bytes
    headers: Headers


def signed(body: bytes, signature: str) -> Post:
    """The body with this signature."""
    return Post(body, ((SIGNATURE_HEADER, signature),))


def forged(how: str, body: bytes, keys: Keyring) -> Post:
    """The post that is sent instead of the right one; `how` is a name in `FORGERIES`."""
    return FORGERIES[how](body, keys)


def compact(content: Json) -> bytes:
    """JSON as Ping++ sends it: compact, raw UTF-8, no newline at the end."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _changed_after_signing(change: Callable[[bytes], bytes]) -> Forgery:
    return lambda body, keys: signed(change(body), keys.current.sign(body))


def _signature(make: Callable[[bytes, Keyring], str]) -> Forgery:
    return lambda body, keys: signed(body, make(body, keys))


def _two_signatures(body: bytes, keys: Keyring) -> Post:
    right, wrong = keys.current.sign(body), keys.foreign.sign(body)
    return Post(body, ((SIGNATURE_HEADER, right), (SIGNATURE_HEADER, wrong)))


def _gzipped(body: bytes, keys: Keyring) -> Post:
    right = signed(body, keys.current.sign(body))
    return Post(gzip.compress(body, mtime=0), (*right.headers, ("Content-Encoding", "gzip")))


def _pss(body: bytes, keys: Keyring) -> str:
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    return _text(keys.current.private.sign(body, scheme, hashes.SHA256()))


def _sha1(body: bytes, keys: Keyring) -> str:
    weak = hashes.SHA1()  # noqa: S303 -- a forgery on purpose
    return _text(keys.current.private.sign(body, padding.PKCS1v15(), weak))


def _hmac(body: bytes, keys: Keyring) -> str:
    code = hmac.HMAC(keys.current.public_pem.encode(), hashes.SHA256())
    code.update(body)
    return _text(code.finalize())


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _other_amount(body: bytes) -> bytes:
    event = json.loads(body)
    amount = event["data"]["object"].get("amount")
    event["data"]["object"]["amount"] = amount + 1 if isinstance(amount, int) else 1
    return compact(event)


def _other_key_order(body: bytes) -> bytes:
    return compact(dict(reversed(json.loads(body).items())))


def _escaped(body: bytes) -> bytes:
    # An event may be plain ASCII. One escape more changes its body, too.
    text = json.dumps(json.loads(body), separators=(",", ":"))
    return text.replace('"id"', '"\\u0069d"', 1).encode()


Forgery = Callable[[bytes, Keyring], Post]
FORGERIES: dict[str, Forgery] = {
    "foreign_key": _signature(lambda body, keys: keys.foreign.sign(body)),
    "previous_key": _signature(lambda body, keys: keys.previous.sign(body)),
    "unsigned": lambda body, _: Post(body, ()),
    "empty_signature": _signature(lambda *_: ""),
    "two_signatures": _two_signatures,
    "not_base64": _signature(lambda body, keys: "%" + keys.current.sign(body)[1:]),
    "short_signature": _signature(lambda body, keys: keys.current.sign(body)[:-8]),
    "signature_of_other_body": _signature(lambda body, keys: keys.current.sign(body + b" ")),
    "sha1": _signature(_sha1),
    "pss": _signature(_pss),
    "hmac_with_public_key": _signature(_hmac),
    "altered_amount": _changed_after_signing(_other_amount),
    "altered_space": _changed_after_signing(lambda body: body.replace(b":", b": ", 1)),
    "altered_key_order": _changed_after_signing(_other_key_order),
    "altered_escapes": _changed_after_signing(_escaped),
    "altered_bom": _changed_after_signing(lambda body: b"\xef\xbb\xbf" + body),
    "altered_newline": _changed_after_signing(lambda body: body + b"\n"),
    "gzipped": _gzipped,
}
"""The name of each way to forge a webhook."""
