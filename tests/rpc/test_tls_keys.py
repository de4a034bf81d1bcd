"""Keys of TLS: what the check of the settings takes is what gRPC takes."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from midas.errors import SettingsError
from midas.rpc.server import Binding, Server, Tls
from midas.runtime import setting_rules

Key = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)
KEYS: dict[str, Callable[[], Key]] = {
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}
OTHERS: dict[str, Callable[[], Key]] = {
    "P-224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed448": ed448.Ed448PrivateKey.generate,
}


def pair_of(key: Key, folder: Path) -> tuple[Path, Path]:
    """Files with a certificate of this key, signed by itself, and with the key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "midas")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    by_itself = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
        .sign(key, None if by_itself else hashes.SHA256())
    )  # fmt: skip
    files = folder / "cert.pem", folder / "key.pem"
    pem = serialization.Encoding.PEM
    files[0].write_bytes(certificate.public_bytes(pem))
    files[1].write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


async def serves(tls: Tls) -> bool:
    """Whether gRPC itself takes the pair."""
    try:
        server = Server(Binding(tls=tls))
    except SettingsError:
        return False
    await server.stop()
    return True


@pytest.mark.parametrize("kind", [*KEYS, *OTHERS])
async def test_the_check_takes_what_grpc_takes(kind: str, tmp_path: Path) -> None:
    """Else `--check` would accept a pair that the start refuses, as a port that is taken."""
    files = pair_of((KEYS | OTHERS)[kind](), tmp_path)
    mistakes = list(setting_rules.tls_pair(*files))
    assert (
        await serves(Tls(*(setting_rules.read(each, "") for each in files)))
        == (not mistakes)
        == (kind in KEYS)
    )
    assert all(each.startswith("TLS_CERT_PATH: gRPC takes no such") for each in mistakes)
