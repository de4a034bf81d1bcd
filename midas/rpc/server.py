"""The gRPC server: what it listens on, what it serves, how it stops."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

import grpc
from grpc import aio

from midas import limits
from midas.errors import SettingsError
from midas.rpc import health, reflection
from midas.rpc.arrivals import Arrivals
from midas.rpc.callers import ANYBODY, Callers
from midas.rpc.entrance import Entrance, OpenMethods
from midas.rpc.health import Health
from midas.rpc.interceptor import Calls, Method, UnknownMethods
from midas.rpc.refusals import Refusals

STREAMS_PER_CONNECTION = 128
"""How many calls one connection may have under way. A grpc client lets further ones wait."""
STREAMS_GOING = STREAMS_PER_CONNECTION
"""How many more calls, which were answered or taken back, may wait to be cleared away before new
ones are refused. This ends HTTP/2's rapid reset. With grpc's own 0, a good client that uses all of
its streams is refused, too, without any details."""
CALLS_WAITING = 20_000
"""How many calls grpc keeps for Midas while it is busy. With its own 1,000, grpc cancels calls of
anybody, without details, as soon as one caller has sent so many."""
HANDSHAKE_TIMEOUT = timedelta(seconds=10)
"""How long a connection may take to show its certificate and its settings."""
KEEPALIVE = timedelta(seconds=60)
KEEPALIVE_TIMEOUT = timedelta(seconds=20)
KEEPALIVE_FROM_CLIENTS = timedelta(seconds=10)
CONNECTION_AGE = timedelta(minutes=30)
"""Connections are renewed this often, so that clients find replicas that were added."""
CONNECTION_AGE_GRACE = timedelta(minutes=2)
CONNECTION_IDLE = timedelta(minutes=15)
LAST_STREAMS = timedelta(milliseconds=500)
"""How long streams of tools may go on when everything else has finished."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM texts. With `client_ca` every client must show a certificate of that authority."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """Where and for whom to serve. Port 0 lets the system choose one."""

    ip: str = "127.0.0.1"
    port: int = 0
    tls: Tls | None = None
    callers: Callers = ANYBODY
    concurrent_rpcs: int = limits.CONCURRENT_RPCS
    connections: int = limits.CONNECTIONS


Services = Mapping[str, Iterable[Method[Any]]]
"""The methods of each service, by the service's full name."""


class Server:
    """The server has its address from the beginning, and serves once it is started.

    It needs a running event loop. Raises SettingsError when the address cannot be bound.
    """

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.health = Health()
        self._refusals = Refusals()
        entrance = Entrance(Arrivals(binding.concurrent_rpcs), self._refusals, binding.callers)
        self._calls = Calls(entrance, binding.concurrent_rpcs)
        # grpc's own bound counts calls whose message never comes, and cannot leave out health
        self._server = aio.server(options=_options(binding))
        self._refusing: asyncio.Task[None] | None = None
        self.port = _bind(self._server, binding)

    async def start(self, services: Services) -> None:
        """Accept calls of these methods, of health and of reflection.

        Health is NOT_SERVING until `health.set_ready`.
        """
        self.health.know(services)
        anybody = OpenMethods(self._refusals, self.binding.connections)
        self._server.add_generic_rpc_handlers(
            (
                *(self._handlers(name, methods) for name, methods in services.items()),
                health.handlers(self.health, anybody),
                *map(anybody.bounded, reflection.handlers((*services, health.SERVICE))),
                UnknownMethods(anybody.entrance),
            )
        )
        await self._server.start()

    async def drain(self, timeout: timedelta) -> int:
        """Set NOT_SERVING, refuse new calls, and wait for those under way for at most `timeout`.

        Calls that have arrived are let in before new ones are refused, because grpc cancels those
        that it has not handed over, without details. If calls keep coming, that takes half the
        time.

        Returns the number of calls that were still under way then; they are answered that their
        outcome is unknown. `stop` has to follow.
        """
        await self.health.drain()
        began = monotonic()
        await self._calls.caught_up(timeout / 2)
        timeout = max(timedelta(0), timeout - timedelta(seconds=monotonic() - began))
        longest = timeout + 2 * LAST_STREAMS
        self._refusing = asyncio.create_task(self._server.stop(longest.total_seconds()))
        left = await self._calls.finished(timeout)
        if left:
            self._calls.interrupt()
            await self._calls.finished(LAST_STREAMS)
        return left

    async def stop(self, grace: timedelta = LAST_STREAMS) -> None:
        """Close every connection after at most `grace`."""
        await self._server.stop(grace.total_seconds())
        if self._refusing is not None:
            await self._refusing

    def _handlers(self, service: str, methods: Iterable[Method[Any]]) -> grpc.GenericRpcHandler:
        handlers = {each.name.partition("/")[2]: self._calls.handler(each) for each in methods}
        return grpc.method_handlers_generic_handler(service, handlers)


def _bind(server: aio.Server, binding: Binding) -> int:
    host = f"[{binding.ip}]" if ":" in binding.ip else binding.ip
    address = f"{host}:{binding.port}"
    try:
        if binding.tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _credentials(binding.tls))
    except RuntimeError:
        reason = f"cannot listen on {address}: another process has the port, or there is no such"
        raise SettingsError(f"{reason} address here; set IP and PORT to one that is free") from None


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    pair = [(tls.key, tls.certificate)]
    return grpc.ssl_server_credentials(
        pair, root_certificates=tls.client_ca, require_client_auth=tls.client_ca is not None
    )


def _options(binding: Binding) -> list[tuple[str, int]]:
    return [
        # a second process on the same port is a mistake, and grpc would let both of them serve
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.REQUEST_BYTES_READ),
        ("grpc.max_allowed_incoming_connections", binding.connections),
        ("grpc.server_handshake_timeout_ms", _ms(HANDSHAKE_TIMEOUT)),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
        ("grpc.http2.max_deallocating_streams", STREAMS_GOING),
        ("grpc.server.max_pending_requests", CALLS_WAITING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * CALLS_WAITING),
        ("grpc.keepalive_time_ms", _ms(KEEPALIVE)),
        ("grpc.keepalive_timeout_ms", _ms(KEEPALIVE_TIMEOUT)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(KEEPALIVE_FROM_CLIENTS)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_connection_age_ms", _ms(CONNECTION_AGE)),
        ("grpc.max_connection_age_grace_ms", _ms(CONNECTION_AGE_GRACE)),
        ("grpc.max_connection_idle_ms", _ms(CONNECTION_IDLE)),
    ]


def _ms(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)
