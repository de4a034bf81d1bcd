"""The whole gateway as a process: start, webhooks, numbers, signals, end."""

import asyncio
import json
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib import metadata
from pathlib import Path

import grpc
import pytest
from grpc import aio

from midas.v1 import event_service_pb2 as events
from midas.v1.event_service_pb2_grpc import add_EventServiceServicer_to_server
from tests.gateway.account import Account, event_body
from tests.gateway.events_double import EventsDouble, served
from tests.gateway.gateway_process import Gateway, launched, refused, serving
from tests.gateway.intake_stage import request, until
from tests.patience import PATIENCE_S
from tests.rpc.certificates import Authority
from webhook_gateway.app import MANAGEMENT_BOUNDS
from webhook_gateway.start import OTHER_FILES

ACCOUNT = Account()
BODY = event_body("evt_secret", note="6222-secret")
SIGNATURE = ACCOUNT.sign(BODY)
IDLE = 1000


@pytest.fixture
def midas() -> EventsDouble:
    """Midas behind the gateway."""
    return EventsDouble()


@pytest.fixture
async def settings(midas: EventsDouble, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """What a gateway before this Midas needs."""
    async with served(midas) as port:
        yield {
            "MIDAS_TARGET": f"127.0.0.1:{port}",
            "PINGPP_PUBLIC_KEY_PATHS": str(ACCOUNT.key_file(tmp_path)),
        }


def holding(midas: EventsDouble) -> asyncio.Event:
    """RecordEvent answers when this is set."""
    release = asyncio.Event()

    async def script(_: events.RecordEventRequest) -> events.RecordEventResponse:
        await release.wait()
        return events.RecordEventResponse(outcome=events.EVENT_OUTCOME_ACCEPTED)

    midas.script = script
    return release


async def test_webhooks_are_taken_counted_and_logged(
    midas: EventsDouble, settings: dict[str, str]
) -> None:
    """One line each, with neither body nor signature in it; the numbers stand on the other port."""
    async with serving(**settings) as gateway:
        assert (await gateway.post(BODY, SIGNATURE)).status == 200
        assert (await gateway.post(BODY + b" ", SIGNATURE)).status == 401
        status, numbers = await gateway.get("/metrics")
        assert status == 200
        total = "webhook_gateway_webhooks_total"
        assert f'{total}{{outcome="accepted",status="200"}} 1.0' in numbers
        assert f'{total}{{outcome="bad_signature",status="401"}} 1.0' in numbers
        assert 'events_total{key="pingpp",type="charge.succeeded"} 1.0' in numbers
        assert "webhook_gateway_record_event_seconds_count 1.0" in numbers
        assert "process_cpu_seconds_total" in numbers
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.ended() == 0
    lines = [line for line in gateway.log if line["event"] == "webhook"]
    assert [(each["status"], each["verdict"]) for each in lines] == [
        (200, "accepted"),
        (401, "bad_signature"),
    ]
    assert lines[0]["kind"] == "charge.succeeded"
    assert all(each["duration_ms"] >= 0 for each in lines)
    assert gateway.log[-1] | {"time": ""} == {
        "time": "", "level": "info", "event": "stopped", "drained": True,
    }  # fmt: skip
    for secret in ("6222-secret", SIGNATURE[:40]):
        assert secret not in json.dumps(gateway.log)


async def test_the_log_line_names_event_and_key(
    midas: EventsDouble, settings: dict[str, str]
) -> None:
    """Which event it was, and (W11) which key had signed it."""
    async with serving(**settings) as gateway:
        await gateway.post(BODY, SIGNATURE)
        line = await gateway.logged("webhook")
        assert (line["event_id"], line["key"]) == ("evt_secret", "pingpp")


async def test_health_and_readiness(midas: EventsDouble, settings: dict[str, str]) -> None:
    """A gateway whose Midas is down stays ready, shows its state, and answers 503 by itself."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
    async with serving(**settings | {"MIDAS_TARGET": nobody}) as gateway:
        assert (await gateway.get("/healthz"))[0] == 200
        status, state = await gateway.get("/readyz")
        assert status == 200
        assert json.loads(state)["ready"] is True
        assert json.loads(state)["midas"] in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        assert (await gateway.post(BODY, SIGNATURE)).status == 503
        assert (await gateway.get("/other"))[0] == 404
    async with serving(**settings) as gateway:
        line = next(each for each in gateway.log if each["event"] == "serving")
        assert (line["version"], line["env"]) == (metadata.version("midas"), "development")
        assert (await gateway.post(BODY, SIGNATURE)).status == 200
        while json.loads((await gateway.get("/readyz"))[1]) != {"ready": True, "midas": "READY"}:
            pass  # on a busy machine Midas's answer may come too late


async def test_sigterm_lets_webhooks_end(midas: EventsDouble, settings: dict[str, str]) -> None:
    """Not ready first, nothing new, then the webhook under way gets its 200, then status 0."""
    release = holding(midas)
    async with serving(**settings) as gateway:
        under_way = asyncio.create_task(gateway.post(BODY, SIGNATURE))
        await until(lambda: len(midas.recorded) == 1)
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.logged("draining")
        assert (await gateway.get("/readyz"))[0] == 503
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", gateway.port)
        assert not under_way.done()
        release.set()
        answer = await under_way
        assert answer.status == 200
        assert "Connection: close" in answer.head
        assert await gateway.ended() == 0
    assert gateway.log[-1]["drained"] is True


async def test_the_drain_is_bounded(midas: EventsDouble, settings: dict[str, str]) -> None:
    """A webhook that takes too long is cut: no answer is no 2xx, and the end is orderly."""
    holding(midas)
    async with serving(**settings, DRAIN_TIMEOUT_S="0.2", RECORD_EVENT_TIMEOUT_S="60") as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(BODY, SIGNATURE))
        await until(lambda: len(midas.recorded) == 1)
        gateway.process.send_signal(signal.SIGINT)
        assert await gateway.ended() == 0
        writer.close()
    assert gateway.log[-1]["drained"] is False


async def test_a_second_signal_ends_it_at_once(
    midas: EventsDouble, settings: dict[str, str]
) -> None:
    """An operator in a hurry does not wait for the drain, and the status shows that it was cut."""
    holding(midas)
    async with serving(**settings, RECORD_EVENT_TIMEOUT_S="60", DRAIN_TIMEOUT_S="60") as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(BODY, SIGNATURE))
        await until(lambda: len(midas.recorded) == 1)
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.logged("draining")
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.ended() == 128 + signal.SIGTERM
        writer.close()


async def test_w10_m17_without_a_good_key_nothing_starts(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """Status 2 and one sentence with what to set."""
    empty, garbage = tmp_path / "empty.pem", tmp_path / "garbage.pem"
    empty.write_bytes(b"\n")
    garbage.write_bytes(b"garbage")
    good = settings["PINGPP_PUBLIC_KEY_PATHS"]
    for paths in ("", " ,", str(empty), str(garbage), f"{good},{tmp_path / 'none.pem'}"):
        sentence = await refused(**settings | {"PINGPP_PUBLIC_KEY_PATHS": paths})
        assert sentence.startswith("webhook-gateway: PINGPP_PUBLIC_KEY_PATHS"), sentence


async def test_a_taken_port_is_a_sentence(settings: dict[str, str]) -> None:
    """For either port; the process that has it is not disturbed."""
    async with serving(**settings) as first:
        sentence = await refused(**settings, WEBHOOK_PORT=str(first.port))
        assert f"cannot listen on 127.0.0.1:{first.port}" in sentence
        assert "WEBHOOK_PORT" in sentence
        assert "WEBHOOK_MPORT" in await refused(**settings, WEBHOOK_MPORT=str(first.mport))
        assert (await first.post(BODY, SIGNATURE)).status == 200


async def test_several_processes_share_the_port(
    midas: EventsDouble, settings: dict[str, str]
) -> None:
    """The kernel spreads connections over them; when one ends the other takes all of them."""
    shared = settings | {"WEBHOOK_REUSE_PORT": "true"}
    async with serving(**shared) as first:
        async with serving(**shared, WEBHOOK_PORT=str(first.port)) as second:
            assert second.port == first.port
            for _ in range(64):
                assert (await first.post(BODY, SIGNATURE)).status == 200
            for each in (first, second):
                assert 'outcome="accepted"' in (await each.get("/metrics"))[1]
            second.process.send_signal(signal.SIGTERM)
            assert await second.ended() == 0
        for _ in range(8):
            assert (await first.post(BODY, SIGNATURE)).status == 200


async def test_the_relay_is_off_without_an_order_service(settings: dict[str, str]) -> None:
    """With a warning that names the setting; with a target it runs and ends with the process."""
    async with launched(**settings) as gateway:
        line = await gateway.logged("relay_off")
        assert (line["level"], line["setting"]) == ("warning", "ORDER_TARGET")
        await gateway.logged("serving")
    async with serving(**settings, ORDER_TARGET="127.0.0.1:1") as gateway:
        assert "relay_off" not in [line["event"] for line in gateway.log]
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.ended() == 0
    assert gateway.log[-1]["drained"] is True


async def test_mutual_tls_towards_midas(midas: EventsDouble, tmp_path: Path) -> None:
    """With the gateway's certificate it is let in; without one its webhooks get a 503."""
    authority = Authority()
    server, client = authority.issue("midas"), authority.issue("gateway")
    files = {"ca": authority.pem, "cert": client.certificate, "key": client.key}
    for name, content in files.items():
        (tmp_path / f"{name}.pem").write_bytes(content)
    async with AsyncExitStack() as stack:
        port = await served_with_tls(stack, midas, authority, server.key, server.certificate)
        settings = {
            "ENV": "production",
            "MIDAS_TARGET": f"127.0.0.1:{port}",
            "PINGPP_PUBLIC_KEY_PATHS": str(ACCOUNT.key_file(tmp_path)),
            "TLS_CA_PATH": str(tmp_path / "ca.pem"),
        }
        own = {
            "TLS_CERT_PATH": str(tmp_path / "cert.pem"), "TLS_KEY_PATH": str(tmp_path / "key.pem"),
        }  # fmt: skip
        async with serving(**settings, **own) as gateway:
            assert (await gateway.post(BODY, SIGNATURE)).status == 200
        async with serving(**settings) as gateway:
            assert (await gateway.post(BODY, SIGNATURE)).status == 503
    assert len(midas.recorded) == 1


async def served_with_tls(
    stack: AsyncExitStack, midas: EventsDouble, authority: Authority, key: bytes, cert: bytes
) -> int:
    """The port of a server that lets nobody in without a certificate of this authority."""
    served_by = aio.server()
    add_EventServiceServicer_to_server(midas, served_by)
    credentials = grpc.ssl_server_credentials([(key, cert)], authority.pem, True)
    port = served_by.add_secure_port("127.0.0.1:0", credentials)
    await served_by.start()
    stack.push_async_callback(served_by.stop, 0)
    return port


@pytest.fixture
def many_files() -> None:
    """Lets this process open so many connections; skips where it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * IDLE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@pytest.mark.parametrize("bound", ["1024", "500"])
@pytest.mark.usefixtures("many_files")
async def test_w13_a_good_webhook_is_answered_beside_1000_idle_connections(
    settings: dict[str, str], bound: str
) -> None:
    """A third send nothing, a third stop in the head, a third in the body; above the bound too."""
    head = request(BODY, SIGNATURE)[:60]
    almost = request(BODY, SIGNATURE)[:-1]
    async with serving(**settings, WEBHOOK_CONNECTIONS=bound, BODY_TIMEOUT_S="60") as gateway:
        idle = []
        for start in range(IDLE):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write((b"", head, almost)[start % 3])
            idle.append(writer)
        # the machine may be busy with other things: the quickest of some counts
        assert min([await seconds_of_a_webhook(gateway) for _ in range(5)]) < 1.0
        for writer in idle:
            writer.close()


async def test_few_open_files_are_taken_as_they_are(settings: dict[str, str]) -> None:
    """Where the machine allows fewer than WEBHOOK_CONNECTIONS needs it starts, logs it, and works.

    1,024 is the hard limit of many containers, and 132 leaves four connections.
    """
    async with serving(1024, **settings) as gateway:
        (limited,) = [line for line in gateway.log if line["event"] == "connections_limited"]
        assert (limited["level"], limited["count"]) == ("warning", 1024 - OTHER_FILES)
        assert (await gateway.post(BODY, SIGNATURE)).status == 200
    async with serving(OTHER_FILES + 4, **settings) as gateway:
        idle = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(20)]
        assert (await gateway.post(BODY, SIGNATURE)).status == 200
        assert "connections_evicted_total 17.0" in (await gateway.get("/metrics"))[1]
        for _, writer in idle:
            writer.close()


async def test_enough_open_files_are_not_logged(settings: dict[str, str]) -> None:
    """The soft limit is raised without a word, and a lower setting needs fewer."""
    async with serving(1024, **settings, WEBHOOK_CONNECTIONS="100") as gateway:
        assert not [line for line in gateway.log if line["event"] == "connections_limited"]


async def test_no_open_files_for_connections_is_a_sentence(settings: dict[str, str]) -> None:
    """It does not start only where it could take no connection at all."""
    sentence = await refused(OTHER_FILES, **settings)
    assert "this process may open 128" in sentence
    assert "ulimit -n" in sentence


async def test_the_management_port_takes_more_probes_than_it_keeps(
    settings: dict[str, str],
) -> None:
    """Idle connections make room for a probe; those of the webhook port are not touched."""
    many = 3 * MANAGEMENT_BOUNDS.most
    async with serving(**settings) as gateway:
        idle = [await asyncio.open_connection("127.0.0.1", gateway.mport) for _ in range(many)]
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await gateway.get(path))[0] == 200
        for reader, _ in idle[: many - 2 * MANAGEMENT_BOUNDS.most]:
            assert await reader.read() == b""
        assert "connections_evicted_total 0.0" in (await gateway.get("/metrics"))[1]
        assert (await gateway.get("/other"))[0] == 404
        for _, writer in idle:
            writer.close()


async def test_the_management_port_has_an_address_of_its_own(settings: dict[str, str]) -> None:
    """Opening the webhook port to the world does not open the other one."""
    async with serving(**settings, IP="0.0.0.0") as gateway:
        (management,) = [line for line in gateway.log if line["event"] == "management"]
        assert (management["ip"], gateway.log[-1]["ip"]) == ("127.0.0.1", "0.0.0.0")
    async with serving(**settings, WEBHOOK_MIP="0.0.0.0") as gateway:
        (management,) = [line for line in gateway.log if line["event"] == "management"]
        assert (management["ip"], gateway.log[-1]["ip"]) == ("0.0.0.0", "127.0.0.1")


async def test_webhooks_are_taken_during_the_delay(settings: dict[str, str]) -> None:
    """Not ready at once; a second signal ends the delay and not the process."""
    async with serving(**settings, DRAIN_DELAY_S="3000") as gateway:
        assert gateway.log[-1]["drain_delay_s"] == 3000
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.logged("not_serving")
        assert (await gateway.get("/readyz"))[0] == 503
        assert (await gateway.post(BODY, SIGNATURE)).status == 200
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.ended() == 0
    assert gateway.log[-1]["drained"] is True


async def seconds_of_a_webhook(gateway: Gateway) -> float:
    """How long a good one takes, on a connection of its own."""
    started = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        assert (await gateway.post(BODY, SIGNATURE)).status == 200
    return time.monotonic() - started
