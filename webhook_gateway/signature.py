"""The keys that Ping++'s webhooks are verified with (`midas/runtime/signature.py` verifies)."""

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from midas.errors import SettingsError
from midas.runtime.public_key import SETTING, WANTED, read_public_key
from midas.runtime.setting_rules import read
from midas.runtime.signature import Key, Verifier

__all__ = ["HEADER", "Key", "Verifier", "load_keys"]

HEADER = "X-Pingplusplus-Signature"


def load_keys(paths: Sequence[Path]) -> list[Key]:
    """The keys in these files, at least one.

    Raises SettingsError, with a sentence that says what to set, for anything that is not the public
    half of an RSA key.
    """
    keys = [Key(path.stem, _key_in(path)) for path in paths]
    if not keys:
        raise SettingsError(f"{SETTING} is not set. {WANTED}")
    if len({key.name for key in keys}) != len(keys):
        raise SettingsError(
            f"{SETTING}: two files have the same name; the log needs distinct names"
        )
    return keys


def _key_in(path: Path) -> rsa.RSAPublicKey:
    return read_public_key(read(path, SETTING), f"{SETTING}: the file")
