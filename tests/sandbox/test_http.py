"""The look-alike over real sockets: keys, signatures, bytes, and going away."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from yarl import URL

from midas.sandbox.app import SandboxOptions, SandboxServer
from midas.sandbox.errors import SandboxError
from tests.sandbox.conftest import KeyPair
from tests.sandbox.shop import APP_ID, terms

LIST_URI = "/v1/charges?app%5Bid%5D=" + APP_ID


def signature_holds(pem: str, signature: str, body: bytes) -> bool:
    """Whether the signature is that of this key over these bytes; raises when not."""
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(base64.b64decode(signature), body, padding.PKCS1v15(), hashes.SHA256())
    return True


def signed(keys: KeyPair, body: bytes, uri: str, timestamp: str = "1763870400") -> dict[str, str]:
    """The headers of a merchant's signature."""
    key = load_pem_private_key(keys.private.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    raw = key.sign(body + uri.encode() + timestamp.encode(), padding.PKCS1v15(), hashes.SHA256())
    return {
        "Pingplusplus-Signature": base64.b64encode(raw).decode(),
        "Pingplusplus-Request-Timestamp": timestamp,
    }


@pytest.fixture
async def strict(
    merchant_keys: KeyPair, sandbox_keys: KeyPair
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a sandbox that wants every request signed."""
    server = SandboxServer(
        SandboxOptions(
            merchant_public_key=merchant_keys.public,
            signing_private_key=sandbox_keys.private,
            strict=True,
        )
    )
    headers = {"Authorization": f"Bearer {server.options.key()}"}
    async with aiohttp.ClientSession(await server.start(), headers=headers) as session:
        yield session
    await server.stop()


async def test_answers_are_laid_out_and_signed_like_the_real_ones(
    server: SandboxServer, http: aiohttp.ClientSession
) -> None:
    """Four spaces, unescaped UTF-8 and slashes; signature and log are of exactly these bytes."""
    async with http.post("/v1/charges", json=terms()) as response:
        body = await response.read()
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json;charset=utf-8"
        signature = response.headers["X-Pingplusplus-Signature"]
    assert body == json.dumps(json.loads(body), indent=4, ensure_ascii=False).encode()
    assert server.requests.matching()[0].answer_sha256 == hashlib.sha256(body).hexdigest()
    assert "测试订单".encode() in body
    assert signature_holds(server.public_key_pem, signature, body)


async def test_errors_are_signed_too(server: SandboxServer, http: aiohttp.ClientSession) -> None:
    """Recorded 400 answers carry a signature, so ours do."""
    async with http.get("/v1/charges/ch_x") as response:
        body = await response.read()
        assert response.status == 404
        signature = response.headers["X-Pingplusplus-Signature"]
    assert signature_holds(server.public_key_pem, signature, body)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer sk_test_wrong",
        "Basic !",
        "Digest x",
        "Basic " + base64.b64encode(b"x:").decode(),
    ],
)
async def test_wrong_keys_are_a_401_that_does_not_repeat_the_key(
    server: SandboxServer, authorization: str
) -> None:
    """Without the right key: the reported text, with the key masked."""
    headers = {"Authorization": authorization}
    async with (
        aiohttp.ClientSession(server.url, headers=headers) as session,
        session.get(LIST_URI) as response,
    ):
        answer = await response.json()
    assert response.status == 401
    assert answer["error"]["message"].startswith("提供了无效的 API KEY: ")
    assert "wrong" not in answer["error"]["message"]


async def test_basic_authentication_is_accepted(server: SandboxServer) -> None:
    """The key as user name with an empty password works as Bearer does."""
    auth = aiohttp.encode_basic_auth(server.options.key(), "")
    async with (
        aiohttp.ClientSession(server.url, headers={"Authorization": auth}) as session,
        session.get(LIST_URI) as response,
    ):
        assert response.status == 200


async def test_signed_requests_pass(strict: aiohttp.ClientSession, merchant_keys: KeyPair) -> None:
    """Body, URI as sent and timestamp are what is signed, on POST and GET."""
    body = json.dumps(terms()).encode()
    headers = signed(merchant_keys, body, "/v1/charges")
    async with strict.post("/v1/charges", data=body, headers=headers) as response:
        assert response.status == 200
    uri = URL(LIST_URI, encoded=True)
    async with strict.get(uri, headers=signed(merchant_keys, b"", LIST_URI)) as response:
        assert response.status == 200


async def test_a_missing_signature_has_the_reported_text(strict: aiohttp.ClientSession) -> None:
    """Unsigned requests are a 400 with the message that is reported of Ping++, GET too."""
    for method in ("POST", "GET"):
        async with strict.request(method, "/v1/charges") as response:
            answer = await response.json()
        assert response.status == 400
        assert answer["error"] == {
            "type": "invalid_request_error",
            "message": "没有提供签名串，需要在 header 中加入签名串。",
        }


@pytest.mark.parametrize("wrong", ["body", "uri", "timestamp", "key", "base64", "no timestamp"])
async def test_a_wrong_signature_has_the_reported_text(
    strict: aiohttp.ClientSession, merchant_keys: KeyPair, sandbox_keys: KeyPair, wrong: str
) -> None:
    """If any part differs from what was signed, the answer is the same 400."""
    body = json.dumps(terms()).encode()
    headers = signed(
        sandbox_keys if wrong == "key" else merchant_keys,
        body + b" " if wrong == "body" else body,
        "/v1/charge" if wrong == "uri" else "/v1/charges",
    )
    if wrong == "timestamp":
        headers["Pingplusplus-Request-Timestamp"] = "1763870401"
    if wrong == "no timestamp":
        del headers["Pingplusplus-Request-Timestamp"]
    if wrong == "base64":
        headers["Pingplusplus-Signature"] = "#" * 344
    async with strict.post("/v1/charges", data=body, headers=headers) as response:
        answer = await response.json()
    assert (response.status, answer["error"]["message"]) == (400, "提供了无效的签名")


@pytest.mark.parametrize(("strict", "status"), [(False, 200), (True, 400)])
async def test_a_body_signed_alone_is_taken_unless_strict(
    merchant_keys: KeyPair, strict: bool, status: int
) -> None:
    """As older SDKs sign, also without a time; what has no body must be signed whole."""
    body = json.dumps(terms()).encode()
    options = SandboxOptions(merchant_public_key=merchant_keys.public, strict=strict)
    async with SandboxServer(options) as server:
        alone = signed(merchant_keys, body, "", "")
        key = {"Authorization": f"Bearer {server.options.key()}"}
        async with aiohttp.ClientSession(server.url, headers=key) as client:
            async with client.post("/v1/charges", data=body, headers=alone) as response:
                assert response.status == status
            alone = signed(merchant_keys, b"", "", "")
            async with client.get(LIST_URI, headers=alone) as response:
                assert response.status == 400
            other = signed(merchant_keys, body + b" ", "", "")
            async with client.post("/v1/charges", data=body, headers=other) as response:
                assert response.status == 400


async def test_the_empty_map_of_php_is_one(http: aiohttp.ClientSession) -> None:
    """Its SDK posts [] to reverse; any other list is no request."""
    async with http.post("/v1/charges", json=terms(channel="alipay_qr")) as response:
        path = f"/v1/charges/{(await response.json())['id']}/reverse"
    async with http.post(path, data=b"[1]") as response:
        assert response.status == 400
    async with http.post(path, data=b"[]") as response:
        assert response.status == 200
        assert (await response.json())["reversed"] is True


async def test_links_lead_to_this_server(
    http: aiohttp.ClientSession, server: SandboxServer
) -> None:
    """A QR credential opens a page here."""
    async with http.post("/v1/charges", json=terms(channel="alipay_qr")) as response:
        charge = await response.json()
    link = charge["credential"]["alipay_qr"]
    assert link.startswith(server.url)
    async with http.get(link) as page:
        assert page.status == 200


async def test_it_can_go_down_and_come_back_on_the_same_port(
    server: SandboxServer, http: aiohttp.ClientSession
) -> None:
    """While it is down connections are refused; afterwards the books are as before."""
    async with http.post("/v1/charges", json=terms()) as response:
        charge = await response.json()
    url = server.url
    await server.go_down()
    with pytest.raises(aiohttp.ClientConnectionError):
        await http.get("/v1/charges")
    assert await server.start() == url
    async with http.get(f"/v1/charges/{charge['id']}") as response:
        assert await response.json() == charge


async def test_a_port_in_use_is_refused_with_a_sentence(server: SandboxServer) -> None:
    """The operator learns what to do."""
    port = int(server.url.rpartition(":")[2])
    second = SandboxServer(SandboxOptions(port=port))
    with pytest.raises(SandboxError, match="in use: stop what listens there"):
        await second.start()
    await second.stop()


@pytest.mark.parametrize("field", ["merchant_public_key", "signing_private_key"])
async def test_an_unreadable_key_is_refused_by_name(field: str) -> None:
    """The error about a wrong PEM names its option."""
    options: dict[str, Any] = {field: "-----BEGIN NOTHING-----"}
    with pytest.raises(SandboxError, match=field):
        SandboxServer(SandboxOptions(**options))


def test_options_do_not_show_keys(merchant_keys: KeyPair) -> None:
    """Neither the secret key nor a private key is in the text of the options."""
    options = SandboxOptions(api_key="sk_test_secret", signing_private_key=merchant_keys.private)
    assert "secret" not in repr(options)
    assert "BEGIN" not in repr(options)


async def test_the_clock_continues_after_a_restart(tmp_path: Path) -> None:
    """A clock that was moved forward does not fall behind the last entry of the ledger."""
    options = SandboxOptions(ledger_path=tmp_path / "ledger.jsonl")
    first = SandboxServer(options)
    first.clock.advance(100_000)
    status, _ = first.lookalike.handle("POST", "/v1/charges", (), json.dumps(terms()).encode())
    assert status == 200
    await first.stop()
    second = SandboxServer(options)
    assert second.clock.now() >= first.lookalike.ledger.entries[-1].time
    await second.stop()
