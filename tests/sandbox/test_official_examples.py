"""The stock examples of the official SDKs for Python and Node pass against the sandbox.

Charge, refund, event and webhook. Node's are run as the package on npm holds them, fetched for this
run: only the ids that stand in them are exchanged for ids that exist. Each runs in a process.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from midas.sandbox.app import SandboxOptions, SandboxServer
from midas.sandbox.channel_table import CHANNELS
from midas.sandbox.webhook_sends import Match
from tests.patience import PATIENCE_S
from tests.sandbox.conftest import KeyPair
from tests.sandbox.shop import terms
from tests.sandbox.webhook_receiver import SIGNATURE, Received, Receiver

HERE = Path(__file__).parent
PACKAGE = "pingpp@2.1.6"
API_KEY = "sk_test_ibbTe5jLGCi5rzfH4OqPW9KC"
APP_ID = "app_1Gqj58ynP0mHeX1q"
"""Those of Ping++'s public demo, which stand in every example."""


@dataclass
class Scene:
    """A sandbox with a paid charge, a refund of it and their webhooks."""

    server: SandboxServer
    charge_id: str
    refund_id: str
    event_id: str
    webhook: Received


@asynccontextmanager
async def scene(private_key: str, merchant_key: str | None) -> AsyncIterator[Scene]:
    """The account of the examples; without `merchant_key` it has request signing off."""
    async with Receiver() as receiver:
        options = SandboxOptions(
            app_id=APP_ID,
            api_key=API_KEY,
            merchant_public_key=merchant_key,
            signing_private_key=private_key,
            webhook_urls=(receiver.url,),
        )
        async with SandboxServer(options) as server:
            made = _post(server, "/v1/charges", terms("ORDER0000001", "upacp", app={"id": APP_ID}))
            server.lookalike.pay(made["id"])
            sent = {"amount": 1, "description": "d"}
            refund = _post(server, f"/v1/charges/{made['id']}/refunds", sent)
            await server.webhooks.log.until(Match(outcome="accepted"), 2)
            first = receiver.received[0]
            yield Scene(server, made["id"], refund["id"], first.event["id"], first)


def _post(server: SandboxServer, path: str, sent: dict[str, Any]) -> dict[str, Any]:
    status, answer = server.lookalike.handle("POST", path, (), json.dumps(sent).encode())
    assert status == 200, answer
    return answer


async def test_the_examples_of_the_python_sdk(
    merchant_keys: KeyPair, sandbox_keys: KeyPair, tmp_path: Path
) -> None:
    """Each of them, signed with the merchant's key, in one process."""
    key_path = tmp_path / "your_rsa_private_key.pem"
    key_path.write_text(merchant_keys.private)
    async with scene(sandbox_keys.private, merchant_keys.public) as shop:
        program = [sys.executable, str(HERE / "official_python.py")]
        account = [shop.server.url, API_KEY, APP_ID, str(key_path)]
        sent = {
            "data": shop.webhook.body.decode(),
            "sign": shop.webhook.header(SIGNATURE)[0],
            "public_key": shop.server.public_key_pem,
        }
        things = [shop.charge_id, shop.refund_id, shop.event_id]
        results = json.loads(await ran([*program, *account, *things], stdin=json.dumps(sent)))
    made = {name: results.pop(name) for name in list(results) if name.startswith("charge/create_")}
    assert len(made) == 14
    for name, charge in made.items():
        channel = name.removeprefix("charge/create_")
        assert isinstance(charge, dict), (name, charge)
        assert (channel in charge["credential"]) != CHANNELS[channel].pays_at_create, name
    listed = results.pop("charge/list")
    assert results == {
        "charge/retrieve": shop.charge_id,
        "charge/reverse": True,
        "charge_refund/create": "succeeded",
        "charge_refund/retrieve": shop.refund_id,
        "charge_refund/list": 2,
        "event": "charge.succeeded",
        "verify_demo": [True, False],
    }
    assert listed == [True, True]


@pytest.mark.long
async def test_the_examples_of_the_node_sdk(sandbox_keys: KeyPair, sdk: Sdk) -> None:
    """As they are, but for the ids in them; the two that do not sign have an account without."""
    async with scene(sandbox_keys.private, sdk.read("your_rsa_public_key.pem")) as shop:
        retrieved = await sdk.run(shop, "charge_retrieve.js")
        assert shop.charge_id in retrieved
        listed = await sdk.run(shop, "charge_list.js")
        assert "has_more: false" in listed
        promised = await sdk.run(shop, "promise.js")
        assert promised.count(shop.charge_id) >= 2
        made = _post(shop.server, "/v1/charges", terms("ORDER0000002", "wx", app={"id": APP_ID}))
        assert "reversed: true" in await sdk.run(shop, "charge_reverse.js", charge_id=made["id"])
        assert await sdk.run(shop, "webhooks_verify.js") == "verification succeeded\n"
    async with scene(sandbox_keys.private, None) as shop:
        # Both print something only if they fail. The log of the sandbox shows that it answered.
        assert await sdk.run(shop, "refund.js") == ""
        assert shop.server.lookalike.ledger.refunded(shop.charge_id) == 2
        assert await sdk.run(shop, "event.js") == ""
        (logged,) = shop.server.requests.matching("GET", f"/v1/events/{shop.event_id}")
        assert logged.status == 200


@pytest.mark.long
async def test_the_charge_of_the_node_sdk_on_each_of_its_channels(
    sandbox_keys: KeyPair, sdk: Sdk
) -> None:
    """charge_create.js once for every channel of its charge_extra.js that the sandbox has."""
    channels = re.findall(r"^  (\w+): {", sdk.read("charge_extra.js"), re.MULTILINE)
    assert len(channels) >= 30
    for channel in channels:
        async with scene(sandbox_keys.private, sdk.read("your_rsa_public_key.pem")) as shop:
            shown = await sdk.run(shop, "charge_create.js", channel=channel)
            logged = shop.server.requests.matching("POST", "/v1/charges")[-1]
            assert (logged.channel, logged.status) == (channel, 200), (channel, shown)
            credential = "credential: {}" not in shown
            assert credential != CHANNELS[channel].pays_at_create, (channel, shown)


@pytest.mark.long
async def test_the_webhook_server_of_the_node_sdk(sandbox_keys: KeyPair, sdk: Sdk) -> None:
    """webhooks_server.js takes what the sandbox sends, and answers 200."""
    async with scene(sandbox_keys.private, None) as shop:
        child = await sdk.start(shop, "webhooks_server.js")
        try:
            assert child.stdout is not None
            port = int((await child.stdout.readline()).split()[-1])
            shop.server.webhooks.urls = (f"http://127.0.0.1:{port}/",)
            made = _post(
                shop.server, "/v1/charges", terms("ORDER0000002", "wx", app={"id": APP_ID})
            )
            shop.server.lookalike.pay(made["id"])
            await shop.server.webhooks.log.until(Match(outcome="accepted"), 3)
        finally:
            child.kill()
            await child.wait()


@dataclass(frozen=True)
class Sdk:
    """The package of the official Node SDK."""

    folder: Path

    def read(self, name: str) -> str:
        """A file beside its examples."""
        return (self.folder / "example" / name).read_text()

    async def run(self, shop: Scene, example: str, **changed: str) -> str:
        """What the example prints."""
        return await ran(self._command(shop, example, **changed), env=self._environment(shop))

    async def start(self, shop: Scene, example: str) -> asyncio.subprocess.Process:
        """The example as a process that goes on."""
        pipe, environment = asyncio.subprocess.PIPE, self._environment(shop)
        command = self._command(shop, example)
        return await asyncio.create_subprocess_exec(*command, stdout=pipe, env=environment)

    def _environment(self, shop: Scene) -> dict[str, str]:
        port = shop.server.url.rpartition(":")[2]
        return {**os.environ, "MIDAS_SDK": str(self.folder), "MIDAS_SANDBOX_PORT": port}

    def _command(self, shop: Scene, example: str, **changed: str) -> list[str]:
        """With the ids of this sandbox in the places where the example has some of its own."""
        text = self.read(example)
        text = re.sub(r"ch_\w{24}", changed.get("charge_id", shop.charge_id), text)
        text = re.sub(r"evt_\w{24}(?=')", shop.event_id, text)
        text = text.replace("channel = 'alipay'", f"channel = '{changed.get('channel')}'")
        if example == "webhooks_verify.js":
            text = re.sub(r"raw_data = '.*'", lambda _: f"raw_data = {_quoted(shop)}", text)
            signature = shop.webhook.header(SIGNATURE)[0]
            text = re.sub(r"signature = '.*'", f"signature = '{signature}'", text)
            key = self.folder / "example" / "pingpp_rsa_public_key.pem"
            key.write_text(shop.server.public_key_pem)
        copy = self.folder / "example" / f"our_{example}"
        copy.write_text(text)
        return ["node", "-r", str(HERE / "official_node.cjs"), str(copy)]


def _quoted(shop: Scene) -> str:
    return json.dumps(shop.webhook.body.decode(), ensure_ascii=False)


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Sdk:
    """The package, fetched from npm for this run."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("needs node and npm, which .ci/run installs")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--silent", "--no-save", "--prefix", str(folder), PACKAGE]
    fetched = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if fetched.returncode != 0:
        pytest.skip(f"npm cannot fetch {PACKAGE} here: {fetched.stderr.strip()[-200:]}")
    return Sdk(folder / "node_modules" / "pingpp")


async def ran(command: list[str], stdin: str = "", env: dict[str, str] | None = None) -> str:
    """What it prints; it must end by itself, with 0."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=pipe, env=env
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, errors = await child.communicate(stdin.encode())
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0, errors.decode()
    return out.decode()
