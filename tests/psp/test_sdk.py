"""The wire format is the SDK's own, without its transport, its globals and its leaks."""

import base64
import inspect
import json
import platform
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat

from midas.psp import sdk
from midas.psp.signing import Signer
from tests.psp import made

SDK: Any = sys.modules["pingpp"]


def prepared(method: str, path: str, params: dict[str, Any], **changed: Any) -> sdk.Prepared:
    """A request of the test account."""
    key, sign = changed.get("key", made.API_KEY), changed.get("sign")
    return sdk.Requestor(key, "https://api.pingxx.com", sign).prepare(method, path, params)


@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
def test_signatures_are_the_sdks_byte_for_byte(form: PrivateFormat) -> None:
    """OpenSSL and the SDK's own rsa_sign make the same signature from either PEM form."""
    pem = made.private_pem("merchant", form)
    text = '{"subject": "订单"}/v1/charges1700000000'
    own = SDK.APIRequestor(client=object()).rsa_sign(pem, text)
    assert Signer(pem).sign(text.encode()) == own


def test_the_string_to_sign_is_body_path_and_time() -> None:
    """What is signed is exactly what is sent: body, then path with query, then seconds."""
    signed: list[bytes] = []

    def sign(data: bytes) -> bytes:
        signed.append(data)
        return base64.b64encode(b"signature")

    post = prepared("post", "/v1/charges", {"subject": "订单"}, sign=sign)
    get = prepared("get", "/v1/charges", {"app": {"id": "app_1"}, "limit": 100}, sign=sign)
    time = post.headers["Pingplusplus-Request-Timestamp"].encode()
    assert post.body is not None
    assert signed[0] == post.body + b"/v1/charges" + time
    assert get.url == "https://api.pingxx.com/v1/charges?app%5Bid%5D=app_1&limit=100"
    assert signed[1].startswith(b"/v1/charges?app%5Bid%5D=app_1&limit=100")
    assert get.body is None
    assert post.headers["Pingplusplus-Signature"] == base64.b64encode(b"signature").decode()


def test_without_a_key_nothing_is_signed() -> None:
    """No private key: no signature header, but the timestamp is there as the SDK sends it."""
    headers = prepared("get", "/v1/charges", {}).headers
    assert "Pingplusplus-Signature" not in headers
    assert "Pingplusplus-Request-Timestamp" in headers


def test_headers_do_not_name_the_host() -> None:
    """No host name, kernel or client description leaves; the User-Agent is the SDK's."""
    headers = prepared("post", "/v1/charges", {}).headers
    assert headers["User-Agent"] == f"Pingpp/v1 PythonBindings/{SDK.VERSION}"
    assert headers["Authorization"] == f"Bearer {made.API_KEY}"
    assert "X-Pingpp-Client-User-Agent" not in headers
    assert platform.node() not in json.dumps(dict(headers))
    assert None not in headers.values()


def test_booleans_of_a_query_are_lower_case() -> None:
    """Ping++ reads `true`, which the SDK writes as `True`."""
    url = prepared("get", "/v1/charges", {"paid": True, "a": {"b": False}, "none": None}).url
    assert url.endswith("?paid=true&a%5Bb%5D=false")


def test_two_accounts_live_in_one_process() -> None:
    """Neither key nor signature is shared between requestors, nor kept in the SDK's module."""
    first = prepared("get", "/v1/x", {}, key="sk_test_a", sign=lambda _: b"a")
    second = prepared("get", "/v1/x", {}, key="sk_test_b", sign=lambda _: b"b")
    sent = [
        (r.headers["Authorization"], r.headers["Pingplusplus-Signature"]) for r in (first, second)
    ]
    assert sent == [("Bearer sk_test_a", "a"), ("Bearer sk_test_b", "b")]
    assert (SDK.api_key, SDK.private_key, SDK.private_key_path) == (None, None, None)


def test_urls_are_those_of_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each path equals the one that the SDK's resource class asks for."""
    asked: list[tuple[str, str]] = []

    def record(_self: Any, method: str, url: str, *_rest: Any) -> tuple[dict[str, Any], str]:
        asked.append((method, url))
        return {}, ""

    monkeypatch.setattr(SDK.APIRequestor, "request", record)
    strange = "ch_a/b c"
    SDK.Charge.create()
    SDK.Charge.refund(strange)
    SDK.Charge.list_refunds(strange)
    SDK.Charge.retrieve_refund(strange, "re_/?")
    SDK.Charge.reverse(strange)
    assert asked == [
        ("post", sdk.charges_path()),
        ("post", sdk.refunds_path(strange)),
        ("get", sdk.refunds_path(strange)),
        ("get", sdk.refund_path(strange, "re_/?")),
        ("post", sdk.reverse_path(strange)),
    ]
    assert SDK.Charge(strange).instance_url() == sdk.charge_path(strange)


def test_the_sdk_logs_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the SDK's debug switch on, bodies and strings to sign still go nowhere."""
    monkeypatch.setattr(SDK, "log", "debug")
    prepared("post", "/v1/charges", {"subject": "secret"})
    assert capfd.readouterr() == ("", "")
    assert (SDK.bad_gateway_match, SDK.max_network_retries) == (False, 0)


def test_the_sdks_transport_is_out_of_reach() -> None:
    """The function that would send hands the request back, on every path of the SDK."""
    assert (
        sdk.Requestor.execute_request_with_retry is not SDK.APIRequestor.execute_request_with_retry
    )
    assert "execute_request(" not in inspect.getsource(sdk.Requestor)
