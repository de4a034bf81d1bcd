"""The state of Midas at /readyz is Midas's own answer."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from tests.patience import PATIENCE_S
from webhook_gateway import grpc_channels
from webhook_gateway.config.settings import Settings
from webhook_gateway.midas_health import SERVICE, MidasHealth


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[MidasHealth]:
    """Over the channel that the gateway has."""
    settings = Settings(
        pingpp_public_key_paths=(Path("unused.pem"),), midas_target=f"127.0.0.1:{port}"
    )
    async with grpc_channels.open_midas(settings) as channel:
        yield MidasHealth(channel)


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def serve(servicer: Any) -> tuple[aio.Server, int]:
    """A server with this health; with none, one that is no Midas."""
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    if servicer is not None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    bound = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, bound


async def becomes(midas: MidasHealth, wanted: str) -> None:
    """Wait for this state: on a busy machine an answer may come too late for the first calls."""
    async with asyncio.timeout(PATIENCE_S):
        while await midas.state() != wanted:
            pass


async def test_midas_answers_whether_it_serves() -> None:
    """Its connection stays up while its database is away and while it drains."""
    servicer = health.aio.HealthServicer()
    await servicer.set(SERVICE, NOT_SERVING)
    server, port = await serve(servicer)
    async with asking(port) as midas:
        await becomes(midas, "NOT_READY")
        await servicer.set(SERVICE, SERVING)
        await becomes(midas, "READY")
        await servicer.set(SERVICE, NOT_SERVING)
        await becomes(midas, "NOT_READY")
        await server.stop(None)
        await becomes(midas, "UNAVAILABLE")


@pytest.mark.parametrize("service", ["", "midas.v1.PaymentService"])
async def test_what_is_no_midas_is_not_ready(service: str) -> None:
    """A proxy, or another service."""
    servicer = health.aio.HealthServicer() if service else None
    if servicer is not None:
        await servicer.set(service, SERVING)
    server, port = await serve(servicer)
    async with asking(port) as midas:
        await becomes(midas, "NOT_FOUND" if service else "UNIMPLEMENTED")
    await server.stop(None)


async def test_a_midas_that_hangs_holds_no_probe() -> None:
    """The kernel takes the connection of a process that is stopped; all who ask wait once."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        async with asking(hanging.getsockname()[1]) as midas:
            states = await asyncio.gather(*(midas.state() for _ in range(20)))
    assert set(states) <= {"DEADLINE_EXCEEDED", "UNAVAILABLE"}
