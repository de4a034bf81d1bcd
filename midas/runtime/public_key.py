"""Ping++'s public key, as every process reads it that checks Ping++'s signatures."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from midas.errors import SettingsError

SETTING = "PINGPP_PUBLIC_KEY_PATHS"
KEY_BITS = 2048
"""How long a key is at least. Every recorded key of Ping++ is as long. Signatures of shorter keys
can be forged."""
WANTED = "Give the Ping++ public key of the account, from its dashboard, as PEM."


def read_public_key(pem: bytes, where: str) -> RSAPublicKey:
    """The key in this text. Raises SettingsError, which begins with `where` the text was found."""
    if not pem.strip():
        raise SettingsError(f"{where} is empty. {WANTED}")
    try:
        key = load_pem_public_key(pem.strip())
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"{where} is not a public key in PEM. {WANTED}") from None
    if not isinstance(key, RSAPublicKey):
        raise SettingsError(f"{where} is a public key, but not of RSA. {WANTED}")
    if key.key_size < KEY_BITS:
        raise SettingsError(f"{where} has fewer than {KEY_BITS} bits. {WANTED}")
    return key
