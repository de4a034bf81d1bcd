"""The rules for settings that the server and the webhook gateway both have.

Each function gives a sentence for each mistake. None repeats a value, not even a path: a key that
was pasted into a setting for the name of a file would get into the log.
"""

import errno
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from midas.errors import SettingsError
from midas.runtime.process import OpenFiles
from midas.runtime.public_key import SETTING, read_public_key


def read(path: Path, name: str, which: str = "the file") -> bytes:
    """The content of the file that the setting names. Raises SettingsError, also when empty."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "that is no path"
        raise SettingsError(f"{name}: cannot read {which}: {why}{_hint(path)}") from None
    if not content.strip():
        raise SettingsError(f"{name}: {which} is empty")
    return content


def _hint(path: Path) -> str:
    text = str(path)
    if "-----BEGIN" in text or "\n" in text:
        return "; give the path of a file, not what it holds"
    return "" if path.is_absolute() else f" (the path is relative to {Path.cwd()})"


def ip(value: str, name: str = "IP") -> Iterator[str]:
    """Check an address to listen on."""
    if not _is_ip(value):
        yield f"{name}: give an address such as 127.0.0.1 or 0.0.0.0"


def _is_ip(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def listening(
    address: str, port: int, names: str = "IP and PORT", *, reuse_port: bool = False
) -> Iterator[str]:
    """Check that this machine lets the process listen there. What `ip` refuses is skipped.

    That another process has the port is no mistake of the settings: it may be the Midas that this
    one is to replace.
    """
    if not _is_ip(address):
        return
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            tried.bind((address, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            yield f"{names}: this process may not listen there: {error.strerror}"


def room(files: OpenFiles) -> Iterator[str]:
    """Check that this machine lets the process have at least one connection."""
    try:
        files.room()
    except SettingsError as error:
        yield from error.mistakes


def public_keys(paths: Sequence[Path]) -> Iterator[str]:
    """Check the files with Ping++'s public keys."""
    for position, path in enumerate(paths, 1):
        which = "the file" if len(paths) == 1 else f"file {position}"
        try:
            read_public_key(read(path, SETTING, which), f"{SETTING}: {which}")
        except SettingsError as error:
            yield str(error)


def tls_pair(cert: Path | None, key: Path | None) -> Iterator[str]:
    """Check TLS_CERT_PATH and TLS_KEY_PATH."""
    if cert is None or key is None:
        if cert is not key:
            yield "TLS_CERT_PATH and TLS_KEY_PATH go together: set both or none"
        return
    unread = [*_unread(cert, "TLS_CERT_PATH"), *_unread(key, "TLS_KEY_PATH")]
    yield from unread
    if unread:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, OSError):
        yield "TLS_CERT_PATH and TLS_KEY_PATH are no pair of PEM files"
        return
    if not _grpc_takes(cert.read_bytes()):
        yield (
            "TLS_CERT_PATH: gRPC takes no such certificate; give one with a key of RSA, P-256, "
            "P-384, P-521 or Ed25519"
        )


def _grpc_takes(pem: bytes) -> bool:
    """Whether BoringSSL, which gRPC has inside, uses the first certificate: OpenSSL takes more."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1)
    if isinstance(key, rsa.RSAPublicKey):
        named = certificate.public_key_algorithm_oid
        return named == x509.PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5
    return isinstance(key, ed25519.Ed25519PublicKey)


def authorities(path: Path, name: str) -> Iterator[str]:
    """Check a file with the certificates of authorities."""
    unread = list(_unread(path, name))
    yield from unread
    if unread:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with suppress(ssl.SSLError, OSError):
        context.load_verify_locations(path)
    if not context.cert_store_stats()["x509"]:
        yield f"{name} holds no certificate in PEM"


def _unread(path: Path, name: str) -> Iterator[str]:
    try:
        read(path, name)
    except SettingsError as error:
        yield str(error)
