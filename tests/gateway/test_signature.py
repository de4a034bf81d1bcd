"""The signature over the raw bytes: what is accepted, and that nothing else is."""

import base64
import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

from midas.errors import SettingsError
from tests.gateway.account import ABSENT, FIXTURES, Account, Genuine, event_body, genuine_webhooks
from webhook_gateway.signature import Verifier, load_keys

GENUINE = genuine_webhooks()
KEY_FILES = sorted(FIXTURES.glob("keys/*.pem"))
"""The keys of other accounts too, of which no webhook was recorded."""
needs_genuine = pytest.mark.skipif(not GENUINE, reason=ABSENT)
each_genuine = pytest.mark.parametrize("webhook", GENUINE, ids=lambda each: each.name)
BODY = event_body()


@pytest.fixture(scope="module")
def account() -> Account:
    """The account whose key is configured."""
    return Account()


@needs_genuine
@each_genuine
def test_genuine_webhooks_are_accepted_with_their_own_key_only(webhook: Genuine) -> None:
    """What Ping++ signed verifies with the account's key, and with no other account's."""
    assert Verifier([webhook.key]).signer_of(webhook.signature, webhook.body) == webhook.key.name
    others = load_keys([path for path in KEY_FILES if path.stem != webhook.key.name])
    assert len(others) == len(KEY_FILES) - 1 >= 2
    for verifier in (*(Verifier([each]) for each in others), Verifier(others)):
        assert verifier.signer_of(webhook.signature, webhook.body) is None


@needs_genuine
@each_genuine
def test_genuine_webhooks_are_refused_after_any_single_byte_change(webhook: Genuine) -> None:
    """Every other value of every byte of the body, every byte left out, one more at every place."""
    verifier = Verifier([webhook.key])
    body = webhook.body
    for at in range(len(body)):
        before, after = body[:at], body[at + 1 :]
        for other in set(range(256)) - {body[at]}:
            assert verifier.signer_of(webhook.signature, before + bytes([other]) + after) is None
        assert verifier.signer_of(webhook.signature, before + after) is None
        assert verifier.signer_of(webhook.signature, before + b" " + body[at:]) is None


@needs_genuine
@each_genuine
def test_a_signature_is_refused_after_any_change_of_one_character(webhook: Genuine) -> None:
    """Every character of the header replaced, left out and doubled."""
    verifier = Verifier([webhook.key])
    text = webhook.signature
    for at, character in enumerate(text):
        for other in {"A", "B", "/", "=", " ", "\n", "é"} - {character}:
            assert verifier.signer_of(text[:at] + other + text[at + 1 :], webhook.body) is None
        assert verifier.signer_of(text[:at] + text[at + 1 :], webhook.body) is None
        assert verifier.signer_of(text[:at] + character + text[at:], webhook.body) is None


def test_w7_forged_signatures(account: Account) -> None:
    """Nothing that a sender without the private key can make is accepted."""
    verifier = Verifier([account.key])
    good = account.sign(BODY)
    assert verifier.signer_of(good, BODY) == "pingpp"
    sha1 = account.private.sign(BODY, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    pss = account.private.sign(
        BODY, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()
    )
    mac = hmac.new(account.pem, BODY, hashlib.sha256).digest()
    raw = base64.b64decode(good)
    forged = {
        "empty": "",
        "blank": " " * len(good),
        "no base64": "!" * len(good),
        "too short": base64.b64encode(raw[:-1]).decode(),
        "too long": base64.b64encode(raw + b"\0").decode(),
        "endless": good * 1000,
        "zero": base64.b64encode(bytes(len(raw))).decode(),
        "ones": base64.b64encode(b"\xff" * len(raw)).decode(),
        "reversed": base64.b64encode(raw[::-1]).decode(),
        "other key": Account("other").sign(BODY),
        "SHA-1": base64.b64encode(sha1).decode(),
        "PSS": base64.b64encode(pss).decode(),
        "HMAC with the public key": base64.b64encode(mac).decode(),
        "HMAC as long as a signature": base64.b64encode((mac * 8)[: len(raw)]).decode(),
        "of another body": account.sign(BODY + b" "),
        "hexadecimal": raw.hex(),
        "lone surrogate": "\udcff" + good[1:],
        "URL-safe": good.replace("+", "-").replace("/", "_") if set(good) & set("+/") else "-",
    }
    for name, signature in forged.items():
        assert verifier.signer_of(signature, BODY) is None, name


def test_f9_one_spelling_of_base64_is_accepted(account: Account) -> None:
    """Unused bits in the last character, padding and line breaks make another text: refused."""
    verifier = Verifier([account.key])
    good = account.sign(BODY)
    assert good.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    same_bytes = good[:-3] + alphabet[alphabet.index(good[-3]) ^ 1] + "=="
    assert base64.b64decode(same_bytes) == base64.b64decode(good)
    for other in (same_bytes, good[:-2], good[:-1], good + "=", good[:76] + "\n" + good[76:]):
        assert verifier.signer_of(other, BODY) is None


def test_w8_m16_only_the_raw_bytes_count(account: Account) -> None:
    """The same JSON in another layout is another body."""
    verifier = Verifier([account.key])
    signature = account.sign(BODY)
    value = json.loads(BODY)
    other_layouts = {
        "spaces": json.dumps(value, ensure_ascii=False).encode(),
        "escapes": json.dumps(value, separators=(",", ":")).encode(),
        "sorted": json.dumps(
            value, ensure_ascii=False, separators=(",", ":"), sort_keys=True
        ).encode(),
        "byte order mark": b"\xef\xbb\xbf" + BODY,
        "newline": BODY + b"\n",
        "UTF-16": BODY.decode().encode("utf-16"),
        "NUL": BODY + b"\0",
        "nothing": b"",
    }
    for name, body in other_layouts.items():
        assert body != BODY, name
        assert verifier.signer_of(signature, body) is None, name


def test_w11_either_key_is_accepted_during_a_rotation(tmp_path: Path) -> None:
    """Old and new key both verify, each under its own name; a third does not."""
    old, new = Account("pingpp-2025"), Account("pingpp-2026", bits=3072)
    verifier = Verifier(load_keys([old.key_file(tmp_path), new.key_file(tmp_path)]))
    assert verifier.signer_of(old.sign(BODY), BODY) == "pingpp-2025"
    assert verifier.signer_of(new.sign(BODY), BODY) == "pingpp-2026"
    assert verifier.signer_of(Account("third").sign(BODY), BODY) is None


def test_w10_m17_what_is_no_key_is_refused(tmp_path: Path, account: Account) -> None:
    """Every mistake is a sentence that names the setting; none of them verifies anything."""
    private = account.private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    wrong = {
        "empty": b"",
        "blank": b" \n",
        "garbage": b"garbage",
        "binary": b"\xff\xfe\x00",
        "private": private,
        "curve": curve.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "short": Account("short", bits=1024).pem,
        "cut": account.pem[: len(account.pem) // 2],
    }
    for name, content in wrong.items():
        path = tmp_path / f"{name}.pem"
        path.write_bytes(content)
        with pytest.raises(SettingsError, match="PINGPP_PUBLIC_KEY_PATHS"):
            load_keys([account.key_file(tmp_path), path])
    for missing in (tmp_path / "none.pem", tmp_path):
        with pytest.raises(SettingsError, match=r"PINGPP_PUBLIC_KEY_PATHS: cannot read"):
            load_keys([missing])
    with pytest.raises(SettingsError, match="PINGPP_PUBLIC_KEY_PATHS is not set"):
        load_keys([])


def test_m17_no_verifier_without_a_key() -> None:
    """An empty list of keys accepts nothing: it cannot even be made."""
    with pytest.raises(ValueError, match="without a key"):
        Verifier([])


def test_two_keys_of_one_name_are_refused(tmp_path: Path, account: Account) -> None:
    """The log could not distinguish them."""
    (tmp_path / "new").mkdir()
    paths = [account.key_file(tmp_path), Account().key_file(tmp_path / "new")]
    with pytest.raises(SettingsError, match="same name"):
        load_keys(paths)
