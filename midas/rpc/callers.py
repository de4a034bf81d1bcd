"""Who calls, by the client certificate that mutual TLS has checked, and who may call what.

The names are read from the certificate itself. grpc's own list of them ends each name at its first
NUL, so that `order-service<NUL>.evil` would pass for `order-service`. It also does not say which
name is the common name, a DNS name, a URI or an e-mail address.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from cryptography import x509

if TYPE_CHECKING:
    from grpc import aio

Identity = Mapping[str, Iterable[bytes]]

CERTIFICATE = "x509_pem_cert"
KINDS = ("CN", "DNS", "URI", "EMAIL", "IP")
"""The kinds of a name. `DNS:audit.internal` is that name as a DNS name and as nothing else."""
PLAIN_KINDS = ("CN", "DNS")
"""The kinds that a name may be of if it is written without a kind."""
CERTIFICATES_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Callers:
    """The methods that each name in a client certificate may call.

    A name is `KIND:name` with one of KINDS, or a name alone for one of PLAIN_KINDS. A method is
    `package.Service/Method`, `package.Service/*` or `*`.
    """

    methods: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def permitted(self, identity: Identity, method: str) -> str | None:
        """The name under which the caller may call the method, or None if there is none."""
        service = method.partition("/")[0]
        wanted = {method, f"{service}/*", "*"}
        for name in names(identity):
            for written in _written(name):
                if not wanted.isdisjoint(self.methods.get(written, ())):
                    return written
        return None


ANYBODY = Callers()
"""No list of callers is set: every client that can connect may call everything."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a call, for the log and for shares of what is bounded."""

    name: str
    """A name of his certificate with its kind; empty without a certificate."""
    address: str
    """His IP address."""


def caller_of(context: "aio.ServicerContext[Any, Any]") -> Caller:
    """Who makes this call."""
    known = names(context.auth_context())
    return Caller(known[0] if known else "", _address(context.peer()))


def names(identity: Identity) -> tuple[str, ...]:
    """Every name in the certificate with its kind, the common name first; none without one."""
    for pem in identity.get(CERTIFICATE, ()):
        return _names_in(pem)
    return ()


def is_name(text: str) -> bool:
    """Whether it is written as a name that a certificate could have."""
    kind, colon, name = text.partition(":")
    if not colon:
        return bool(text.strip())
    if kind == "IP":
        return _is_ip(name)
    return kind in KINDS and bool(name.strip()) and ("@" in name or kind != "EMAIL")


def missing_kind(text: str) -> str:
    """The kind that a name needs in front if no name of PLAIN_KINDS looks like it; else empty."""
    if text.partition(":")[0] in KINDS:
        return ""
    if _is_ip(text):
        return "IP"
    if "://" in text:
        return "URI"
    return "EMAIL" if "@" in text else ""


def _is_ip(text: str) -> bool:
    """Whether it is an address, spelled as `names` spells it."""
    with suppress(ValueError):
        return str(ip_address(text)) == text
    return False


def _written(name: str) -> Iterator[str]:
    """The ways in which a list of callers may write the name."""
    yield name
    kind, _, plain = name.partition(":")
    if kind in PLAIN_KINDS and ":" not in plain:
        yield plain


@lru_cache(maxsize=CERTIFICATES_REMEMBERED)
def _names_in(pem: bytes) -> tuple[str, ...]:
    """The names in a certificate. One that cannot be read has none, so it may call nothing."""
    with suppress(ValueError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension):
        certificate = x509.load_pem_x509_certificate(pem)
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return (
            *(f"CN:{each.value}" for each in common if isinstance(each.value, str)),
            *_alternative_names(certificate),
        )
    return ()


def _alternative_names(certificate: x509.Certificate) -> Iterator[str]:
    with suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        yield from (f"DNS:{each}" for each in found.get_values_for_type(x509.DNSName))
        yield from (
            f"URI:{each}" for each in found.get_values_for_type(x509.UniformResourceIdentifier)
        )
        yield from (f"EMAIL:{each}" for each in found.get_values_for_type(x509.RFC822Name))
        yield from (f"IP:{each}" for each in found.get_values_for_type(x509.IPAddress))


def _address(peer: str) -> str:
    """The address in what grpc calls a peer: `ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`."""
    family, _, rest = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return peer
    return rest.rpartition(":")[0].removeprefix("%5B").removesuffix("%5D")
