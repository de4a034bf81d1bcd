"""Ping++'s signature of a webhook: RSA PKCS#1 v1.5 with SHA-256 over the raw body (pingpp.md 5).

It covers neither the URL nor a time, so the same bytes verify for ever: whoever acts on an event
recognises it by its id.
"""

import binascii
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from midas.errors import SettingsError
from midas.runtime.public_key import SETTING, WANTED, read_public_key
from midas.runtime.setting_rules import read

HEADER = "X-Pingplusplus-Signature"


class Key(NamedTuple):
    """One public key of Ping++, and what it is called in the log."""

    name: str
    public: rsa.RSAPublicKey

    @property
    def signature_bytes(self) -> int:
        """How long its signatures are."""
        return (self.public.key_size + 7) // 8


def load_keys(paths: Sequence[Path]) -> list[Key]:
    """The keys in these files, at least one.

    Raises SettingsError, with a sentence that says what to set, for anything that is not the public
    half of an RSA key.
    """
    keys = [Key(path.stem, _key_in(path)) for path in paths]
    if not keys:
        raise SettingsError(f"{SETTING} is not set. {WANTED}")
    if len({key.name for key in keys}) != len(keys):
        raise SettingsError(f"{SETTING}: two files have the same name; the log could not say which")
    return keys


def _key_in(path: Path) -> rsa.RSAPublicKey:
    return read_public_key(read(path, SETTING), f"{SETTING}: the file")


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
