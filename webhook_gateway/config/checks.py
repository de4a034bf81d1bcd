"""The rules for the gateway's settings, beyond the type of each. A mistake becomes a sentence.

Each sentence names the settings that it is about, says what to do, and repeats no value.
"""

from collections import Counter
from collections.abc import Iterator

from midas.runtime import setting_rules
from midas.runtime.target import is_target
from webhook_gateway.config.settings import Settings


def mistakes(settings: Settings) -> Iterator[str]:
    """A sentence for everything that is wrong. Reads the files that are named."""
    yield from _addresses(settings)
    yield from _targets(settings)
    yield from _keys(settings)
    yield from _tls(settings)


def _addresses(settings: Settings) -> Iterator[str]:
    yield from setting_rules.ip(settings.ip)
    yield from setting_rules.ip(settings.webhook_mip, "WEBHOOK_MIP")
    path = settings.webhook_path
    is_plain = path.isascii() and path.isprintable() and not set(path) & set("?#% ")
    if not path.startswith("/") or not is_plain or "//" in path:
        yield "WEBHOOK_PATH: give a plain path such as /pingpp/webhooks"
    if settings.webhook_port and settings.webhook_port == settings.webhook_mport:
        yield "WEBHOOK_MPORT must not be the same as WEBHOOK_PORT"


def _targets(settings: Settings) -> Iterator[str]:
    if not settings.midas_target.strip():
        yield "MIDAS_TARGET is empty: give the address of Midas, such as 127.0.0.1:6011"
    for name, target in (
        ("MIDAS_TARGET", settings.midas_target),
        ("ORDER_TARGET", settings.order_target),
    ):
        if target.strip() and not is_target(target):
            yield f"{name}: give host:port, [IPv6]:port, or another name of gRPC such as dns:///…"


def _keys(settings: Settings) -> Iterator[str]:
    paths = settings.pingpp_public_key_paths
    if not paths:
        yield (
            "PINGPP_PUBLIC_KEY_PATHS is not set: give the file with the Ping++ public key of the "
            "account, from Ping++'s dashboard"
        )
    yield from setting_rules.public_keys(paths)
    if max(Counter(path.stem for path in paths).values(), default=1) > 1:
        yield "PINGPP_PUBLIC_KEY_PATHS: two files have the same name; the log needs distinct names"


def _tls(settings: Settings) -> Iterator[str]:
    yield from setting_rules.tls_pair(settings.tls_cert_path, settings.tls_key_path)
    if settings.tls_ca_path is not None:
        yield from setting_rules.authorities(settings.tls_ca_path, "TLS_CA_PATH")
    elif settings.tls_cert_path is not None:
        yield "TLS_CERT_PATH needs TLS_CA_PATH: only servers that it certifies get the certificate"
    elif settings.env == "production" and not settings.tls_by_mesh:
        yield (
            "TLS_CA_PATH is not set: production calls Midas and the order service over TLS, "
            "or sets TLS_BY_MESH=true where a mesh encrypts"
        )
