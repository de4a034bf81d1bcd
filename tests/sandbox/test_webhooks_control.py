"""Webhooks operated from another process, through the control API and the command line."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.sandbox.conftest import KeyPair
from tests.sandbox.shop import terms
from tests.sandbox.test_control import Remote
from tests.sandbox.webhook_receiver import Receiver
from tests.sandbox.webhook_stage import Stage, staged

STOP_S = 120


@pytest.fixture
async def stage(sandbox_keys: KeyPair) -> AsyncIterator[Stage]:
    """A sandbox and its receiver."""
    async with staged(sandbox_keys.private) as made:
        yield made


@pytest.fixture
async def remote(stage: Stage) -> AsyncIterator[Remote]:
    """The sandbox from another process."""
    headers = {"Authorization": f"Bearer {stage.server.options.key()}"}
    async with aiohttp.ClientSession(stage.server.url, headers=headers) as session:
        yield Remote(session)


async def test_waiting_for_a_delivery(stage: Stage, remote: Remote) -> None:
    """One request waits until the webhook was accepted, and shows each send."""
    stage.receiver.answers.append(503)
    wait = "deliveries?outcome=accepted&type=charge.succeeded&order_no=ORDER0000001&wait_s=30"
    waiting = asyncio.create_task(remote.get(wait))
    await remote.charge()
    await remote.post("pay", order_no="ORDER0000001")
    refused = await remote.get("deliveries?outcome=pending&sends=1&wait_s=30")
    assert refused["deliveries"][0]["next_send_at"] > 0
    await remote.post("clock", advance_s=5.1)
    (delivery,) = (await waiting)["deliveries"]
    assert [send["status"] for send in delivery["sends"]] == [503, 200]
    assert delivery["url"] == stage.receiver.url
    assert (await remote.get("webhooks"))["accepted"] == 1


async def test_waiting_in_vain_ends(remote: Remote) -> None:
    """After `wait_s` the answer is what there is."""
    assert await remote.get("deliveries?wait_s=0.01") == {"count": 0, "deliveries": []}
    assert await remote.get("deliveries") == {"count": 0, "deliveries": []}


async def test_urls_faults_and_failed_payments(stage: Stage, remote: Remote) -> None:
    """All from outside: another URL, a fault of webhooks, a payment that fails."""
    async with Receiver() as other:
        assert (await remote.post("webhooks", urls=[other.url]))["urls"] == [other.url]
        fault = {"kind": "webhook_duplicate", "times": 2}
        await remote.post("faults", match={"event": "charge.failed"}, action=fault)
        charge = await remote.charge()
        failed = await remote.post("fail-payment", charge_id=charge["id"], msg="不行")
        assert failed["failure_msg"] == "不行"
        await remote.get("deliveries?outcome=accepted&count=2&wait_s=30")
        assert [one.event["type"] for one in other.received] == ["charge.failed"] * 2
    assert stage.receiver.received == []


async def test_the_test_tool_and_resending(stage: Stage, remote: Remote) -> None:
    """Samples, whole events and repeats by hand, forged on demand, answered with the statuses."""
    asked = {"object": {"order_no": "never1"}, "livemode": False, "times": 2}
    answer = await remote.post("webhooks/send", sample="charge.succeeded", **asked)
    assert [reply["status"] for reply in answer["replies"]] == [200, 200]
    assert stage.receiver.received[0].about["order_no"] == "never1"
    assert stage.receiver.received[0].event == answer["event"]
    await remote.post("webhooks/send", event={"id": "evt_x", "type": "odd"}, how="unsigned")
    assert stage.receiver.received[2].event == {"id": "evt_x", "type": "odd"}
    assert not stage.genuine(stage.receiver.received[2])
    stage.pay()
    await stage.accepted()
    event_id = stage.receiver.received[3].event["id"]
    stage.receiver.answers.append(418)
    assert (await remote.post("webhooks/resend", event_id=event_id))["replies"][0]["status"] == 418


async def test_keys_are_prepared_and_rotated(stage: Stage, remote: Remote) -> None:
    """The next key is shown first, and in use after the rotation, for answers too."""
    old = stage.server.public_key_pem
    prepared = await remote.post("next-key")
    assert prepared["path"] is None
    assert stage.server.public_key_pem == old
    assert (await remote.post("rotate-key"))["public_key"] == prepared["public_key"]
    async with remote.session.get("/_sandbox/public-key") as response:
        assert await response.text() == prepared["public_key"]
    stage.pay()
    (received,) = await stage.accepted()
    assert received.verifies(prepared["public_key"])


async def test_reset_keeps_the_urls(stage: Stage, remote: Remote) -> None:
    """Pending repeats are forgotten, the place where webhooks go is not."""
    stage.receiver.answers.append(500)
    stage.pay()
    await stage.until(sends=1)
    await remote.post("reset")
    state = await remote.get("webhooks")
    assert state == {"urls": [stage.receiver.url], "pending": 0, "accepted": 0, "given_up": 0}


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("webhooks", {}, 400),
        ("webhooks", {"urls": "http://x/"}, 409),
        ("webhooks", {"urls": ["x"]}, 409),
        ("webhooks", {"urls": [1]}, 409),
        ("webhooks", {"urls": [f"http://h{n}/" for n in range(21)]}, 409),
        ("webhooks/send", {}, 400),
        ("webhooks/send", {"event": [1]}, 400),
        ("webhooks/send", {"sample": "charge.succeeded", "how": "badly"}, 409),
        ("webhooks/send", {"sample": "charge.succeeded", "how": []}, 400),
        ("webhooks/resend", {"event_id": "evt_x"}, 409),
        ("webhooks/resend", {"event_id": "evt_x", "maybe": 1}, 400),
        ("fail-payment", {"charge_id": "ch_x"}, 409),
    ],
)
async def test_senseless_controls_are_refused(
    stage: Stage, remote: Remote, path: str, sent: object, status: int
) -> None:
    """With a sentence; nothing is sent and the URLs stay."""
    answered, sentence = await remote.refused(path, sent)
    assert answered == status
    assert sentence
    assert stage.receiver.received == []
    assert stage.server.webhooks.urls == (stage.receiver.url,)


@pytest.mark.parametrize("query", ["outcome=perhaps", "colour=red", "wait_s=61", "wait_s=nan"])
async def test_senseless_questions_are_refused(remote: Remote, query: str) -> None:
    """An unknown member or value is named instead of matching nothing."""
    async with remote.session.get(f"/_sandbox/deliveries?{query}") as response:
        assert response.status == 409


def read(path: str) -> str:
    """What is in the file."""
    return Path(path).read_text()


class Child:
    """`midas sandbox` as a process of its own."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-W", "error", "-m", "midas", "sandbox", "--port", "0"]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        self.printed: list[str] = []

    async def __aenter__(self) -> Child:
        await asyncio.to_thread(self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.kill()
        await asyncio.to_thread(self.process.wait)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def setting(self, name: str) -> str:
        """The value that it printed for this variable."""
        (line,) = [line for line in self.printed if line.startswith(f"export {name}=")]
        return line.partition("=")[2]

    async def ended(self, number: signal.Signals) -> int:
        """The exit status after this signal."""
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, STOP_S)

    async def call(self, path: str, sent: dict[str, Any] | None = None) -> Any:
        """One request with the right key."""
        body = b"" if sent is None else json.dumps(sent).encode()
        headers = self._headers(path, body)
        async with aiohttp.ClientSession(self.setting("PINGPP_API_BASE"), headers=headers) as http:
            method = "GET" if sent is None else "POST"
            async with http.request(method, path, data=body) as response:
                assert response.status == 200, await response.text()
                return await response.json()

    async def pay(self) -> None:
        """A new charge that is paid."""
        charge = await self.call("/v1/charges", terms())
        await self.call("/_sandbox/pay", {"charge_id": charge["id"]})

    def _headers(self, path: str, body: bytes) -> dict[str, str]:
        now = str(int(time.time()))
        pem = Path(self.setting("PINGPP_PRIVATE_KEY_PATH")).read_bytes()
        key = load_pem_private_key(pem, password=None)
        assert isinstance(key, rsa.RSAPrivateKey)
        signed = key.sign(body + (path + now).encode(), padding.PKCS1v15(), hashes.SHA256())
        return {
            "Authorization": f"Bearer {self.setting('PINGPP_API_KEY')}",
            "Pingplusplus-Request-Timestamp": now,
            "Pingplusplus-Signature": base64.b64encode(signed).decode(),
        }

    def _read(self) -> None:
        assert self.process.stdout is not None
        while not self.printed or not self.printed[-1].startswith(
            ("# Webhooks go", "# No webhooks")
        ):
            line = self.process.stdout.readline()
            assert line, f"it ended after {self.printed}"
            self.printed.append(line.rstrip())


async def test_a_killed_sandbox_sends_what_it_owes_when_it_is_back(tmp_path: Path) -> None:
    """SIGKILL with a repeat pending; the next process on the ledger sends the same bytes."""
    ledger = str(tmp_path / "ledger.jsonl")
    async with Receiver() as receiver:
        receiver.status = 503
        options = ["--ledger", ledger, "--webhook-url", receiver.url, "--time-scale", "0.001"]
        async with Child(*options) as first:
            await first.pay()
            await receiver.arrivals(1)
            await first.call("/_sandbox/deliveries?sends=1&wait_s=30")
            await first.ended(signal.SIGKILL)
        receiver.status = 200
        async with Child(*options) as second:
            found = await second.call("/_sandbox/deliveries?outcome=accepted&wait_s=30")
            assert found["count"] == 1
            key = read(second.setting("PINGPP_PUBLIC_KEY_PATHS"))
            assert receiver.received[1].verifies(key)
            assert receiver.received[1].body == receiver.received[0].body


async def test_the_printed_key_verifies_and_nothing_holds_up_the_end() -> None:
    """The printed file holds the right key; SIGTERM while sends are pending ends with status 0."""
    async with Receiver() as receiver, Child("--webhook-url", receiver.url) as child:
        receiver.status = 500
        await child.pay()
        await child.call("/_sandbox/deliveries?outcome=pending&sends=1&wait_s=30")
        key = read(child.setting("PINGPP_PUBLIC_KEY_PATHS"))
        assert receiver.received[0].verifies(key)
        prepared = await child.call("/_sandbox/next-key", {})
        assert read(prepared["path"]) == prepared["public_key"] != key
        receiver.open.clear()
        sample = {"sample": "charge.succeeded"}
        sending = asyncio.create_task(child.call("/_sandbox/webhooks/send", sample))
        await receiver.arrivals(2)
        assert await child.ended(signal.SIGTERM) == 0
        assert (await sending)["replies"][0]["status"] is None


def test_a_url_that_is_none_is_refused() -> None:
    """Status 2 and a sentence instead of a traceback."""
    command = [sys.executable, "-m", "midas", "sandbox", "--port", "0", "--webhook-url", "gateway"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "not an http or https URL" in done.stderr
    assert "Traceback" not in done.stderr
