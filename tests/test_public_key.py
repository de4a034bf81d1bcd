"""Ping++'s public key is read in one way, whoever reads it: one setting, one strictness."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from midas.config import checks
from midas.config.settings import Settings
from midas.errors import SettingsError
from midas.psp.signing import Verifier
from midas.runtime.public_key import read_public_key
from webhook_gateway.signature import load_keys

_PUBLIC = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
_PRIVATE = (
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)


def pem_of(kind: str) -> bytes:
    """The content of a file that is named as Ping++'s public key."""
    if kind == "curve":
        return ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*_PUBLIC)
    if kind == "only the words":
        return b"-----BEGIN PUBLIC KEY-----\nbm90aGluZw==\n-----END PUBLIC KEY-----\n"
    if kind == "empty":
        return b" \n"
    key = rsa.generate_private_key(65537, 1024 if kind == "short" else 2048)
    return (
        key.private_bytes(*_PRIVATE)
        if kind == "private"
        else key.public_key().public_bytes(*_PUBLIC)
    )


def refuse(mistakes: Iterable[str]) -> None:
    """Raise the first of them."""
    for each in mistakes:
        raise SettingsError(each)


@pytest.mark.parametrize("kind", ["curve", "only the words", "empty", "short", "private", "good"])
def test_every_reader_is_as_strict(kind: str, tmp_path: Path) -> None:
    """The gateway, what checks Ping++'s answers, and the settings of Midas at its start."""
    pem = pem_of(kind)
    path = tmp_path / "pingpp.pem"
    path.write_bytes(pem)
    settings = Settings.model_construct(pingpp_public_key_paths=(path,))
    readers: dict[str, Callable[[], object]] = {
        "gateway": lambda: load_keys([path]),
        "answers": lambda: Verifier([pem.decode()]),
        "itself": lambda: read_public_key(pem, "PINGPP_PUBLIC_KEY_PATHS"),
        "settings": lambda: refuse(checks._public_keys(settings)),
    }
    for name, read in readers.items():
        try:
            read()
        except (SettingsError, ValueError) as error:
            refused = "PINGPP_PUBLIC_KEY_PATHS" in str(error)
        else:
            refused = False
        assert refused is (kind != "good"), name
