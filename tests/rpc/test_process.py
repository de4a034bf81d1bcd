"""The server as a process: how it starts, drains and ends."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from midas.start import OTHER_FILES
from midas.v1 import errors_pb2
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub
from tests.patience import PATIENCE_S
from tests.rpc.scripted import charge_request, error_of

ROOT = Path(__file__).resolve().parent.parent.parent
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class Process:
    """A running server."""

    process: asyncio.subprocess.Process
    log: list[dict[str, Any]] = field(default_factory=list)

    async def logged(self, event: str) -> dict[str, Any]:
        """The next line with this event."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == event:
                return self.log[-1]
        raise AssertionError(f"the process ended without {event}: {self.log}")

    async def ended(self) -> int:
        """The exit status."""
        assert self.process.stderr is not None
        rest = (await self.process.stderr.read()).decode()
        self.log += [json.loads(line) for line in rest.splitlines()]
        return await self.process.wait()


@asynccontextmanager
async def started(*arguments: str, **variables: str) -> AsyncIterator[Process]:
    """A Python process with these settings, ended at the end."""
    env = {"PATH": os.environ["PATH"], "PINGPP_API_KEY": "sk_test_x", "PINGPP_APP_ID": "app_1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT,
        env=env | {"PORT": "0"} | variables,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def midas_serve(**variables: str) -> Any:
    """`midas serve`."""
    return started("-m", "midas", "serve", **variables)


def slow_server(seconds: float, **variables: str) -> Any:
    """A server whose charges take so long."""
    return started("-m", "tests.rpc.slow_server", str(seconds), **variables)


async def serving(watch: Any) -> None:
    """Wait until health answers SERVING."""
    while (await watch.read()).status != SERVING:
        pass


async def test_sigterm_lets_calls_end() -> None:
    """NOT_SERVING first, then the call under way gets its answer, then exit status 0."""
    async with slow_server(0.7) as midas:
        port = (await midas.logged("serving"))["port"]
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest())
            await serving(watch)
            call = asyncio.ensure_future(PaymentServiceStub(channel).Charge(charge_request()))
            await midas.logged("charge_under_way")
            midas.process.send_signal(signal.SIGTERM)
            assert (await watch.read()).status == NOT_SERVING
            assert not call.done()
            assert (await call).charge_json
        assert await midas.ended() == 0
    assert midas.log[-1]["drained"] is True
    calls = [line for line in midas.log if line["event"] == "call"]
    assert [(each["code"], each["order_no"]) for each in calls] == [("OK", "o-1")]


async def test_the_drain_is_bounded() -> None:
    """A call that takes too long is cut; the end is orderly and logged as not complete."""
    async with slow_server(60, DRAIN_TIMEOUT_S="0.2") as midas:
        port = (await midas.logged("serving"))["port"]
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = asyncio.ensure_future(PaymentServiceStub(channel).Charge(charge_request()))
            await midas.logged("charge_under_way")
            midas.process.send_signal(signal.SIGINT)
            status = await error_of(call)
            assert status.code is StatusCode.UNKNOWN
            assert status.detail.money_moved == errors_pb2.MONEY_MOVED_UNKNOWN
        assert await midas.ended() == 0
    assert midas.log[-1]["drained"] is False


async def test_a_second_signal_ends_it_at_once() -> None:
    """An operator in a hurry does not wait for the drain, and the status shows that it was cut."""
    async with slow_server(60) as midas:
        port = (await midas.logged("serving"))["port"]
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = asyncio.ensure_future(PaymentServiceStub(channel).Charge(charge_request()))
            await midas.logged("charge_under_way")
            midas.process.send_signal(signal.SIGTERM)
            await midas.logged("draining")
            midas.process.send_signal(signal.SIGTERM)
            assert await midas.ended() == 128 + signal.SIGTERM
            with pytest.raises(aio.AioRpcError):
                await call


async def test_calls_are_served_during_the_delay() -> None:
    """NOT_SERVING at once, calls for as long as the delay lasts; a second signal ends the delay."""
    async with slow_server(0, DRAIN_DELAY_S="3000") as midas:
        started_as = await midas.logged("serving")
        assert (started_as["drain_delay_s"], started_as["drain_timeout_s"]) == (3000, 20)
        async with aio.insecure_channel(f"127.0.0.1:{started_as['port']}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            await serving(health.Watch(health_pb2.HealthCheckRequest()))
            midas.process.send_signal(signal.SIGTERM)
            assert (await midas.logged("not_serving"))["drain_delay_s"] == 3000
            answer = await health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == NOT_SERVING
            assert (await PaymentServiceStub(channel).Charge(charge_request())).charge_json
        midas.process.send_signal(signal.SIGTERM)
        assert await midas.ended() == 0
    assert midas.log[-1]["drained"] is True


async def test_a_third_signal_ends_it_at_once() -> None:
    """The second one ended the delay; the drain that follows is ended like any other."""
    async with slow_server(60, DRAIN_DELAY_S="3000") as midas:
        port = (await midas.logged("serving"))["port"]
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = asyncio.ensure_future(PaymentServiceStub(channel).Charge(charge_request()))
            await midas.logged("charge_under_way")
            for line in ("not_serving", "draining"):
                midas.process.send_signal(signal.SIGTERM)
                await midas.logged(line)
            midas.process.send_signal(signal.SIGTERM)
            assert await midas.ended() == 128 + signal.SIGTERM
            with pytest.raises(aio.AioRpcError):
                await call


async def test_a_second_process_on_the_port_does_not_start(tmp_path: Path) -> None:
    """It prints what to set and exits with 2; the first one is not disturbed."""
    database = f"sqlite:///{tmp_path}/midas.sqlite3"
    async with slow_server(0) as midas:
        port = (await midas.logged("serving"))["port"]
        async with midas_serve(PORT=str(port), DATABASE_URL=database) as second:
            assert second.process.stderr is not None
            printed = (await second.process.stderr.read()).decode()
            assert await second.process.wait() == 2
            assert "midas: cannot listen on 127.0.0.1" in printed
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await PaymentServiceStub(channel).Charge(charge_request())


async def test_few_open_files_leave_room_for_the_rest(tmp_path: Path) -> None:
    """Where 1,024 are allowed, connections get what the database and Ping++ leave over.

    Idle ones fill that up; who is connected is served, and so is the next one when they have gone.
    """
    database = f"sqlite:///{tmp_path}/midas.sqlite3"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))"
    main = f"{limit}; import sys; from midas.app import run, serve; sys.exit(run(serve))"
    async with started("-c", main, DATABASE_URL=database) as midas:
        port = (await midas.logged("serving"))["port"]
        (line,) = [each for each in midas.log if each["event"] == "connections_limited"]
        assert (line["level"], line["count"]) == ("warning", 1024 - 256 - OTHER_FILES)
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            await health.Check(health_pb2.HealthCheckRequest())
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(line["count"])]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            await health.Check(health_pb2.HealthCheckRequest())
            for _, each in [*idle, (reader, writer)]:
                each.close()
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)


async def test_a_settings_mistake_is_a_sentence() -> None:
    """Standard error holds the sentence and nothing else; the exit status is 2."""
    async with midas_serve(PINGPP_APP_ID="") as midas:
        assert midas.process.stderr is not None
        printed = (await midas.process.stderr.read()).decode()
        assert await midas.process.wait() == 2
    assert printed.startswith("midas: PINGPP_APP_ID")
    assert printed.splitlines()[1:] == ["  Nothing was started."]


async def test_the_whole_of_midas_starts_and_ends(tmp_path: Path) -> None:
    """Store, Ping++ client and server come up together, get healthy, and close in order."""
    main = "import sys; from midas.app import run, serve; sys.exit(run(serve))"
    database = f"sqlite:///{tmp_path}/midas.sqlite3"
    async with started("-c", main, DATABASE_URL=database) as midas:
        port = (await midas.logged("serving"))["port"]
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            await serving(watch)
            midas.process.send_signal(signal.SIGTERM)
            assert (await watch.read()).status == NOT_SERVING
        assert await midas.ended() == 0
    assert midas.log[-1]["drained"] is True
