"""The composition root: what is wired to what, and how the process starts and ends.

SIGTERM or SIGINT → health NOT_SERVING → calls are served for DRAIN_DELAY_S more, while clients that
watch health turn away → no new calls → what is under way ends, for at most DRAIN_TIMEOUT_S → Ping++
and the database are closed → exit status 0. A second signal ends the delay; any further one, and
the second one where there is no delay, ends the process at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from time import monotonic
from types import MappingProxyType
from typing import Any

from midas import limits, start
from midas.config.settings import Settings
from midas.errors import SchemaRefused, SettingsError
from midas.flows.announce import Announcer
from midas.flows.inbox import Inbox
from midas.flows.payment_calls import Payments, SystemClock
from midas.ports import Psp, Store
from midas.psp.client import PingppClient
from midas.psp.options import PspOptions
from midas.rpc import event_service, payment_service
from midas.rpc.callers import Callers
from midas.rpc.connections import name_who_holds
from midas.rpc.event_service import EventService
from midas.rpc.payment_service import PaymentService
from midas.rpc.server import Binding, Server, Services, Tls
from midas.runtime.logs import configure, failure
from midas.runtime.process import loop_factory, stop_signal, tune_garbage_collection
from midas.runtime.setting_rules import read
from midas.storage import open_store

READINESS_PAUSE_S = 2.0
"""How often the database is asked whether it answers."""
READINESS_TIMEOUT_S = 3.0
"""How long its answer may take."""
NOT_READY_AGAIN_S = 60.0
"""How often the log repeats that the process is not ready."""
RESTART_PAUSE_S = 1.0
"""How long background work that broke waits before it is started again."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """What a process serves, and what it does besides."""

    services: Services
    background: Sequence[Callable[[], Awaitable[None]]]
    """Each works until cancelled, and is begun again if it breaks."""
    drain: Callable[[timedelta], Awaitable[bool]]
    """Wait for what is under way; False if some of it did not end in time."""
    release: Callable[[], None] = lambda: None
    """End the wait of calls that only wait for something to happen."""


@dataclass(frozen=True, slots=True)
class Drain:
    """How a process ends."""

    delay: timedelta = timedelta(0)
    """How long calls are served after health has become NOT_SERVING."""
    timeout: timedelta = limits.DRAIN_TIMEOUT
    """How long calls under way may take from then on."""


def run(main: Callable[[Settings], Coroutine[Any, Any, None]]) -> int:
    """Prepare the settings, run `main` on the fastest event loop there is, give the exit status.

    0 after an orderly end, 1 after a crash. Raises SettingsError, with the sentence that says what
    to set, when a setting keeps it from starting; the logs are closed then.
    """
    logs = None
    try:
        settings = start.prepare(parts)
        logs = configure(settings.log_level)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(main(settings))
    except SettingsError:
        raise
    except Exception as error:
        _log.critical("crashed", extra=failure(error))
        return 1
    finally:
        if logs is not None:
            logs.close()
    return 0


async def serve(
    settings: Settings,
    *,
    wrap_store: Callable[[Store], Store] = lambda store: store,
    wrap_psp: Callable[[Psp], Psp] = lambda psp: psp,
) -> None:
    """Serve until SIGTERM or SIGINT. Tests bring faults in by wrapping the ports.

    Raises SettingsError when a part cannot be started as configured.
    """
    # The port comes before the migration: a process that cannot have it changes nothing.
    server = Server(binding(settings, start.open_files(settings).allow()))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        patience = timedelta(seconds=settings.commit_patience_s)
        opened = await open_store(settings.database_url.get_secret_value(), patience)
        stack.push_async_callback(opened.close)
        store = wrap_store(opened)
        psp = await stack.enter_async_context(PingppClient(_psp_options(settings)))
        payments = Payments(
            store,
            wrap_psp(psp),
            SystemClock(),
            settle_window=timedelta(seconds=settings.settle_window_s),
            expiry_grace=timedelta(seconds=settings.expiry_grace_s),
            declined_settle=timedelta(seconds=settings.declined_settle_s),
            poll_overdue=timedelta(seconds=settings.poll_overdue_s),
        )
        if settings.livemode and settings.env != "production":
            _log.warning("live_key_outside_production", extra={"env": settings.env})
        work = _work(payments, store, opened.background)
        drain = Drain(settings.drain_delay, settings.drain_timeout)
        await serve_work(work, store.check, server, drain, _about(settings))


def _about(settings: Settings) -> Mapping[str, object]:
    """What a reader of the log has to know about this process."""
    on_sqlite = settings.database_url.get_secret_value().startswith("sqlite")
    return {
        "version": metadata.version("midas"),
        "env": settings.env,
        "livemode": settings.livemode,
        "database": "sqlite" if on_sqlite else "postgresql",
    }


def _work(
    payments: Payments, store: Store, background: Sequence[Callable[[], Awaitable[None]]]
) -> Work:
    inbox = Inbox(payments.ports)
    announcer = Announcer(store, SystemClock())
    return Work(
        services={
            payment_service.SERVICE: PaymentService(payments).methods,
            event_service.SERVICE: EventService(inbox, announcer).methods,
        },
        background=(payments.run, inbox.run, *background),
        drain=payments.drain,
        release=announcer.stop_waiting,
    )


async def serve_work(
    work: Work,
    check: Callable[[], Awaitable[None]],
    server: Server,
    drain: Drain,
    about: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Serve until a signal comes, then drain. The server is bound, and not started yet.

    The process is healthy while `check` raises nothing. Once calls are accepted, `serving` is
    logged with the port and with `about`.
    """
    async with stop_signal(drain.delay) as stop:
        await server.start(work.services)
        tune_garbage_collection()
        _log.info("serving", extra={**_serving(server, drain), **about})
        working = [asyncio.create_task(_kept_running(each)) for each in work.background]
        working.append(asyncio.create_task(_readiness(server, check)))
        working.append(asyncio.create_task(name_who_holds(server.port, server.binding.connections)))
        await stop.wait()
        await server.health.drain()
        if drain.delay:
            _log.info("not_serving", extra={"drain_delay_s": drain.delay.total_seconds()})
            await stop.delay()
        for task in working:
            task.cancel()
        await _drain(server, work, drain.timeout)
        await asyncio.gather(*working, return_exceptions=True)


def parts(settings: Settings) -> None:
    """Build what is made of settings alone, to find out whether that is possible.

    Raises SettingsError where it is not possible.
    """
    PingppClient(_psp_options(settings))
    binding(settings, settings.connections)


def binding(settings: Settings, connections: int) -> Binding:
    """Where and for whom to serve. Raises SettingsError if a file cannot be read."""
    tls = None
    if settings.tls_cert_path is not None and settings.tls_key_path is not None:
        ca = settings.tls_client_ca_path
        tls = Tls(
            certificate=read(settings.tls_cert_path, "TLS_CERT_PATH"),
            key=read(settings.tls_key_path, "TLS_KEY_PATH"),
            client_ca=None if ca is None else read(ca, "TLS_CLIENT_CA_PATH"),
        )
    callers = {name: frozenset(methods) for name, methods in settings.tls_callers.items()}
    return Binding(
        ip=settings.ip,
        port=settings.port,
        tls=tls,
        callers=Callers(callers),
        concurrent_rpcs=settings.concurrent_rpcs,
        connections=connections,
    )


def _psp_options(settings: Settings) -> PspOptions:
    return PspOptions(
        api_key=settings.pingpp_api_key.get_secret_value(),
        app_id=settings.pingpp_app_id,
        private_key=settings.private_key(),
        public_keys=settings.public_keys(),
        api_base=settings.pingpp_api_base,
        connect_timeout=timedelta(seconds=settings.psp_connect_timeout_s),
        total_timeout=timedelta(seconds=settings.psp_total_timeout_s),
        concurrent_calls=settings.psp_concurrent_calls,
        concurrent_flows=settings.psp_concurrent_calls,
    )


def _serving(server: Server, drain: Drain) -> dict[str, object]:
    return {
        "ip": server.binding.ip,
        "port": server.port,
        "tls": server.binding.tls is not None,
        "drain_delay_s": drain.delay.total_seconds(),
        "drain_timeout_s": drain.timeout.total_seconds(),
    }


async def _drain(server: Server, work: Work, timeout: timedelta) -> None:
    deadline = monotonic() + timeout.total_seconds()
    _log.info("draining")
    work.release()
    left = await server.drain(timeout)
    await server.stop()
    rest = timedelta(seconds=max(0.0, deadline - monotonic()))
    drained = await work.drain(rest) and not left
    # What did not end in time is SUBMITTING on disk. Its outcome is found out after the next start.
    _log.log(logging.INFO if drained else logging.WARNING, "stopped", extra={"drained": drained})


async def _readiness(server: Server, check: Callable[[], Awaitable[None]]) -> None:
    """Give the outcome of `check` to health and to the log.

    A line is logged at each change, also if only the reason changes. While the process is not
    ready, a line is logged every NOT_READY_AGAIN_S: failing calls raise no alarm themselves.
    """
    was: dict[str, str] | None = None
    logged_at = monotonic()
    while True:
        why = await _why_not_ready(check)
        if why != was or (why and monotonic() - logged_at >= NOT_READY_AGAIN_S):
            level = logging.ERROR if why else logging.INFO
            _log.log(level, "not_ready" if why else "ready", extra=why)
            logged_at = monotonic()
        if why != was:
            await server.health.set_ready(not why)
            was = why
        await asyncio.sleep(READINESS_PAUSE_S)


async def _why_not_ready(check: Callable[[], Awaitable[None]]) -> dict[str, str]:
    """The reason as fields for the log; none if the process is ready."""
    try:
        async with asyncio.timeout(READINESS_TIMEOUT_S):
            await check()
    except SchemaRefused as error:
        return {
            "reason": "SCHEMA_REFUSED",
            "schema": error.found,
            "schema_known": error.known,
            "schema_oldest": error.oldest,
        }
    except Exception as error:
        return {"reason": "DATABASE_AWAY", **failure(error)}
    return {}


async def _kept_running(work: Callable[[], Awaitable[None]]) -> None:
    """Background work that breaks is logged and begun again: it must not end unnoticed."""
    while True:
        try:
            await work()
        except Exception as error:
            _log.exception("background_work_broke", extra=failure(error))
        await asyncio.sleep(RESTART_PAUSE_S)
