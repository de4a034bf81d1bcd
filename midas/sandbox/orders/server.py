"""The sample order service with sockets: gRPC, and the control API beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aiohttp import web
from grpc import aio

from midas.order.v1.order_payment_service_pb2_grpc import (
    add_OrderPaymentServiceServicer_to_server,
)
from midas.sandbox.errors import SandboxError
from midas.sandbox.orders import control
from midas.sandbox.orders.book import OrderBook
from midas.sandbox.orders.service import OrderService
from midas.sandbox.orders.tls import OrderTls, credentials

GRACE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderOptions:
    """Where it serves and what it keeps."""

    file: Path
    """SQLite; made when it is not there. The next service on it continues."""
    ip: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    control_port: int | None = None
    """The port of the control API; 0 takes a free one, None serves none. It speaks no TLS."""
    tls: OrderTls | None = None
    """None speaks gRPC without TLS."""


class OrderServer:
    """The service. Its `book` and `faults` may be used directly from the same event loop."""

    def __init__(self, options: OrderOptions) -> None:
        """Open the file. Raises SandboxError when it, or a file for TLS, cannot be used."""
        self.options = options
        self._credentials = None if options.tls is None else credentials(options.tls)
        self.book = OrderBook(options.file)
        self._service = OrderService(self.book)
        self.faults = self._service.faults
        self.target = ""
        """`ip:port` of the gRPC service, for ORDER_TARGET."""
        self.control_url = ""
        self._port = options.port
        self._server: aio.Server | None = None
        self._runner: web.AppRunner | None = None

    @property
    def is_up(self) -> bool:
        """Whether it accepts calls."""
        return self._server is not None

    @property
    def has_tls(self) -> bool:
        """Whether its callers must speak TLS."""
        return self._credentials is not None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serve; `SandboxError` when an address cannot be used, and nothing stays open then."""
        try:
            await self.come_up()
            if self.options.control_port is not None:
                self._runner = await self._serve_control(self.options.control_port)
        except BaseException:
            await self.stop()
            raise

    async def come_up(self) -> None:
        """Accept calls, on the same port as before."""
        if self._server is not None:
            return
        # grpc would otherwise let a second process on the port take half of the calls
        server = aio.server(options=[("grpc.so_reuseport", 0)])
        add_OrderPaymentServiceServicer_to_server(self._service, server)
        try:
            self._port = self._bound(server)
        except RuntimeError:
            raise _cannot_listen(self._address(self._port)) from None
        await server.start()
        self._server, self.target = server, self._address(self._port)

    def _bound(self, server: aio.Server) -> int:
        address = self._address(self._port)
        if self._credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, self._credentials)

    async def go_down(self, grace_s: float = 0.0) -> None:
        """Close the port and drop the calls that take longer than `grace_s`."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)

    async def stop(self) -> None:
        """Finish what is under way and close the file."""
        await self.go_down(GRACE_S)
        await self._service.finish()
        if self._runner is not None:
            await self._runner.cleanup()
        self.book.close()

    async def _serve_control(self, port: int) -> web.AppRunner:
        runner = web.AppRunner(control.application(self), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.options.ip, port).start()
        except OSError:
            await runner.cleanup()
            raise _cannot_listen(self._address(port)) from None
        self.control_url = f"http://{self._address(runner.addresses[0][1])}{control.PREFIX}"
        return runner

    def _address(self, port: int) -> str:
        ip = self.options.ip
        return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _cannot_listen(address: str) -> SandboxError:
    reason = "another process has the port, or there is no such address here"
    return SandboxError(f"cannot listen on {address}: {reason}; choose another one")
