"""RSA keys made on the spot, for the sandbox and the demo."""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

KEY_BITS = 2048


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Both halves of one key, as PEM files."""

    private: Path
    public: Path


def make_keys(folder: Path, name: str) -> KeyFiles:
    """Make a key and write both halves to the folder; only the owner can read the private one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    files = KeyFiles(folder / f"{name}_private_key.pem", folder / f"{name}_public_key.pem")
    files.private.touch(mode=0o600)
    files.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files.public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return files
