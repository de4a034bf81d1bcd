"""The gateway's settings: where they come from, and what keeps it from starting."""

import json
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from midas.errors import SettingsError
from midas.runtime import config_server
from midas.runtime.target import is_target
from tests.gateway.account import Account
from tests.rpc.certificates import Authority
from webhook_gateway.config.loading import load
from webhook_gateway.config.settings import Settings
from webhook_gateway.start import OTHER_FILES, mistakes, prepare

Env = Callable[..., None]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys and certificates made for this run."""
    folder = tmp_path_factory.mktemp("keys")
    Account().key_file(folder)
    authority = Authority()
    pair = authority.issue("gateway")
    for name, content in {
        "ca.pem": authority.pem,
        "c.pem": pair.certificate,
        "k.pem": pair.key,
        "other-k.pem": authority.issue("other").key,
        "garbage.pem": b"garbage",
    }.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def env(monkeypatch: pytest.MonkeyPatch, files: Path) -> Env:
    """Sets variables; without any, the environment holds what a development process needs."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PINGPP_PUBLIC_KEY_PATHS", "pingpp.pem")
    monkeypatch.chdir(files)

    def change(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return change


def test_the_defaults_serve_development() -> None:
    """An address that only this machine reaches, and the documented ports."""
    settings = load()
    assert (settings.ip, settings.webhook_port, settings.webhook_mport) == ("127.0.0.1", 6013, 6014)
    assert settings.webhook_path == "/pingpp/webhooks"
    assert (settings.midas_target, settings.order_target) == ("127.0.0.1:6011", "")
    assert settings.webhook_body_bytes == 64 * 1024
    assert (settings.relay_concurrency, settings.order_timeout_s) == (64, 10)
    assert settings.pingpp_public_key_paths == (Path("pingpp.pem"),)


def test_every_setting_is_explained() -> None:
    """The file is the manual: no field is without its text."""
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_no_setting_is_a_secret_of_the_server() -> None:
    """The process that faces the internet has no database and no secret of Ping++ to lose."""
    for name in Settings.model_fields:
        assert "database" not in name
        assert name not in {"pingpp_api_key", "pingpp_private_key", "pingpp_private_key_path"}


def test_names_stay_apart_without_punctuation() -> None:
    """No two settings have the same name in the config server's relaxed spelling."""
    names = [config_server.plain(name) for name in Settings.model_fields]
    assert len(set(names)) == len(names)


REFUSED = {
    "no key": ("PINGPP_PUBLIC_KEY_PATHS is not set", {"PINGPP_PUBLIC_KEY_PATHS": ""}),
    "only commas": ("PINGPP_PUBLIC_KEY_PATHS is not set", {"PINGPP_PUBLIC_KEY_PATHS": " , "}),
    "env": ("ENV", {"ENV": "staging"}),
    "ip": ("IP", {"IP": "gateway.internal"}),
    "port": ("WEBHOOK_PORT", {"WEBHOOK_PORT": "http"}),
    "same ports": ("WEBHOOK_MPORT", {"WEBHOOK_MPORT": "6013"}),
    "path": ("WEBHOOK_PATH", {"WEBHOOK_PATH": "webhooks"}),
    "path with query": ("WEBHOOK_PATH", {"WEBHOOK_PATH": "/webhooks?x=1"}),
    "no Midas": ("MIDAS_TARGET", {"MIDAS_TARGET": " "}),
    "body": ("WEBHOOK_BODY_BYTES", {"WEBHOOK_BODY_BYTES": "262144"}),
    "no time": ("BODY_TIMEOUT_S", {"BODY_TIMEOUT_S": "0"}),
    "nobody": ("CONCURRENT_WEBHOOKS", {"CONCURRENT_WEBHOOKS": "0"}),
    "half a pair": ("TLS_KEY_PATH", {"TLS_CA_PATH": "ca.pem", "TLS_CERT_PATH": "c.pem"}),
    "no authority": ("TLS_CA_PATH", {"TLS_CERT_PATH": "c.pem", "TLS_KEY_PATH": "k.pem"}),
    "production in the clear": ("TLS_CA_PATH is not set", {"ENV": "production"}),
    "config server": ("CONFIG_URL", {"CONFIG_URL": "http://127.0.0.1:1"}),
    "key that is none": ("PINGPP_PUBLIC_KEY_PATHS", {"PINGPP_PUBLIC_KEY_PATHS": "garbage.pem"}),
    "two keys of one name": (
        "two files have the same name",
        {"PINGPP_PUBLIC_KEY_PATHS": "pingpp.pem,./pingpp.pem"},
    ),
    "no such authority": ("TLS_CA_PATH: cannot read", {"TLS_CA_PATH": "none.pem"}),
    "no certificate of an authority": ("TLS_CA_PATH holds no", {"TLS_CA_PATH": "garbage.pem"}),
    "a key for an authority": ("TLS_CA_PATH holds no", {"TLS_CA_PATH": "k.pem"}),
    "other pair": (
        "no pair",
        {"TLS_CA_PATH": "ca.pem", "TLS_CERT_PATH": "c.pem", "TLS_KEY_PATH": "other-k.pem"},
    ),
    "target": ("MIDAS_TARGET", {"MIDAS_TARGET": ":::"}),
    "order service": ("ORDER_TARGET", {"ORDER_TARGET": "http://orders:6030"}),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_a_sentence_that_names_the_setting(mistake: str, env: Env) -> None:
    """Its reader knows what to set."""
    sentence, variables = REFUSED[mistake]
    env(**variables)
    with pytest.raises(SettingsError, match=sentence):
        load()


def test_production_with_tls_or_a_mesh_starts(env: Env) -> None:
    """Either of them will do."""
    env(ENV="production", TLS_BY_MESH="true")
    assert load().tls_by_mesh
    env(TLS_BY_MESH="false", TLS_CA_PATH="ca.pem", TLS_CERT_PATH="c.pem", TLS_KEY_PATH="k.pem")
    assert load().tls_ca_path == Path("ca.pem")


@pytest.mark.parametrize(
    "target",
    [
        "midas:6011", "midas", "dns:6011", "dns:midas:6011", "DNS:///midas.internal:6011",
        "dns://8.8.8.8/midas:6011", "127.0.0.1:6011", "[::1]:6011", "::1", "[2001:db8::1]",
        "ipv4:10.0.0.1:6011,10.0.0.2:6011", "ipv6:[2001:db8::1]:6011", "unix:/run/midas.sock",
        "unix:///run/midas.sock", "unix-abstract:midas", "xds:///midas", "a_b-c.internal.:1",
    ],
)  # fmt: skip
def test_a_target_is_what_grpc_reads(target: str) -> None:
    """By https://github.com/grpc/grpc/blob/master/doc/naming.md."""
    assert is_target(target)


@pytest.mark.parametrize(
    "target",
    [
        ":::", "::", "[::]:6011", ":6011", "midas:", "midas:0", "midas:65536", "midas:grpc",
        "a:b:1", "http://midas:6011", "midas:6011/", "mi das:1", "midas:6011 ", "[midas]:1",
        "[::1]6011", "[::1]:x", "dns:", "dns:///", "ipv4:", "unix:", "unix:///", "u:p@midas:1",
        "midas\n:1", "-midas:1", "\N{FULLWIDTH DIGIT ONE}:1",
    ],
)  # fmt: skip
def test_a_target_that_leads_nowhere_is_none(target: str) -> None:
    """A channel would look for it until the gateway ends."""
    assert not is_target(target)


def test_all_mistakes_are_listed_at_once(env: Env) -> None:
    """As a list for a caller, and as one refusal at the start."""
    env(ENV="production", IP="here", WEBHOOK_PORT="http", MIDAS_TARGET=":::", ORDER_TARGET="a b")
    env(PINGPP_PUBLIC_KEY_PATHS="garbage.pem", TLS_CERT_PATH="none", WEBHOOK_PATH="x")
    listed = mistakes()
    assert sorted(each.partition(":")[0].partition(" ")[0] for each in listed) == [
        "IP",
        "MIDAS_TARGET",
        "ORDER_TARGET",
        "PINGPP_PUBLIC_KEY_PATHS",
        "TLS_CERT_PATH",
        "TLS_CERT_PATH",
        "WEBHOOK_PATH",
        "WEBHOOK_PORT",
    ]
    with pytest.raises(SettingsError) as refused:
        prepare()
    assert refused.value.mistakes == listed


def test_an_address_of_another_machine_is_a_mistake(env: Env) -> None:
    """A port that is taken is not: it may be the gateway that this one is to replace."""
    env(IP="240.0.0.1", WEBHOOK_MIP="240.0.0.2")
    assert [each.partition(":")[0] for each in mistakes()] == [
        "IP and WEBHOOK_PORT",
        "WEBHOOK_MIP and WEBHOOK_MPORT",
    ]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env(IP="127.0.0.1", WEBHOOK_MIP="127.0.0.1", WEBHOOK_PORT=port)
        assert mistakes() == ()


@pytest.mark.parametrize(
    ("connections", "names"),
    [(0, ["IP and WEBHOOK_PORT", "WEBHOOK_CONNECTIONS"]), (1, ["IP and WEBHOOK_PORT"])],
)
def test_too_few_open_files_are_listed_with_the_rest(
    env: Env, monkeypatch: pytest.MonkeyPatch, connections: int, names: list[str]
) -> None:
    """Room for no connection is a mistake, for fewer than wanted it is none; nothing is raised."""
    limit = OTHER_FILES + connections
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("it was raised"))
    env(IP="240.0.0.1")
    assert [each.partition(":")[0] for each in mistakes()] == names


def test_the_config_server_comes_after_the_environment(env: Env) -> None:
    """Its values, in Spring's spelling, count where the environment has none."""
    source = {
        "webhook.path": "/from/server",
        "midas.target": "server:1",
        "pingpp.api-key": "sk_live_not_for_the_gateway",
    }
    with config_server_with(source) as url:
        env(CONFIG_URL=url, ENV="test", MIDAS_TARGET="environment:2")
        settings = load()
    assert (settings.webhook_path, settings.midas_target) == ("/from/server", "environment:2")
    assert "sk_live" not in repr(settings)


@contextmanager
def config_server_with(source: dict[str, str]) -> Iterator[str]:
    """A config server that answers /midas/test with one property source."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/midas/test"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"propertySources": [{"source": source}]}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
