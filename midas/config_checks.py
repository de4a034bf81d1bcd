"""What settings must hold together, beyond the type of each: raises ValueError with a sentence.

No sentence repeats the value of a secret.
"""

import ssl
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from midas.errors import SettingsError
from midas.public_key import SETTING, read_public_key

if TYPE_CHECKING:
    from midas.config import Settings


def check(settings: "Settings") -> None:
    """Raise ValueError naming the setting that is wrong and what to do."""
    for each in _CHECKS:
        each(settings)
    if settings.env == "production":
        _production(settings)


def read(path: Path, name: str) -> str:
    """The content of the file that the setting names. Raises ValueError, also when it is empty."""
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise ValueError(f"{name}: cannot read {path}: {why}") from None
    if not content.strip():
        raise ValueError(f"{name}: {path} is empty")
    return content


def _ip(settings: "Settings") -> None:
    try:
        ip_address(settings.ip)
    except ValueError:
        raise ValueError("IP: give an address such as 127.0.0.1 or 0.0.0.0") from None


def _account(settings: "Settings") -> None:
    key = settings.pingpp_api_key.get_secret_value()
    if not key.strip():
        raise ValueError(
            "PINGPP_API_KEY is not set: give Ping++'s secret key (sk_test_ or sk_live_)"
        )
    if not key.startswith(("sk_test_", "sk_live_")) or not key.isascii() or not key.isprintable():
        raise ValueError("PINGPP_API_KEY must begin with sk_test_ or sk_live_, without spaces")
    if not settings.pingpp_app_id.strip():
        raise ValueError("PINGPP_APP_ID is not set: give the id of the Ping++ application (app_…)")


def _database(settings: "Settings") -> None:
    from midas.storage.engine import parse  # only a start needs SQLAlchemy, no help text does

    try:
        parse(settings.database_url.get_secret_value())
    except SettingsError as error:
        raise ValueError(str(error)) from None


def _api_base(settings: "Settings") -> None:
    parts = urlsplit(settings.pingpp_api_base)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("PINGPP_API_BASE: give a URL such as https://api.pingxx.com")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("PINGPP_API_BASE: use https:// for every host but the loopback address")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _keys(settings: "Settings") -> None:
    path, text = settings.pingpp_private_key_path, settings.pingpp_private_key.get_secret_value()
    if path is not None and text:
        raise ValueError("PINGPP_PRIVATE_KEY and PINGPP_PRIVATE_KEY_PATH are both set: keep one")
    name = "PINGPP_PRIVATE_KEY" if text else "PINGPP_PRIVATE_KEY_PATH"
    pem = settings.private_key()
    if pem is not None:
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError):
            raise ValueError(
                f"{name}: give an RSA private key in PEM, without a password"
            ) from None
        if not isinstance(key, RSAPrivateKey):
            raise ValueError(f"{name}: Ping++ takes RSA keys only")
    for each in settings.pingpp_public_key_paths:
        try:
            read_public_key(read(each, SETTING).encode(), f"{SETTING}: {each}")
        except SettingsError as error:
            raise ValueError(str(error)) from None


def _tls(settings: "Settings") -> None:
    cert, key, ca = settings.tls_cert_path, settings.tls_key_path, settings.tls_client_ca_path
    if (cert is None) != (key is None):
        raise ValueError("TLS_CERT_PATH and TLS_KEY_PATH go together: set both or none")
    if ca is not None and cert is None:
        raise ValueError("TLS_CLIENT_CA_PATH needs TLS_CERT_PATH and TLS_KEY_PATH as well")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if cert is not None and key is not None:
        read(cert, "TLS_CERT_PATH")
        read(key, "TLS_KEY_PATH")
        try:
            context.load_cert_chain(cert, key, password=lambda: "")
        except (ssl.SSLError, OSError):
            raise ValueError("TLS_CERT_PATH and TLS_KEY_PATH are no pair of PEM files") from None
    if ca is not None:
        read(ca, "TLS_CLIENT_CA_PATH")
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError:
            raise ValueError("TLS_CLIENT_CA_PATH holds no certificates in PEM") from None


def _callers(settings: "Settings") -> None:
    if settings.tls_callers and settings.tls_client_ca_path is None:
        raise ValueError("TLS_CALLERS needs TLS_CLIENT_CA_PATH: without it nobody's name is known")
    for name, methods in settings.tls_callers.items():
        if not name or not all(each == "*" or each.count("/") == 1 for each in methods):
            rule = "name methods as midas.v1.PaymentService/Query, midas.v1.PaymentService/* or *"
            raise ValueError(f"TLS_CALLERS: {rule}")


def _timeouts(settings: "Settings") -> None:
    if settings.psp_connect_timeout_s > settings.psp_total_timeout_s:
        raise ValueError("PSP_CONNECT_TIMEOUT_S must not be longer than PSP_TOTAL_TIMEOUT_S")
    if settings.settle_window_s < settings.psp_total_timeout_s:
        raise ValueError("SETTLE_WINDOW_S must not be shorter than PSP_TOTAL_TIMEOUT_S")


def _production(settings: "Settings") -> None:
    if not settings.livemode:
        raise ValueError("PINGPP_API_KEY is a test key: production needs one with sk_live_")
    if settings.private_key() is None:
        raise ValueError("PINGPP_PRIVATE_KEY_PATH is not set: production signs its requests")
    if settings.tls_cert_path is None and not settings.tls_by_mesh:
        raise ValueError(
            "TLS_CERT_PATH and TLS_KEY_PATH are not set: production needs TLS, "
            "or TLS_BY_MESH=true where a mesh encrypts"
        )
    if not settings.tls_by_mesh and not settings.tls_callers:
        raise ValueError(
            "TLS_CALLERS is not set: production needs to know who may call what; whoever may call "
            "midas.v1.EventService can tell Midas that an order is paid"
        )
    is_sqlite = settings.database_url.get_secret_value().startswith("sqlite")
    if is_sqlite and settings.workers > 1:
        raise ValueError(
            "DATABASE_URL: SQLite serves one worker only; use PostgreSQL, or WORKERS=1"
        )


_CHECKS: tuple[Callable[["Settings"], None], ...] = (
    _ip,
    _account,
    _database,
    _api_base,
    _keys,
    _tls,
    _callers,
    _timeouts,
)
