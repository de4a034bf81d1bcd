"""The TLS of the sample order service: its certificate, and who may call it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from midas.sandbox.errors import SandboxError


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTls:
    """Files in PEM."""

    cert: Path
    """The chain that is shown to callers."""
    key: Path
    """Its private key."""
    client_ca: Path | None = None
    """Who signs the certificates of callers; with it, nobody without one is served."""


def credentials(tls: OrderTls) -> grpc.ServerCredentials:
    """The credentials of the gRPC server. Raises SandboxError when a file cannot be used.

    gRPC itself would start with such files, and refuse every caller.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.cert, tls.key, password=lambda: "")
    except (OSError, ValueError):
        pair = f"{tls.cert} and {tls.key}"
        raise SandboxError(f"{pair} are no certificate and its unencrypted key (PEM)") from None
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except (OSError, ValueError):
            raise SandboxError(f"{tls.client_ca} holds no certificate (PEM)") from None
    pairs = [(tls.key.read_bytes(), tls.cert.read_bytes())]
    wanted = tls.client_ca is not None
    authority = tls.client_ca.read_bytes() if tls.client_ca is not None else None
    return grpc.ssl_server_credentials(pairs, authority, require_client_auth=wanted)
