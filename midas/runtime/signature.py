"""Ping++'s signature: RSA PKCS#1 v1.5 with SHA-256 over the raw body.

The source is pingpp.md sections 1.2 and 5. A signature covers neither the URL nor a time, so the
same bytes verify for ever: a receiver that acts on an event recognises it by its id.
"""

import binascii
from collections.abc import Iterable
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256


class Key(NamedTuple):
    """One public key of Ping++, and what it is called in the log."""

    name: str
    public: rsa.RSAPublicKey

    @property
    def signature_bytes(self) -> int:
        """How many bytes its signatures have."""
        return (self.public.key_size + 7) // 8


class Verifier:
    """Checks signatures with any of several keys, so that they can be rotated."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = list(keys)
        if not self._keys:
            raise ValueError("without a key nothing could be verified")
        self._characters = {(each.signature_bytes + 2) // 3 * 4 for each in self._keys}
        self._padding = padding.PKCS1v15()
        self._hash = SHA256()

    def signer_of(self, signature: str, body: bytes) -> str | None:
        """The name of the key that signed exactly these bytes, or None."""
        if len(signature) not in self._characters:
            return None  # nothing is decoded that cannot be a signature
        raw = _decoded(signature)
        if raw is None:
            return None
        for key in self._keys:
            if len(raw) == key.signature_bytes and self._signed_by(key.public, raw, body):
                return key.name
        return None

    def _signed_by(self, key: rsa.RSAPublicKey, raw: bytes, body: bytes) -> bool:
        try:
            key.verify(raw, body, self._padding, self._hash)
        except InvalidSignature:
            return False
        return True


def _decoded(text: str) -> bytes | None:
    """The bytes of the one spelling that Ping++ itself would write, or None."""
    try:
        encoded = text.encode("ascii")
        raw = binascii.a2b_base64(encoded, strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    # strict decoding still ignores the unused bits of the last character
    return raw if binascii.b2a_base64(raw, newline=False) == encoded else None
