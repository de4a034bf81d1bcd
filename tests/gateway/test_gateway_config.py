"""The gateway's settings: where they come from, and what keeps it from starting."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from midas import config_server
from midas.errors import SettingsError
from webhook_gateway.channels import check_credentials
from webhook_gateway.config import Settings, load

Env = Callable[..., None]


@pytest.fixture(autouse=True)
def env(monkeypatch: pytest.MonkeyPatch) -> Env:
    """Sets variables; without any, the environment holds what a development process needs."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PINGPP_PUBLIC_KEY_PATHS", "pingpp.pem")

    def change(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return change


def test_the_defaults_serve_development() -> None:
    """As design.md section 11 says."""
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
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_a_sentence_that_names_the_setting(mistake: str, env: Env) -> None:
    """Whoever reads it knows what to set."""
    sentence, variables = REFUSED[mistake]
    env(**variables)
    with pytest.raises(SettingsError, match=sentence):
        load()


def test_production_with_tls_or_a_mesh_starts(env: Env) -> None:
    """Either of them will do."""
    env(ENV="production", TLS_BY_MESH="true")
    assert load().tls_by_mesh
    env(TLS_BY_MESH="false", TLS_CA_PATH="ca.pem")
    assert load().tls_ca_path == Path("ca.pem")


def test_tls_files_are_read_before_anything_is_started(env: Env, tmp_path: Path) -> None:
    """One that is missing is named together with its setting."""
    env(TLS_CA_PATH=str(tmp_path / "none.pem"))
    with pytest.raises(SettingsError, match="TLS_CA_PATH: cannot read"):
        check_credentials(load())


def test_the_config_server_comes_after_the_environment(env: Env) -> None:
    """What it says in Spring's spelling counts where the environment says nothing."""
    told = {
        "webhook.path": "/from/server",
        "midas.target": "server:1",
        "pingpp.api-key": "sk_live_not_for_the_gateway",
    }
    with config_server_with(told) as url:
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
