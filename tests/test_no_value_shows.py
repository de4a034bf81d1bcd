"""No value of any setting ever shows, in any wrong shape: it may be a secret.

A key that was pasted where the path of a file belongs, or a password in a URL that was not escaped,
must not get onto the screen, into the log of a container, or into a ticket. So every setting of
every process gets a canary in every shape, from the environment and from the config server.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import webhook_gateway.__main__
from midas import app
from midas.cli.app import cli
from midas.config.settings import MigrationSettings, Settings
from midas.runtime import config_server
from midas.runtime.config_sources import Sourced
from tests.gateway.account import Account
from tests.rpc.certificates import Authority
from webhook_gateway import app as gateway_app
from webhook_gateway.config.settings import Settings as GatewaySettings

CANARY = "c4n4ry"
SHAPES = {
    "word": CANARY,
    "spaces": f" {CANARY} x",
    "long": CANARY * 1000,
    "lines": f"{CANARY}\n{CANARY}",
    "private key": f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----",
    "key on one line": f"-----BEGIN PRIVATE KEY-----\\n{CANARY}\\n-----END PRIVATE KEY-----",
    "public key": f"-----BEGIN PUBLIC KEY-----\n{CANARY}\n-----END PUBLIC KEY-----",
    "secret key": f"sk_live_{CANARY} ",
    "number": f"1{CANARY}",
    "no text": f"{CANARY}\udcff",
    "path": f"/{CANARY}/{CANARY}",
    "paths": f"key.pem,{CANARY}",
    "slash in a password": f"http://u:{CANARY}/{CANARY}@127.0.0.1:1",
    "hash in a password": f"http://u:{CANARY}#{CANARY}@127.0.0.1:1",
    "question in a password": f"https://u:1?{CANARY}@127.0.0.1:1",
    "user info": f"https://{CANARY}:{CANARY}@127.0.0.1:1",
    "no end": f"http://u:{CANARY}@[::1",
    "port": f"http://127.0.0.1:{CANARY}",
    "path of a URL": f"http://127.0.0.1:1/{CANARY}",
    "scheme": f"{CANARY}://u:{CANARY}@127.0.0.1/d",
    "PostgreSQL": f"postgresql://u:{CANARY}@127.0.0.1:1/d",
    "PostgreSQL, odd": f"postgresql://u:{CANARY}/{CANARY}@127.0.0.1:1/d",
    "PostgreSQL, option": f"postgresql://u@127.0.0.1:1/d?{CANARY}={CANARY}",
    "PostgreSQL, file": f"postgresql://u@127.0.0.1:1/d?sslmode=verify-ca&sslrootcert=/{CANARY}",
    "SQLite": f"sqlite:///u:{CANARY}@127.0.0.1/d",
    "SQLite, long": f"sqlite:////{CANARY * 100}",
    "SQLite, folder": f"sqlite:////proc/{CANARY}",
    "zone": f"::1%{CANARY}",
    "JSON": json.dumps({CANARY: [CANARY]}),
    "JSON of another type": json.dumps({CANARY: 5}),
    "half of JSON": f'{{"{CANARY}": ["{CANARY}',
}
TYPED: dict[str, Any] = {
    "list": [CANARY],
    "object": {CANARY: CANARY},
    "deep": {CANARY: {CANARY: [CANARY]}},
    "zero byte": f"{CANARY}\0",
    "half a pair": f"{CANARY}\ud800",
    "closed": "{cipher}" + CANARY,
}
"""What only JSON can hold."""

Run = Callable[[], None]


class Process(NamedTuple):
    """What reads settings, and how it is run."""

    kind: type[Sourced]
    with_environment: Run
    with_config_server: Run


def _cli(*arguments: str) -> Run:
    return lambda: cli(arguments)


_gateway = webhook_gateway.__main__.main
PROCESSES = {
    # both have the same checker, which takes its time
    "midas": Process(Settings, _cli("serve"), _cli("serve", "--check", "--json")),
    "migrate": Process(MigrationSettings, _cli("migrate"), _cli("migrate", "--json")),
    "gateway": Process(GatewaySettings, _gateway, _gateway),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key and a certificate."""
    folder = tmp_path_factory.mktemp("canary")
    Account("key").key_file(folder)
    pair = Authority().issue("midas")
    (folder / "cert.pem").write_bytes(pair.certificate)
    (folder / "cert-key.pem").write_bytes(pair.key)
    return folder


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, files: Path) -> pytest.MonkeyPatch:
    """Settings that will do, and processes that end where they would serve."""
    for process in PROCESSES.values():
        for name in process.kind.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
    for name, value in {
        "PINGPP_API_KEY": "sk_test_x",
        "PINGPP_APP_ID": "app_x",
        "PINGPP_PUBLIC_KEY_PATHS": "key.pem",
        "PORT": "0",
        "WEBHOOK_PORT": "0",
        "WEBHOOK_MPORT": "0",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(files)
    monkeypatch.setattr("sys.argv", ["webhook-gateway"])

    async def serve(*_: object) -> None:
        return

    monkeypatch.setattr(app, "serve", serve)
    monkeypatch.setattr(gateway_app, "serve", serve)
    return monkeypatch


def cases() -> Iterator[tuple[str, str]]:
    """Every setting of every process."""
    for name, process in PROCESSES.items():
        yield from ((name, setting) for setting in process.kind.model_fields)


def run_and_read(run: Run, capfd: pytest.CaptureFixture[str]) -> str:
    """Run it as its process would, and give all that it prints. An exception fails the test."""
    with pytest.raises(SystemExit):
        run()
    printed = capfd.readouterr()
    return printed.out + printed.err


@pytest.mark.parametrize(("process", "setting"), list(cases()))
def test_no_value_shows(
    environment: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], process: str, setting: str
) -> None:
    """No shape from either source shows, and no traceback is printed."""
    run = PROCESSES[process].with_environment
    for shape, value in SHAPES.items():
        with environment.context() as changed:
            changed.setenv(setting.upper(), value)
            assert CANARY not in run_and_read(run, capfd), shape
    if setting == "config_url":
        return
    run = PROCESSES[process].with_config_server
    environment.delenv(setting.upper(), raising=False)
    environment.setenv("CONFIG_URL", "http://127.0.0.1:1")
    for shape, value in (SHAPES | TYPED).items():
        answer = json.dumps({"propertySources": [{"source": {setting: value}}]}).encode()
        with environment.context() as changed:
            changed.setattr(config_server, "_answer", lambda _, answer=answer: answer)
            assert CANARY not in run_and_read(run, capfd), shape


@pytest.mark.parametrize("answer", [CANARY, f'{{"propertySources": "{CANARY}"}}', "[" * 10_000])
def test_no_answer_of_the_config_server_shows(
    environment: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], answer: str
) -> None:
    """The whole answer may be secret."""
    environment.setenv("CONFIG_URL", "http://127.0.0.1:1")
    environment.setattr(config_server, "_answer", lambda _: (answer + CANARY).encode())
    for process in PROCESSES.values():
        printed = run_and_read(process.with_environment, capfd)
        assert "Spring Cloud Config" in printed
        assert CANARY not in printed


def test_no_default_of_this_machine_shows_in_the_help(
    environment: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Help lists the defaults, not what is set here."""
    for _, setting in cases():
        environment.setenv(setting.upper(), CANARY)
    for run in (_cli("serve", "--help"), _cli("migrate", "--help")):
        assert CANARY not in run_and_read(run, capfd)
    environment.setattr("sys.argv", ["webhook-gateway", "--help"])
    assert CANARY not in run_and_read(_gateway, capfd)
