"""The gRPC channels to Midas and to the order service."""

from collections.abc import Sequence

import grpc
from grpc import aio

from midas.runtime.setting_rules import read
from webhook_gateway.channel_options import MIDAS_CHANNEL, ORDER_CHANNEL
from webhook_gateway.config.settings import Settings


def open_midas(settings: Settings) -> aio.Channel:
    """A channel to MIDAS_TARGET. It connects by itself; without a server a call fails at once."""
    return _open(settings.midas_target, MIDAS_CHANNEL, settings)


def open_order_service(settings: Settings) -> aio.Channel:
    """A channel to ORDER_TARGET."""
    return _open(settings.order_target, ORDER_CHANNEL, settings)


def _open(target: str, options: Sequence[tuple[str, int]], settings: Settings) -> aio.Channel:
    credentials = _credentials(settings)
    if credentials is None:
        return aio.insecure_channel(target, options=options)
    return aio.secure_channel(target, credentials, options=options)


def _credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    ca, cert, key = settings.tls_ca_path, settings.tls_cert_path, settings.tls_key_path
    if ca is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=read(ca, "TLS_CA_PATH"),
        private_key=None if key is None else read(key, "TLS_KEY_PATH"),
        certificate_chain=None if cert is None else read(cert, "TLS_CERT_PATH"),
    )
