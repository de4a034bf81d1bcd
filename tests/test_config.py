"""Settings: where they come from, and what keeps a process from starting."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from midas import config, config_server
from midas.config import Settings, load
from midas.errors import SettingsError
from tests.rpc.certificates import Authority

TEST_KEY = "sk_test_" + "iHaveNotBeenMadeUp123456"
LIVE_KEY = "sk_live_" + "iHaveNotBeenMadeUp123456"
Env = Callable[..., None]


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Env:
    """Sets variables; without any, the environment holds what a development process needs."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PINGPP_API_KEY", TEST_KEY)
    monkeypatch.setenv("PINGPP_APP_ID", "app_1")

    def change(**variables: str | None) -> None:
        for name, value in variables.items():
            if value is None:
                monkeypatch.delenv(name)
            else:
                monkeypatch.setenv(name, value)

    return change


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys and certificates made for this run."""
    folder = tmp_path_factory.mktemp("keys")
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    authority = Authority()
    pair, other = authority.issue("midas"), authority.issue("other")
    content = {
        "rsa.pem": _pem(key),
        "ec.pem": _pem(ec.generate_private_key(ec.SECP256R1())),
        "pingpp.pem": public,
        "empty.pem": b" \n",
        "garbage.pem": b"garbage",
        "binary.pem": b"\xff\xfe\x00",
        "ca.pem": authority.pem,
        "cert.pem": pair.certificate,
        "key.pem": pair.key,
        "other-key.pem": other.key,
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def test_the_defaults_serve_development(env: Env) -> None:
    """With an account and nothing else Midas serves on the loopback interface over SQLite."""
    settings = load()
    assert (settings.env, settings.ip, settings.port) == ("development", "127.0.0.1", 6011)
    assert settings.database_url.get_secret_value().startswith("sqlite")
    assert settings.private_key() is None
    assert not settings.livemode


def test_every_setting_is_explained() -> None:
    """The file is the manual: no field is without its text."""
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_names_stay_apart_without_punctuation() -> None:
    """No two settings have the same name in the config server's relaxed spelling."""
    names = [config_server.plain(name) for name in Settings.model_fields]
    assert len(set(names)) == len(names)


def test_secrets_do_not_show(env: Env, files: Path) -> None:
    """Neither repr nor a dump holds a key, a password or the config server's user."""
    pem = (files / "rsa.pem").read_text()
    env(PINGPP_PRIVATE_KEY=pem, DATABASE_URL="postgresql://midas:hush@db/midas")
    shown = repr(load()) + str(load().model_dump()) + load().model_dump_json()
    for secret in (TEST_KEY, "hush", "PRIVATE KEY"):
        assert secret not in shown


def test_values_are_read_in_their_types(env: Env, files: Path) -> None:
    """Lists are separated by commas, callers are JSON, an escaped key is a key."""
    public = files / "pingpp.pem"
    env(
        PORT="0",
        DRAIN_TIMEOUT_S="2.5",
        PINGPP_PUBLIC_KEY_PATHS=f"{public}, {public}",
        PINGPP_PRIVATE_KEY=(files / "rsa.pem").read_text().replace("\n", "\\n"),
        TLS_CERT_PATH=str(files / "cert.pem"),
        TLS_KEY_PATH=str(files / "key.pem"),
        TLS_CLIENT_CA_PATH=str(files / "ca.pem"),
        TLS_CALLERS='{"order-service": ["midas.v1.PaymentService/*"]}',
    )
    settings = load()
    assert settings.drain_timeout.total_seconds() == 2.5
    assert settings.pingpp_public_key_paths == (public, public)
    assert settings.public_keys() == (public.read_text(), public.read_text())
    assert settings.private_key() == (files / "rsa.pem").read_text()
    assert settings.tls_callers == {"order-service": ("midas.v1.PaymentService/*",)}


_PRODUCTION = {
    "ENV": "production",
    "PINGPP_API_KEY": LIVE_KEY,
    "PINGPP_PRIVATE_KEY_PATH": "{files}/rsa.pem",
    "TLS_BY_MESH": "true",
}
_REFUSED: dict[str, tuple[str, dict[str, str | None]]] = {
    "no key": ("PINGPP_API_KEY", {"PINGPP_API_KEY": None}),
    "empty key": ("PINGPP_API_KEY", {"PINGPP_API_KEY": " "}),
    "other key": ("PINGPP_API_KEY", {"PINGPP_API_KEY": "pk_" + TEST_KEY}),
    "no app": ("PINGPP_APP_ID", {"PINGPP_APP_ID": ""}),
    "env": ("ENV", {"ENV": "staging"}),
    "ip": ("IP", {"IP": "midas.internal"}),
    "port word": ("PORT", {"PORT": "http"}),
    "port empty": ("PORT", {"PORT": ""}),
    "port large": ("PORT", {"PORT": "65536"}),
    "both private keys": (
        "PINGPP_PRIVATE_KEY",
        {"PINGPP_PRIVATE_KEY_PATH": "{files}/rsa.pem", "PINGPP_PRIVATE_KEY": "x"},
    ),
    "no such file": ("PINGPP_PRIVATE_KEY_PATH", {"PINGPP_PRIVATE_KEY_PATH": "{files}/none"}),
    "a folder": ("PINGPP_PRIVATE_KEY_PATH", {"PINGPP_PRIVATE_KEY_PATH": "{files}"}),
    "empty file": ("PINGPP_PRIVATE_KEY_PATH", {"PINGPP_PRIVATE_KEY_PATH": "{files}/empty.pem"}),
    "garbage": ("PINGPP_PRIVATE_KEY_PATH", {"PINGPP_PRIVATE_KEY_PATH": "{files}/garbage.pem"}),
    "binary": ("PINGPP_PRIVATE_KEY_PATH", {"PINGPP_PRIVATE_KEY_PATH": "{files}/binary.pem"}),
    "no RSA": ("PINGPP_PRIVATE_KEY_PATH", {"PINGPP_PRIVATE_KEY_PATH": "{files}/ec.pem"}),
    "key text": ("PINGPP_PRIVATE_KEY", {"PINGPP_PRIVATE_KEY": "garbage"}),
    "public key": ("PINGPP_PUBLIC_KEY_PATHS", {"PINGPP_PUBLIC_KEY_PATHS": "{files}/garbage.pem"}),
    "no database URL": ("DATABASE_URL", {"DATABASE_URL": "garbage"}),
    "other database": ("DATABASE_URL", {"DATABASE_URL": f"mysql://u:{TEST_KEY}@h/d"}),
    "base in the clear": ("PINGPP_API_BASE", {"PINGPP_API_BASE": "http://api.pingxx.com"}),
    "base with a user": ("PINGPP_API_BASE", {"PINGPP_API_BASE": "https://u@api.pingxx.com"}),
    "base is no URL": ("PINGPP_API_BASE", {"PINGPP_API_BASE": "api.pingxx.com"}),
    "timeouts": ("PSP_CONNECT_TIMEOUT_S", {"PSP_CONNECT_TIMEOUT_S": "40"}),
    "settle window": ("SETTLE_WINDOW_S", {"SETTLE_WINDOW_S": "10"}),
    "no drain": ("DRAIN_TIMEOUT_S", {"DRAIN_TIMEOUT_S": "0"}),
    "cert without key": ("TLS_KEY_PATH", {"TLS_CERT_PATH": "{files}/cert.pem"}),
    "other pair": (
        "TLS_KEY_PATH",
        {"TLS_CERT_PATH": "{files}/cert.pem", "TLS_KEY_PATH": "{files}/other-key.pem"},
    ),
    "ca without cert": ("TLS_CLIENT_CA_PATH", {"TLS_CLIENT_CA_PATH": "{files}/ca.pem"}),
    "ca garbage": (
        "TLS_CLIENT_CA_PATH",
        {
            "TLS_CERT_PATH": "{files}/cert.pem",
            "TLS_KEY_PATH": "{files}/key.pem",
            "TLS_CLIENT_CA_PATH": "{files}/garbage.pem",
        },
    ),
    "callers without ca": ("TLS_CALLERS", {"TLS_CALLERS": '{"a": ["*"]}'}),
    "callers no JSON": ("TLS_CALLERS", {"TLS_CALLERS": "a=*"}),
    "callers no list": ("TLS_CALLERS", {"TLS_CALLERS": '{"a": 5}'}),
    "production, test key": ("PINGPP_API_KEY", {**_PRODUCTION, "PINGPP_API_KEY": TEST_KEY}),
    "production, no TLS": ("TLS_CERT_PATH", {**_PRODUCTION, "TLS_BY_MESH": "false"}),
    "production, unsigned": (
        "PINGPP_PRIVATE_KEY_PATH",
        {**_PRODUCTION, "PINGPP_PRIVATE_KEY_PATH": ""},
    ),
    "production, SQLite shared": ("DATABASE_URL", {**_PRODUCTION, "WORKERS": "2"}),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_a_mistake_stops_the_start(env: Env, files: Path, case: str) -> None:
    """The sentence names the variable, and holds no secret."""
    name, variables = _REFUSED[case]
    env(**{key: value and value.format(files=files) if "{files}" in (value or "") else value
           for key, value in variables.items()})  # fmt: skip
    with pytest.raises(SettingsError) as refused:
        load()
    assert name in str(refused.value)
    assert TEST_KEY not in str(refused.value)
    assert LIVE_KEY not in str(refused.value)


def test_production_starts_when_all_is_well(env: Env, files: Path) -> None:
    """A live key, a private key and TLS, or a mesh that does it, are enough."""
    env(**{key: value.format(files=files) for key, value in _PRODUCTION.items()})
    assert load().livemode
    env(
        TLS_BY_MESH="false",
        TLS_CERT_PATH=str(files / "cert.pem"),
        TLS_KEY_PATH=str(files / "key.pem"),
        TLS_CLIENT_CA_PATH=str(files / "cert.pem"),
        TLS_CALLERS='{"gateway": ["midas.v1.EventService/*"]}',
    )
    assert load().livemode


def test_production_needs_to_know_who_may_call(env: Env, files: Path) -> None:
    """Whoever may call EventService can say that an order is paid."""
    env(**{key: value.format(files=files) for key, value in _PRODUCTION.items()})
    env(
        TLS_BY_MESH="false",
        TLS_CERT_PATH=str(files / "cert.pem"),
        TLS_KEY_PATH=str(files / "key.pem"),
    )
    with pytest.raises(SettingsError, match=r"TLS_CALLERS.*EventService"):
        load()


def test_several_mistakes_are_told_at_once(env: Env) -> None:
    """Whoever starts it need not mend one line at a time."""
    env(PORT="http", DRAIN_TIMEOUT_S="soon")
    with pytest.raises(SettingsError, match=r"PORT: .*; DRAIN_TIMEOUT_S: "):
        load()


@contextmanager
def spring(answer: bytes, status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """A config server with this answer; gives its address and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sources(*each: dict[str, object]) -> bytes:
    """An answer of Spring Cloud Config."""
    return json.dumps({"name": "midas", "propertySources": [{"source": s} for s in each]}).encode()


def test_the_config_server_comes_after_the_environment(env: Env) -> None:
    """Environment first, then the first property source that has the name, then the default."""
    first = {"pingpp.app-id": "app_first", "port": 7000, "drain.timeout.s": 3}
    last = {"PINGPP_APP_ID": "app_last", "pingpp.apiKey": LIVE_KEY, "workers": 3, "env": "test"}
    with spring(sources(first, last)) as (address, asked):
        env(CONFIG_URL=f"http://{address}/base/", PINGPP_API_KEY=None, PINGPP_APP_ID=None)
        env(PORT="7001")
        settings = load()
    assert asked == [("/base/midas/development", None)]
    assert settings.pingpp_app_id == "app_first"
    assert settings.pingpp_api_key.get_secret_value() == LIVE_KEY
    assert (settings.port, settings.workers, settings.drain_timeout_s) == (7001, 3, 3)
    assert settings.env == "development"


def test_the_config_server_may_ask_for_a_password(env: Env) -> None:
    """User and password of the URL are sent as Basic authentication, and not shown."""
    with spring(sources({})) as (address, asked):
        env(CONFIG_URL=f"http://me:hush%21@{address}", ENV="test")
        assert "hush" not in repr(load())
    assert asked == [("/midas/test", "Basic bWU6aHVzaCE=")]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"no JSON", 200),
        (b"[]", 200),
        (b'{"propertySources": [{"source": 5}]}', 200),
        (b"[" * 200_000, 200),
        (b"x" * (config_server.ANSWER_BYTES + 1), 200),
        (sources({"pingpp.private-key": "{cipher}AQ"}), 200),
        (b"", 302),
        (b"", 404),
        (b"", 500),
    ],
)
def test_a_config_server_that_fails_stops_the_start(env: Env, answer: bytes, status: int) -> None:
    """A process never starts with half of its settings."""
    with spring(answer, status) as (address, _):
        env(CONFIG_URL=f"http://me:hush@{address}")
        with pytest.raises(SettingsError, match="CONFIG_URL") as refused:
            load()
    assert "hush" not in str(refused.value)


def test_what_is_meant_for_another_process_may_stay_encrypted(env: Env) -> None:
    """One set of properties serves server and gateway; neither needs the other's secrets."""
    with spring(sources({"order.tls.key": "{cipher}AQ", "port": 7000})) as (address, _):
        env(CONFIG_URL=f"http://{address}")
        assert load().port == 7000


def test_what_the_environment_gives_may_stay_encrypted(env: Env) -> None:
    """The config server's value would not be used."""
    with spring(sources({"pingpp.api-key": "{cipher}AQ"})) as (address, _):
        env(CONFIG_URL=f"http://{address}", PINGPP_API_KEY=LIVE_KEY)
        assert load().pingpp_api_key.get_secret_value() == LIVE_KEY


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://config", "config:8888"])
def test_a_config_server_that_is_not_there_stops_the_start(env: Env, url: str) -> None:
    """Nobody listens, or the URL is none."""
    env(CONFIG_URL=url)
    with pytest.raises(SettingsError, match="CONFIG_URL"):
        load()


def test_only_this_module_reads_the_environment() -> None:
    """No other module of the server looks at os.environ."""
    package = Path(config.__file__).parent
    for path in package.rglob("*.py"):
        if path.parts[len(package.parts)] not in {"cli", "sandbox", "v1"}:
            text = path.read_text()
            assert "os.environ" not in text, path
            assert "getenv" not in text, path
