"""Signatures in both directions: RSA PKCS#1 v1.5 with SHA-256, base64 (pingpp.md 1 and 1.2)."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from midas.sandbox.errors import SandboxError

KEY_BITS = 2048


class SigningKey:
    """One RSA key, parsed once; made on the spot when no PEM is given."""

    def __init__(self, private_pem: str | None = None) -> None:
        self.private = _private_key(private_pem)
        self.public_pem = (
            self.private.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def sign(self, body: bytes) -> str:
        """The signature over exactly these bytes, as one line of base64."""
        raw = self.private.sign(body, padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(raw).decode()


class Keyring:
    """The key that answers and events are signed with, those before it, and the one to come.

    With a path every public half gets a file of its own: `key.pem`, then `key_2.pem`, ...
    """

    def __init__(self, private_pem: str | None, public_key_path: Path | None) -> None:
        self._path = public_key_path
        self._used = [SigningKey(private_pem)]
        self._next: SigningKey | None = None
        self._foreign: SigningKey | None = None

    @property
    def current(self) -> SigningKey:
        """The key that signs now."""
        return self._used[-1]

    @property
    def previous(self) -> SigningKey:
        """The key before the last rotation; a foreign one when there was none."""
        return self._used[-2] if len(self._used) > 1 else self.foreign

    @property
    def foreign(self) -> SigningKey:
        """A key whose public half is given to nobody."""
        if self._foreign is None:
            self._foreign = SigningKey()
        return self._foreign

    def prepare(self) -> tuple[str, Path | None]:
        """The public half of the key to come, and its file; it signs nothing before `rotate`."""
        if self._next is None:
            self._next = SigningKey()
        return self._next.public_pem, self._write(self._next, len(self._used) + 1)

    def rotate(self) -> tuple[str, Path | None]:
        """Sign with the key to come from now on. Returns its public half and its file."""
        prepared = self.prepare()
        if self._next is not None:
            self._used.append(self._next)
            self._next = None
        return prepared

    def write_current(self) -> Path | None:
        """Write the public half of the key in use to its file, if files are wanted."""
        return self._write(self.current, len(self._used))

    def _write(self, key: SigningKey, number: int) -> Path | None:
        if self._path is None:
            return None
        named = self._path.stem + (f"_{number}" if number > 1 else "") + self._path.suffix
        path = self._path.with_name(named)
        path.write_text(key.public_pem)
        return path


class RequestVerifier:
    """Checks what the merchant signed: raw body, then the URI as sent, then the timestamp.

    Unless `strict`, a body is accepted that was signed alone, as older SDKs do.
    """

    def __init__(self, public_pem: str, *, strict: bool = False) -> None:
        self._strict = strict
        try:
            key = load_pem_public_key(public_pem.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SandboxError("merchant_public_key is not a public key in PEM") from error
        if not isinstance(key, rsa.RSAPublicKey):
            raise SandboxError("merchant_public_key is not an RSA key")
        self._key = key

    def accepts(self, body: bytes, request_uri: str, timestamp: str, signature: str) -> bool:
        """Whether the signature is the merchant's over this request. Any clock skew is accepted."""
        whole = body + request_uri.encode() + timestamp.encode()
        if timestamp.isascii() and timestamp.isdigit() and self._signed(whole, signature):
            return True
        return bool(body) and not self._strict and self._signed(body, signature)

    def _signed(self, content: bytes, signature: str) -> bool:
        try:
            raw = base64.b64decode(signature, validate=True)
            self._key.verify(raw, content, padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


def _private_key(private_pem: str | None) -> rsa.RSAPrivateKey:
    if private_pem is None:
        return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    try:
        key = load_pem_private_key(private_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SandboxError(
            "signing_private_key is not an unencrypted private key in PEM"
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SandboxError("signing_private_key is not an RSA key")
    return key
