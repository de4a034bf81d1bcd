"""Settings: where they come from, and what keeps a process from starting."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from midas.config import loading as config
from midas.config.loading import load
from midas.config.settings import Settings
from midas.errors import SettingsError
from midas.runtime import config_server
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


def test_only_development_stops_without_a_delay(env: Env) -> None:
    """Where others send calls here they need time to learn that this process ends."""
    assert load().drain_delay.total_seconds() == 0
    env(ENV="test")
    assert load().drain_delay.total_seconds() == 5
    env(DRAIN_DELAY_S="0")
    assert load().drain_delay.total_seconds() == 0
    env(DRAIN_DELAY_S="2.5")
    assert load().drain_delay.total_seconds() == 2.5


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
    "PINGPP_PUBLIC_KEY_PATHS": "{files}/pingpp.pem",
    "TLS_BY_MESH": "true",
}
_POSTGRES = {"DATABASE_URL": "postgresql://midas:hush@db.internal/midas"}
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
    "caller of no kind": (
        "TLS_CALLERS",
        {
            "TLS_CERT_PATH": "{files}/cert.pem",
            "TLS_KEY_PATH": "{files}/key.pem",
            "TLS_CLIENT_CA_PATH": "{files}/ca.pem",
            "TLS_CALLERS": '{"spiffe://shop/orders": ["*"]}',
        },
    ),
    "caller is an address": (
        "write EMAIL:… for an e-mail address",
        {"TLS_CALLERS": '{"orders@shop.example": ["*"]}'},
    ),
    "caller is an IP": ("write IP:… for an IP address", {"TLS_CALLERS": '{"192.0.2.7": ["*"]}'}),
    "callers no list": ("TLS_CALLERS", {"TLS_CALLERS": '{"a": 5}'}),
    "production, test key": ("PINGPP_API_KEY", {**_PRODUCTION, "PINGPP_API_KEY": TEST_KEY}),
    "production, no TLS": ("TLS_CERT_PATH", {**_PRODUCTION, "TLS_BY_MESH": "false"}),
    "production, unsigned": (
        "PINGPP_PRIVATE_KEY_PATH",
        {**_PRODUCTION, "PINGPP_PRIVATE_KEY_PATH": ""},
    ),
    "production, SQLite shared": ("DATABASE_URL", {**_PRODUCTION, "WORKERS": "2"}),
    "production, answers not verified": (
        "PINGPP_PUBLIC_KEY_PATHS is not set",
        {**_PRODUCTION, "PINGPP_PUBLIC_KEY_PATHS": ""},
    ),
    "production, Ping++ in the clear": (
        "PINGPP_API_BASE begins with http",
        {**_PRODUCTION, "PINGPP_API_BASE": "http://127.0.0.1:6020"},
    ),
    "production, PostgreSQL in the clear": ("sslmode", {**_PRODUCTION, **_POSTGRES}),
    "base with a path": ("PINGPP_API_BASE", {"PINGPP_API_BASE": "https://api.pingxx.com/v1"}),
    "base without an end": ("PINGPP_API_BASE", {"PINGPP_API_BASE": "https://[api"}),
    "base with a port that is none": ("PINGPP_API_BASE", {"PINGPP_API_BASE": "https://u:p/w@h"}),
    "app with spaces": ("PINGPP_APP_ID", {"PINGPP_APP_ID": "app 1"}),
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
        DATABASE_URL="postgresql://midas:hush@db.internal/midas?sslmode=verify-full",
        TLS_CERT_PATH=str(files / "cert.pem"),
        TLS_KEY_PATH=str(files / "key.pem"),
        TLS_CLIENT_CA_PATH=str(files / "cert.pem"),
        TLS_CALLERS='{"gateway": ["midas.v1.EventService/*"]}',
    )
    assert load().livemode


def test_production_needs_to_know_who_may_call(env: Env, files: Path) -> None:
    """A caller of EventService can report that an order is paid."""
    env(**{key: value.format(files=files) for key, value in _PRODUCTION.items()})
    env(
        TLS_BY_MESH="false",
        TLS_CERT_PATH=str(files / "cert.pem"),
        TLS_KEY_PATH=str(files / "key.pem"),
    )
    with pytest.raises(SettingsError, match=r"TLS_CALLERS.*EventService"):
        load()


def test_several_mistakes_are_listed_at_once(env: Env) -> None:
    """An operator need not mend one line at a time."""
    env(PORT="http", DRAIN_TIMEOUT_S="soon")
    with pytest.raises(SettingsError, match=r"PORT: .*; DRAIN_TIMEOUT_S: "):
        load()


def test_production_lists_all_that_it_misses_in_one_start(env: Env, tmp_path: Path) -> None:
    """Mistakes of every kind: unreadable values, values that do not fit, refusals of production."""
    pasted = "-----BEGIN RSA PRIVATE KEY-----"
    env(ENV="production", PORT="http", PINGPP_APP_ID="", IP="here", PINGPP_PRIVATE_KEY_PATH=pasted)
    env(TLS_CERT_PATH=str(tmp_path / "none"), WORKERS="2", SETTLE_WINDOW_S="1", **_POSTGRES)
    env(TLS_CALLERS='{"a": ["Query"]}', PINGPP_API_BASE="ftp://x")
    with pytest.raises(SettingsError) as refused:
        load()
    names = [each.partition(":")[0].partition(" ")[0] for each in refused.value.mistakes]
    assert sorted(names) == [
        "DATABASE_URL",
        "IP",
        "PINGPP_API_BASE",
        "PINGPP_API_KEY",
        "PINGPP_APP_ID",
        "PINGPP_PRIVATE_KEY_PATH",
        "PINGPP_PUBLIC_KEY_PATHS",
        "PORT",
        "SETTLE_WINDOW_S",
        "TLS_CALLERS",
        "TLS_CALLERS",
        "TLS_CERT_PATH",
    ]
    assert str(refused.value) == "; ".join(refused.value.mistakes)


def test_a_value_that_cannot_be_read_is_one_mistake_alone(env: Env) -> None:
    """Its default, which stands in its place, must be no second mistake."""
    env(SETTLE_WINDOW_S="soon", PSP_TOTAL_TIMEOUT_S="3000")
    with pytest.raises(SettingsError) as refused:
        load()
    assert len(refused.value.mistakes) == 1


@pytest.mark.parametrize(
    ("query", "host", "is_refused"),
    [
        ("", "db.internal", True),
        ("?sslmode=prefer", "db.internal", True),
        ("?sslmode=disable", "db.internal", True),
        ("?ssl=allow", "db.internal", True),
        ("", "10.0.0.1:5432", True),
        ("?host=127.0.0.1:1&host=db.internal:2", "", True),
        ("?host=db.internal", "127.0.0.1", True),
        ("", "", True),
        ("?sslmode=require", "db.internal", False),
        ("?sslmode=verify-ca", "db.internal", False),
        ("?ssl=verify-full", "db.internal", False),
        ("", "127.0.0.1:5432", False),
        ("", "localhost", False),
        ("", "[::1]:5432", False),
        ("?host=/run/postgresql", "", False),
        ("?host=localhost:1&host=127.0.0.2:2", "", False),
    ],
)
def test_production_speaks_tls_with_postgresql(
    env: Env, files: Path, query: str, host: str, is_refused: bool
) -> None:
    """Except where nothing leaves this machine or the network encrypts; a mesh is not enough."""
    env(**{key: value.format(files=files) for key, value in _PRODUCTION.items()})
    env(DATABASE_URL=f"postgresql://midas:hush@{host}/midas{query}")
    assert ("DATABASE_TLS_BY_NETWORK" in " ".join(config.read().mistakes)) is is_refused
    env(DATABASE_TLS_BY_NETWORK="true")
    assert config.read().mistakes == ()


def test_migrating_in_production_speaks_tls_with_postgresql(env: Env) -> None:
    """Its password is the same."""
    env(ENV="production", **_POSTGRES)
    other = "postgresql://midas@elsewhere/midas"
    for instead in (None, other):
        with pytest.raises(SettingsError, match="sslmode"):
            config.database_url(instead)
    assert config.database_url(f"{other}?sslmode=require").startswith(other)
    env(DATABASE_TLS_BY_NETWORK="1")
    assert config.database_url() == _POSTGRES["DATABASE_URL"]
    assert config.database_url(other) == other
    env(DATABASE_URL="")
    with pytest.raises(SettingsError, match="DATABASE_URL is not set"):
        config.database_url()


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


@pytest.mark.parametrize(
    "setting",
    ["port", "workers", "psp.concurrent-calls", "drain.timeout.s", "settle.window.s"],
)
@pytest.mark.parametrize("value", [True, False, [], {}, None, "", "true"])
def test_a_truth_value_is_no_number(env: Env, setting: str, value: object) -> None:
    """Python would take true for 1."""
    with spring(sources({setting: value})) as (address, _):
        env(CONFIG_URL=f"http://{address}")
        name = setting.replace(".", "_").replace("-", "_").upper()
        with pytest.raises(SettingsError, match=f"^{name}: "):
            load()


def test_the_config_server_gives_values_as_the_environment_does(env: Env) -> None:
    """YAML has types of its own: a password of digits is text here, a truth value one there."""
    source = {
        "pingpp.app-id": 12345,
        "tls.by-mesh": True,
        "port": "7000",
        "drain.timeout.s": 3,
        "tls.callers": {},
    }
    with spring(sources(source)) as (address, _):
        env(CONFIG_URL=f"http://{address}", PINGPP_APP_ID=None)
        settings = load()
    assert (settings.pingpp_app_id, settings.tls_by_mesh) == ("12345", True)
    assert (settings.port, settings.drain_timeout_s, settings.tls_callers) == (7000, 3, {})


@pytest.mark.parametrize("part", ["status", "head", "body"])
def test_a_config_server_that_drips_does_not_hold_the_start(
    env: Env, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """One byte after the other, each in time: the whole has a deadline, too."""
    monkeypatch.setattr(config_server, "DEADLINE_S", 0.3)
    begin = {"status": b"HTTP/1.1 ", "head": b"HTTP/1.1 200 OK\r\nX: "}
    begin["body"] = b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n"
    with dripping(begin[part]) as address:
        env(CONFIG_URL=f"http://me:hush@{address}")
        with pytest.raises(SettingsError, match=r"did not finish .* within 0\.3 seconds"):
            load()


@contextmanager
def dripping(begin: bytes) -> Iterator[str]:
    """A server that begins so and then sends a byte now and then, for far longer than is asked."""
    done = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.sendall(begin)
            for _ in range(1000):
                if done.wait(0.02):
                    break
                connection.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        done.set()
        thread.join()
        listening.close()


@pytest.mark.parametrize(
    ("url", "is_refused"),
    [
        ("http://me:hush@config.internal:8888", True),
        ("http://me@config.internal", True),
        ("http://config.internal", False),
        ("https://me:hush@config.internal", False),
        ("http://me:hush@127.0.0.1:8888", False),
        ("http://me:hush@localhost", False),
        ("http://me:hush@[::1]:8888", False),
    ],
)
def test_production_sends_no_password_in_the_clear(
    env: Env, monkeypatch: pytest.MonkeyPatch, url: str, is_refused: bool
) -> None:
    """A config server gets none, unless a mesh encrypts, which only the environment can declare."""
    monkeypatch.setattr(config_server, "_answer", lambda _: sources({"tls.by-mesh": True}))
    env(CONFIG_URL=url, ENV="production")
    refusal = "CONFIG_URL holds a password"
    assert (refusal in " ".join(config.read().mistakes)) is is_refused
    env(TLS_BY_MESH="true")
    assert refusal not in " ".join(config.read().mistakes)
    env(TLS_BY_MESH="false", ENV="test")
    assert refusal not in " ".join(config.read().mistakes)


def test_a_wrong_env_asks_no_config_server(env: Env) -> None:
    """It is a part of the address that is asked, and decides whether a password may go there."""
    with spring(sources({})) as (address, asked):
        env(CONFIG_URL=f"http://{address}", ENV="prod", PORT="http")
        with pytest.raises(SettingsError, match=r"^ENV: .*; PORT: [^;]*$"):
            load()
    assert asked == []


def test_a_config_server_that_is_not_there_stops_the_start(env: Env) -> None:
    """Nobody listens."""
    env(CONFIG_URL="http://me:hush@127.0.0.1:1/base")
    with pytest.raises(SettingsError, match=r"CONFIG_URL: .* cannot be reached") as refused:
        load()
    for part in ("me:", "hush", "127.0.0.1", "base"):
        assert part not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://config",
        "config:8888",
        "http://me:hu/sh@127.0.0.1",
        "http://me:hu#sh@127.0.0.1",
        "http://me:hu?sh@127.0.0.1",
        "http://me:12/sh@127.0.0.1",
        "http://me:12?sh@127.0.0.1",
        "http://me:12#sh@127.0.0.1",
        "http://me:hush@[::1",
        "http://me:hush@h:port",
        "http://me:hush@h:0",
        "http://me:hush@h\n/",
        "http://me:hush@h h/",
        "http://me:hush@",
        "http://h℀",
        "http://127.0.0.1/?",
    ],
)
def test_a_url_that_may_mean_another_host_is_not_asked(
    env: Env, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """What is not escaped in a password would be sent to a host of the user's name."""
    asked: list[object] = []
    monkeypatch.setattr(config_server, "_answer", asked.append)
    env(CONFIG_URL=url)
    with pytest.raises(SettingsError, match=r"CONFIG_URL .*in the password escaped"):
        load()
    assert asked == []


def test_only_one_module_reads_the_environment() -> None:
    """No other module of the server looks at os.environ."""
    package = Path(config.__file__).parent
    for path in package.rglob("*.py"):
        if path.parts[len(package.parts)] not in {
            "__main__.py",
            "cli",
            "mock",
            "sandbox",
            "v1",
            "config_sources.py",
        }:
            text = path.read_text()
            assert "os.environ" not in text, path
            assert "getenv" not in text, path
