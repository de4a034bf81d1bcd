"""The composition root: how the parts are connected, and how the process starts and ends.

SIGTERM or SIGINT → not ready → webhooks are taken for DRAIN_DELAY_S more, while their
senders learn of it → no new connections → webhooks and deliveries under way end, for at most
DRAIN_TIMEOUT_S → exit status 0. A second signal ends the delay; any further one, and the second one
where there is no delay, ends the process at once.
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib import metadata
from typing import TYPE_CHECKING

from midas.errors import SettingsError
from midas.order.v1.order_payment_service_pb2_grpc import OrderPaymentServiceStub
from midas.runtime.logs import configure, failure
from midas.runtime.process import loop_factory, stop_signal, tune_garbage_collection
from midas.v1.event_service_pb2_grpc import EventServiceStub
from webhook_gateway import grpc_channels, start
from webhook_gateway.config.settings import Settings
from webhook_gateway.connections import BACKLOG, ConnectionBounds, Connections
from webhook_gateway.intake import Intake, IntakeBounds
from webhook_gateway.management import Management
from webhook_gateway.metrics import Metrics, Unmetered
from webhook_gateway.midas_health import MidasHealth
from webhook_gateway.recorder import Recorder
from webhook_gateway.relay import Relay, RelayOptions
from webhook_gateway.signature import Verifier, load_keys

if TYPE_CHECKING:
    from midas.order.v1.order_payment_service_pb2_grpc import OrderPaymentServiceAsyncStub
    from midas.v1.event_service_pb2_grpc import EventServiceAsyncStub

MANAGEMENT_BOUNDS = ConnectionBounds(most=32, header_timeout=timedelta(seconds=30))
"""The bounds of the management port. One connection more closes the one that is open longest."""
LAST_CONNECTIONS_S = 0.2
"""How long connections may take to end by themselves when the drain is over."""
RESTART_PAUSE_S = 1.0
"""How long a relay that broke waits before it is started again."""

_log = logging.getLogger("midas.gateway")


def run() -> int:
    """Prepare the settings, serve, and return 0 after an orderly end or 1 after a crash.

    Raises SettingsError, with a sentence that says what to set, when a setting keeps it from
    starting.
    """
    logs = None
    try:
        settings = start.prepare()
        verifier = Verifier(load_keys(settings.pingpp_public_key_paths))
        logs = configure(settings.log_level)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(settings, verifier))
    except SettingsError:
        raise
    except Exception as error:
        _log.critical("crashed", extra=failure(error))
        return 1
    finally:
        if logs is not None:
            logs.close()
    return 0


async def serve(settings: Settings, verifier: Verifier) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError when a port cannot be had."""
    most = start.open_files(settings).allow()
    metrics = Metrics()
    async with stop_signal(settings.drain_delay) as stop, AsyncExitStack() as stack:
        midas = grpc_channels.open_midas(settings)
        stack.push_async_callback(midas.close)
        events: EventServiceAsyncStub = EventServiceStub(midas)
        management = Management(MidasHealth(midas).state, metrics)
        await _serve_management(stack, management, settings)
        recorder = Recorder(events, settings.record_event_timeout_s)
        intake = Intake(verifier, recorder.record, _intake_bounds(settings), metrics)
        idle = timedelta(seconds=settings.header_timeout_s)
        bounds = ConnectionBounds(most, idle)
        connections = Connections(intake.handle, bounds, metrics)
        listening = await _listen(connections, settings)
        stack.callback(listening.close)
        relay = await _relay(stack, events, settings, metrics)
        tune_garbage_collection()
        management.ready = True
        tls = settings.tls_ca_path is not None
        about = {"version": metadata.version("midas"), "env": settings.env, "tls": tls}
        _log.info("serving", extra={**_where(listening), **about, **_drain_times(settings)})
        await stop.wait()
        management.ready = False
        if settings.drain_delay:
            _log.info("not_serving", extra={"drain_delay_s": settings.drain_delay.total_seconds()})
            await stop.delay()
        _log.info("draining")
        drained = await asyncio.gather(
            _drain_intake(listening, connections, intake, settings.drain_timeout),
            relay.drain(settings.drain_timeout) if relay is not None else _nothing_to_drain(),
        )
    level = logging.INFO if all(drained) else logging.WARNING
    _log.log(level, "stopped", extra={"drained": all(drained)})


async def _serve_management(
    stack: AsyncExitStack, management: Management, settings: Settings
) -> None:
    connections = Connections(management.handle, MANAGEMENT_BOUNDS, Unmetered())
    ip, port = settings.webhook_mip, settings.webhook_mport
    try:
        listening = await asyncio.get_running_loop().create_server(connections, ip, port)
    except OSError:
        raise _no_port("WEBHOOK_MIP", "WEBHOOK_MPORT", ip, port) from None
    stack.push_async_callback(connections.shutdown, LAST_CONNECTIONS_S)
    stack.callback(listening.close)
    _log.info("management", extra=_where(listening))


async def _relay(
    stack: AsyncExitStack, events: "EventServiceAsyncStub", settings: Settings, metrics: Metrics
) -> Relay | None:
    """The relay, which runs until the stack is closed; None without an order service."""
    if not settings.order_target.strip():
        _log.warning("relay_off", extra={"setting": "ORDER_TARGET"})
        return None
    channel = grpc_channels.open_order_service(settings)
    stack.push_async_callback(channel.close)
    orders: OrderPaymentServiceAsyncStub = OrderPaymentServiceStub(channel)
    options = RelayOptions(
        concurrency=settings.relay_concurrency,
        order_timeout=timedelta(seconds=settings.order_timeout_s),
    )
    relay = Relay(events, orders, options, metrics)
    running = asyncio.create_task(_kept_running(relay))
    stack.push_async_callback(_cancelled, running)
    return relay


async def _kept_running(relay: Relay) -> None:
    """Run the relay. If it breaks, that is logged, and it is started again."""
    while True:
        try:
            await relay.run()
        except Exception as error:
            _log.exception("relay_broke", extra=failure(error))
        await asyncio.sleep(RESTART_PAUSE_S)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _listen(connections: Connections, settings: Settings) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(
            connections,
            settings.ip,
            settings.webhook_port,
            backlog=BACKLOG,
            reuse_port=settings.webhook_reuse_port or None,
        )
    except OSError:
        raise _no_port("IP", "WEBHOOK_PORT", settings.ip, settings.webhook_port) from None


def _no_port(address: str, setting: str, ip: str, port: int) -> SettingsError:
    reason = f"cannot listen on {ip}:{port}: another process has the port, or there is no such"
    return SettingsError(f"{reason} address here; set {address} and {setting} to one that is free")


async def _drain_intake(
    listening: asyncio.Server, connections: Connections, intake: Intake, timeout: timedelta
) -> bool:
    listening.close()
    await asyncio.sleep(0)  # lets connections begin that the kernel had accepted by now
    connections.close_idle()
    drained = await intake.drain(timeout)
    await connections.shutdown(LAST_CONNECTIONS_S)
    return drained


async def _nothing_to_drain() -> bool:
    return True


def _intake_bounds(settings: Settings) -> IntakeBounds:
    return IntakeBounds(
        path=settings.webhook_path,
        body_bytes=settings.webhook_body_bytes,
        body_timeout=timedelta(seconds=settings.body_timeout_s),
        concurrent=settings.concurrent_webhooks,
    )


def _where(listening: asyncio.Server) -> dict[str, object]:
    ip, port = listening.sockets[0].getsockname()[:2]
    return {"ip": ip, "port": port}


def _drain_times(settings: Settings) -> dict[str, float]:
    return {
        "drain_delay_s": settings.drain_delay.total_seconds(),
        "drain_timeout_s": settings.drain_timeout.total_seconds(),
    }
