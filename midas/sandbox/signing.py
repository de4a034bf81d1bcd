"""Signatures in both directions: RSA PKCS#1 v1.5 with SHA-256, base64 (pingpp.md 1 and 1.2)."""

from __future__ import annotations

import base64
import binascii

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


class AnswerSigner:
    """Signs what the sandbox sends; with a key made on the spot when none is given."""

    def __init__(self, private_pem: str | None) -> None:
        self._key = _private_key(private_pem)
        self.public_pem = (
            self._key.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def sign(self, body: bytes) -> str:
        """The signature over exactly these bytes, as one line of base64."""
        return base64.b64encode(self._key.sign(body, padding.PKCS1v15(), hashes.SHA256())).decode()


class RequestVerifier:
    """Checks what the merchant signed: raw body, then the URI as sent, then the timestamp."""

    def __init__(self, public_pem: str) -> None:
        try:
            key = load_pem_public_key(public_pem.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SandboxError("merchant_public_key is not a public key in PEM") from error
        if not isinstance(key, rsa.RSAPublicKey):
            raise SandboxError("merchant_public_key is not an RSA key")
        self._key = key

    def accepts(self, body: bytes, request_uri: str, timestamp: str, signature: str) -> bool:
        """Whether the signature is the merchant's over this request. Any clock skew is accepted."""
        if not (timestamp.isascii() and timestamp.isdigit()):
            return False
        signed = body + request_uri.encode() + timestamp.encode()
        try:
            raw = base64.b64decode(signature, validate=True)
            self._key.verify(raw, signed, padding.PKCS1v15(), hashes.SHA256())
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
