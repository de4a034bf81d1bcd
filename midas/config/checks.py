"""The rules for the server's settings, beyond the type of each. A mistake becomes a sentence.

Each sentence names the settings that it is about, and says what to do. It repeats no value, because
a secret may have been pasted into any setting.
"""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from midas.config.settings import MigrationSettings, Settings
from midas.errors import SettingsError
from midas.rpc.callers import is_name, missing_kind
from midas.runtime import setting_rules
from midas.runtime.config_server import is_this_machine

Check = Callable[[Settings], Iterator[str]]


def mistakes(settings: Settings) -> Iterator[str]:
    """A sentence for everything that is wrong. Reads the files that are named."""
    for each in _CHECKS:
        yield from each(settings)
    if settings.env == "production":
        for each in _IN_PRODUCTION:
            yield from each(settings)


def database_mistakes(settings: MigrationSettings) -> Iterator[str]:
    """A sentence for every mistake, for a command that needs the database alone."""
    if not settings.database_url.get_secret_value():
        yield (
            "DATABASE_URL is not set: give it in the environment or at the config server, or use"
            " --database"
        )
        return
    yield from _database(settings)
    if settings.env == "production":
        yield from _database_in_the_clear(settings)


def _ip(settings: Settings) -> Iterator[str]:
    yield from setting_rules.ip(settings.ip)


def _account(settings: Settings) -> Iterator[str]:
    key, app = settings.pingpp_api_key.get_secret_value(), settings.pingpp_app_id
    if not key.strip():
        yield "PINGPP_API_KEY is not set: give Ping++'s secret key (sk_test_ or sk_live_)"
    elif not key.startswith(("sk_test_", "sk_live_")) or not _is_word(key):
        yield "PINGPP_API_KEY must begin with sk_test_ or sk_live_, without spaces"
    if not app.strip():
        yield "PINGPP_APP_ID is not set: give the id of the Ping++ application (app_…)"
    elif not _is_word(app):
        yield "PINGPP_APP_ID must be the id of the Ping++ application (app_…), without spaces"


def _is_word(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _database(settings: "Settings | MigrationSettings") -> Iterator[str]:
    from midas.storage.engine import parse  # only a start needs SQLAlchemy, no help text does

    try:
        parse(settings.database_url.get_secret_value())
    except SettingsError as error:
        yield str(error)


def _api_base(settings: Settings) -> Iterator[str]:
    base = settings.pingpp_api_base
    try:
        parts = urlsplit(base)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    whole = host and _is_word(base) and f"{parts.scheme}://{parts.netloc}" == base.lower()
    if not whole or parts.scheme not in ("http", "https") or "@" in base:
        yield "PINGPP_API_BASE: give a scheme and a host, such as https://api.pingxx.com"
    elif parts.scheme == "http" and not is_this_machine(host or ""):
        yield "PINGPP_API_BASE: use https:// for every host but the loopback address"


def _private_key(settings: Settings) -> Iterator[str]:
    path, text = settings.pingpp_private_key_path, settings.pingpp_private_key.get_secret_value()
    if path is not None and text:
        yield "PINGPP_PRIVATE_KEY and PINGPP_PRIVATE_KEY_PATH are both set: keep one"
        return
    name = "PINGPP_PRIVATE_KEY" if text else "PINGPP_PRIVATE_KEY_PATH"
    try:
        pem = settings.private_key()
    except SettingsError as error:
        yield str(error)
        return
    if pem is not None:
        yield from _unusable(pem, name)


def _unusable(pem: str, name: str) -> Iterator[str]:
    try:
        key = load_pem_private_key(pem.strip().encode(errors="replace"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        yield f"{name}: give an RSA private key in PEM, without a password"
    else:
        if not isinstance(key, RSAPrivateKey):
            yield f"{name}: Ping++ takes RSA keys only"


def _public_keys(settings: Settings) -> Iterator[str]:
    yield from setting_rules.public_keys(settings.pingpp_public_key_paths)


def _tls(settings: Settings) -> Iterator[str]:
    cert, ca = settings.tls_cert_path, settings.tls_client_ca_path
    yield from setting_rules.tls_pair(cert, settings.tls_key_path)
    if ca is None:
        return
    if cert is None:
        yield "TLS_CLIENT_CA_PATH needs TLS_CERT_PATH and TLS_KEY_PATH as well"
    yield from setting_rules.authorities(ca, "TLS_CLIENT_CA_PATH")


def _callers(settings: Settings) -> Iterator[str]:
    if settings.tls_callers and settings.tls_client_ca_path is None:
        yield "TLS_CALLERS needs TLS_CLIENT_CA_PATH: without it nobody's name is known"
    for name in settings.tls_callers:
        if kind := missing_kind(name):
            yield (
                "TLS_CALLERS: a name without a kind is a common name or a DNS name; "
                f"write {kind}:… for {_KINDS[kind]}, or CN:… where it is the common name"
            )
        elif not is_name(name):
            yield (
                "TLS_CALLERS: name callers as order-service, or with their kind: CN:order-service, "
                "DNS:orders.internal, URI:spiffe://shop/orders, EMAIL:orders@shop.example, "
                "IP:192.0.2.7 or IP:2001:db8::7"
            )
    for methods in settings.tls_callers.values():
        if not all(each == "*" or each.count("/") == 1 for each in methods):
            yield (
                "TLS_CALLERS: name methods as midas.v1.PaymentService/Query, "
                "midas.v1.PaymentService/* or *"
            )
            return


_KINDS = {"EMAIL": "an e-mail address", "IP": "an IP address", "URI": "a URI"}


def _timeouts(settings: Settings) -> Iterator[str]:
    if settings.psp_connect_timeout_s > settings.psp_total_timeout_s:
        yield "PSP_CONNECT_TIMEOUT_S must not be longer than PSP_TOTAL_TIMEOUT_S"
    if settings.settle_window_s < settings.psp_total_timeout_s:
        yield "SETTLE_WINDOW_S must not be shorter than PSP_TOTAL_TIMEOUT_S"


def _psp_in_production(settings: Settings) -> Iterator[str]:
    if settings.pingpp_api_key.get_secret_value().startswith("sk_test_"):
        yield "PINGPP_API_KEY is a test key: production needs one with sk_live_"
    if settings.pingpp_private_key_path is None and not settings.pingpp_private_key:
        yield "PINGPP_PRIVATE_KEY_PATH is not set: production signs its requests"
    if not settings.pingpp_public_key_paths:
        yield (
            "PINGPP_PUBLIC_KEY_PATHS is not set: production believes no answer that Ping++ has not "
            "signed; give the Ping++ public key of the account, from Ping++'s dashboard"
        )
    if settings.pingpp_api_base.lower().startswith("http:"):
        yield "PINGPP_API_BASE begins with http://: production sends a live key over https:// only"


def _tls_in_production(settings: Settings) -> Iterator[str]:
    if settings.tls_by_mesh:
        return
    if settings.tls_cert_path is None:
        yield (
            "TLS_CERT_PATH and TLS_KEY_PATH are not set: production needs TLS, "
            "or TLS_BY_MESH=true where a mesh encrypts"
        )
    if not settings.tls_callers:
        yield (
            "TLS_CALLERS is not set: production needs to know who may call what; a caller of "
            "midas.v1.EventService can make Midas believe that an order is paid"
        )


def _database_in_production(settings: Settings) -> Iterator[str]:
    is_sqlite = settings.database_url.get_secret_value().startswith("sqlite")
    if is_sqlite and settings.workers > 1:
        yield "DATABASE_URL: SQLite serves one worker only; use PostgreSQL, or WORKERS=1"
    yield from _database_in_the_clear(settings)


def _database_in_the_clear(settings: "Settings | MigrationSettings") -> Iterator[str]:
    from midas.storage.engine import is_in_the_clear, parse

    try:
        url = parse(settings.database_url.get_secret_value())
    except SettingsError:
        return  # _database reports that mistake
    if is_in_the_clear(url) and not settings.database_tls_by_network:
        yield (
            "DATABASE_URL: production speaks TLS with PostgreSQL; add ?sslmode=verify-full (or "
            "verify-ca or require), or set DATABASE_TLS_BY_NETWORK=true where the network encrypts"
        )


_CHECKS: tuple["Check", ...] = (
    _ip,
    _account,
    _database,
    _api_base,
    _private_key,
    _public_keys,
    _tls,
    _callers,
    _timeouts,
)
_IN_PRODUCTION: tuple["Check", ...] = (
    _psp_in_production,
    _tls_in_production,
    _database_in_production,
)
