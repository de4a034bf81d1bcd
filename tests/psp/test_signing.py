"""Keys are read once and with clear words; signatures of answers cover every byte."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from midas.errors import SettingsError
from midas.psp.signing import Signer, Verifier
from tests.psp import made


def _encrypted() -> str:
    lock = BestAvailableEncryption(b"passphrase")
    return made.key("merchant").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock).decode()


def _encrypted_pkcs1() -> str:
    lock = BestAvailableEncryption(b"passphrase")
    form = PrivateFormat.TraditionalOpenSSL
    return made.key("merchant").private_bytes(Encoding.PEM, form, lock).decode()


def _elliptic() -> str:
    curve = ec.generate_private_key(ec.SECP256R1())
    return curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _elliptic_public() -> str:
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    return curve.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    ("pem", "word"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("not a key", "not a private key"),
        (made.private_pem()[:200], "not a private key"),
        (made.public_pem(), "not a private key"),
        (_elliptic(), "not of RSA"),
        (_encrypted(), "passphrase"),
        (_encrypted_pkcs1(), "passphrase"),
    ],
)
def test_a_useless_private_key_is_refused_in_words(pem: str, word: str) -> None:
    """The sentence names the setting and the problem, and repeats nothing of the key."""
    with pytest.raises(SettingsError) as caught:
        Signer(pem, "PINGPP_PRIVATE_KEY")
    sentence = str(caught.value)
    assert "PINGPP_PRIVATE_KEY" in sentence
    assert word in sentence
    assert not any(line in sentence for line in pem.splitlines() if len(line.strip()) > 10)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("pem", ["", "not a key", made.private_pem(), _elliptic_public()])
def test_a_useless_public_key_is_refused(pem: str) -> None:
    """A verifier never starts with a key that could not verify anything."""
    with pytest.raises(SettingsError, match="PINGPP_PUBLIC_KEY_PATHS"):
        Verifier([pem])


def test_any_of_several_keys_will_do() -> None:
    """During a rotation both the old and the new key are believed, and no third one."""
    body = b'{"a": 1}'
    verifier = Verifier([made.public_pem("old"), made.public_pem("pingpp")])
    assert verifier.accepts(made.signature(body, "old"), body)
    assert verifier.accepts(made.signature(body, "pingpp"), body)
    assert not verifier.accepts(made.signature(body, "merchant"), body)
    assert not Verifier([])


@pytest.mark.parametrize("signature", ["", "AAAA", "nicht base64!", "ü", "A" * 10_000])
def test_what_is_no_signature_is_not_accepted(signature: str) -> None:
    """No text makes the check raise."""
    assert not Verifier([made.public_pem("pingpp")]).accepts(signature, b"{}")


def test_nothing_of_a_key_shows() -> None:
    """A signer can be logged by accident without harm."""
    assert repr(Signer(made.private_pem())) == "Signer(…)"
