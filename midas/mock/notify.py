"""Calls an order service once for each notification, as Midas's gateway would."""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from midas.mock.notifications import Notice, request
from midas.order.v1.order_payment_service_pb2_grpc import OrderPaymentServiceStub

TIMEOUT_S = 10.0
"""How long one call may take. Midas waits as long."""
PARKS = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"})


@dataclass(frozen=True, slots=True)
class OrderService:
    """Where it listens. If one of the files (PEM) is given, it is called over TLS."""

    target: str
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one notification: the name of the status, and its text."""

    notice: Notice
    notification_id: str
    code: str
    details: str = ""

    @property
    def meaning(self) -> str:
        """What Midas makes of this answer."""
        if self.code == "OK":
            return "acknowledged"
        if self.code in PARKS:
            return "Midas would park this order until a person has looked"
        return "Midas would send it again, and the order's next one not before it is acknowledged"


def deliver(where: OrderService, notices: Iterable[Notice]) -> list[Delivery]:
    """Send them one after the other; the first that is not acknowledged is the last.

    Raises OSError before anything is sent, if the files for TLS cannot be used.
    """
    done: list[Delivery] = []
    with _channel(where) as channel:
        stub = OrderPaymentServiceStub(channel)
        for notice in notices:
            done.append(_one(stub, notice))
            if done[-1].code != "OK":
                break
    return done


def _one(stub: OrderPaymentServiceStub, notice: Notice) -> Delivery:
    message: Any = request(notice)
    try:
        getattr(stub, notice.method)(message, timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        failed: Any = error  # the error is the call, too, and has its status
        code, details = failed.code().name, failed.details() or ""
        return Delivery(notice, message.notification_id, code, details)
    return Delivery(notice, message.notification_id, "OK")


def _channel(where: OrderService) -> grpc.Channel:
    # The order service is an internal service: a proxy to the outside never leads to it.
    options = [("grpc.enable_http_proxy", 0)]
    files = (where.tls_ca, where.tls_key, where.tls_cert)
    if not any(files):
        return grpc.insecure_channel(where.target, options=options)
    _check(where)
    ca, key, cert = (None if each is None else each.read_bytes() for each in files)
    credentials = grpc.ssl_channel_credentials(ca, key, cert)
    return grpc.secure_channel(where.target, credentials, options=options)


def _check(where: OrderService) -> None:
    """Check the files: for a bad one gRPC itself reports only that it cannot connect."""
    context = ssl.create_default_context(cafile=where.tls_ca)
    if where.tls_cert is not None:
        context.load_cert_chain(where.tls_cert, where.tls_key, password="")  # never ask for one
