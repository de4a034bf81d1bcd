"""RSA signatures: of our requests, and of Ping++'s answers (pingpp.md sections 1 and 1.2).

PKCS#1 v1.5 with SHA-256, standard base64. Keys are parsed once.
"""

import base64
from collections.abc import Iterable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from midas.errors import SettingsError
from midas.runtime import signature
from midas.runtime.public_key import SETTING, read_public_key
from midas.runtime.signature import Key


class Signer:
    """Signs with the merchant's private key, PEM in PKCS#1 or PKCS#8.

    Raises SettingsError if the text is no such key. The error never repeats anything of the key.
    """

    def __init__(self, pem: str, setting: str = "PINGPP_PRIVATE_KEY") -> None:
        self._key = _private_key(pem, setting)
        self._padding = padding.PKCS1v15()
        self._hash = SHA256()

    def sign(self, data: bytes) -> bytes:
        """The base64 signature, on one line."""
        return base64.b64encode(self._key.sign(data, self._padding, self._hash))

    def __repr__(self) -> str:
        return "Signer(…)"


class Verifier:
    """Checks Ping++'s signatures with any of several public keys, so that keys can be rotated.

    Raises SettingsError if a text is no RSA public key (`midas/runtime/public_key.py`).
    """

    def __init__(self, pems: Iterable[str], setting: str = SETTING) -> None:
        keys = [Key("", read_public_key(pem.encode(), f"{setting}: a key")) for pem in pems]
        self._verifier = signature.Verifier(keys) if keys else None

    def __bool__(self) -> bool:
        """Whether there is a key to check with."""
        return self._verifier is not None

    def accepts(self, signed: str, body: bytes) -> bool:
        """Whether one of the keys signed exactly these bytes."""
        return self._verifier is not None and self._verifier.signer_of(signed, body) is not None


def _private_key(pem: str, setting: str) -> rsa.RSAPrivateKey:
    if not pem.strip():
        raise SettingsError(f"{setting} is empty. {_WANTED}")
    try:
        key = load_pem_private_key(pem.strip().encode(), password=None)
    except TypeError:
        raise SettingsError(
            f"{setting} is encrypted with a passphrase. Give the key without one: "
            "`openssl pkey -in key.pem -out plain.pem`."
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"{setting} is not a private key in PEM. {_WANTED}") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SettingsError(f"{setting} is a private key, but not of RSA. {_WANTED}")
    return key


_WANTED = (
    "Give the RSA private key whose public half is uploaded in the Ping++ dashboard, "
    "as PEM (PKCS#1 or PKCS#8)."
)
