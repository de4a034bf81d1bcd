"""What gRPC takes as the name of a server. This needs nothing but Python."""

import re
from ipaddress import ip_address


def is_target(text: str) -> bool:
    """Whether gRPC can make an address of it. gRPC looks up every other text as a host, for ever.

    https://github.com/grpc/grpc/blob/master/doc/naming.md
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    scheme, _, rest = text.partition(":")
    scheme = scheme.lower()
    if scheme in _ELSEWHERE:
        return bool(rest.strip("/"))
    if scheme in _ADDRESSES:
        return all(_is_address(each) for each in rest.lstrip("/").split(","))
    if scheme == "dns" and not _PORT.fullmatch(rest):
        return _is_address(rest.rpartition("/")[2])
    return _is_address(text)


_ELSEWHERE = frozenset({"unix", "unix-abstract", "vsock", "xds", "google-c2p"})
"""Schemes whose names only gRPC understands."""
_ADDRESSES = frozenset({"ipv4", "ipv6"})
_PORT = re.compile(r"[0-9]{1,5}")
_ADDRESS = re.compile(
    r"(?:\[(?P<ip>[^\]]+)\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(?::(?P<port>[0-9]{1,5}))?"
)


def _is_address(text: str) -> bool:
    """A host or an address, with a port or without one."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return _is_ipv6(text)
    is_host = found["ip"] is None or _is_ipv6(found["ip"])
    return is_host and 0 < int(found["port"] or 443) < 65536


def _is_ipv6(text: str) -> bool:
    try:
        return ip_address(text).version == 6 and not ip_address(text).is_unspecified
    except ValueError:
        return False
