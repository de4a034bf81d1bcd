"""What keeps Midas from starting is found by one checker, before anything is started."""

import resource
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from midas import app, start
from midas.cli.app import cli
from midas.config import loading as config
from midas.config.settings import Settings
from midas.errors import SettingsError

Env = Callable[..., None]
SERVE = app.serve


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Env:
    """Sets variables; without any, Midas starts, and ends at once."""

    def change(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    async def serve(*_: object) -> None:
        return

    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(app, "serve", serve)
    monkeypatch.chdir(tmp_path)
    change(PINGPP_API_KEY="sk_test_x", PINGPP_APP_ID="app_x", PORT="0")
    return change


WORLDS = {
    "no folder": ({"DATABASE_URL": "sqlite:///none/midas.sqlite3"}, ["folder of the file"]),
    "a folder": ({"DATABASE_URL": "sqlite:////proc"}, ["names a folder"]),
    "no rights": ({"DATABASE_URL": "sqlite:////proc/midas.sqlite3"}, ["opened for writing"]),
    "no server": ({"DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}, ["cannot be reached"]),
    "newer schema": ({"DATABASE_URL": "sqlite:///newer.sqlite3"}, ["deploy the newer version"]),
    "another machine": ({"IP": "240.0.0.1"}, ["IP and PORT: "]),
    "no interface": ({"IP": "fe80::1%nothing"}, ["IP and PORT: "]),
    "of every kind": (
        {
            "IP": "240.0.0.1",
            "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d",
            "PINGPP_API_KEY": "pk_x",
            "WORKERS": "many",
        },
        ["WORKERS", "PINGPP_API_KEY", "IP and PORT", "cannot be reached"],
    ),
    "production": (
        {
            "ENV": "production",
            "DATABASE_URL": "postgresql://u:p@/d?host=127.0.0.1:1&host=0.0.0.0:1",
            "IP": "0.0.0.0",
        },
        [
            "PINGPP_API_KEY is a test key",
            "PINGPP_PRIVATE_KEY_PATH is not set",
            "PINGPP_PUBLIC_KEY_PATHS is not set",
            "TLS_CERT_PATH and TLS_KEY_PATH are not set",
            "TLS_CALLERS is not set",
            "production speaks TLS with PostgreSQL",
            "cannot be reached",
        ],
    ),
    "unread in part": ({"DATABASE_URL": "sqlite:///", "IP": "here"}, ["IP: ", "SQLite file"]),
}


@pytest.mark.parametrize("case", WORLDS)
def test_serve_and_its_check_refuse_the_same(
    env: Env, capsys: pytest.CaptureFixture[str], tmp_path: Path, case: str
) -> None:
    """All of it at once, each thing once, and without leaving anything behind."""
    variables, sentences = WORLDS[case]
    with closing(sqlite3.connect(tmp_path / "newer.sqlite3")) as newer, newer:
        newer.execute("CREATE TABLE alembic_version AS SELECT '9999' AS version_num")
    env(**variables)
    printed = []
    for command in (["serve"], ["serve", "--check"]):
        with pytest.raises(SystemExit) as ended:
            cli(command)
        assert ended.value.code == 2
        printed.append(capsys.readouterr().err)
    assert printed[0] == printed[1]
    assert printed[0].count("\nmidas: ") == len(sentences) - 1
    assert printed[0].endswith("[SETTINGS]\n  Nothing was started.\n")
    with pytest.raises(SettingsError) as refused:
        start.prepare(app.parts)
    mistakes = list(refused.value.mistakes)
    assert len(mistakes) == len(sentences), mistakes
    for sentence in sentences:
        assert [sentence in each for each in mistakes].count(True) == 1, sentence
    assert [path.name for path in tmp_path.iterdir()] == ["newer.sqlite3"]


@pytest.mark.parametrize(
    ("connections", "names"), [(0, ["IP and PORT", "CONNECTIONS"]), (1, ["IP and PORT"])]
)
def test_too_few_open_files_are_listed_with_the_rest(
    env: Env, monkeypatch: pytest.MonkeyPatch, connections: int, names: list[str]
) -> None:
    """Room for no connection is a mistake, for fewer than wanted it is none; nothing is raised."""
    limit = start.open_files(config.load()).others + connections
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("it was raised"))
    env(IP="240.0.0.1")
    with pytest.raises(SettingsError) as refused:
        start.prepare(app.parts)
    assert [each.partition(":")[0] for each in refused.value.mistakes] == names


def test_who_cannot_have_the_port_changes_nothing(
    env: Env, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only the start itself finds that out, and before the database is made or migrated."""
    monkeypatch.setattr(app, "serve", SERVE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env(PORT=str(taken.getsockname()[1]))
        cli_ends(0, "serve", "--check")
        cli_ends(2, "serve")
    printed = capsys.readouterr().err
    assert "another process has the port" in printed
    assert printed.endswith("  Nothing was started.\n")
    assert list(tmp_path.iterdir()) == []


def cli_ends(status: int, *arguments: str) -> None:
    """Run `midas` in this process; it must end so."""
    with pytest.raises(SystemExit) as ended:
        cli(arguments)
    assert ended.value.code == status


def test_what_can_start_is_prepared(env: Env, tmp_path: Path) -> None:
    """Nothing is made before the start itself, and nothing of a file that is there is changed."""
    assert start.prepare(app.parts) == config.load()
    assert list(tmp_path.iterdir()) == []
    assert app.run(app.serve) == 0
    file = tmp_path / "there.sqlite3"
    file.touch(mode=0o644)
    env(DATABASE_URL=f"sqlite:///{file}")
    start.prepare(app.parts)
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"", 0o644)


def test_what_only_the_parts_refuse_is_a_mistake_too(env: Env) -> None:
    """A rule that the checks forget cannot make `--check` accept the settings."""

    def parts(_: Settings) -> None:
        raise SettingsError("PINGPP_APP_ID: too old")

    with pytest.raises(SettingsError, match="too old"):
        start.prepare(parts)


def test_where_the_config_server_answers_nothing_no_default_is_tried(env: Env) -> None:
    """Its values are not known: no default is tried in their place."""
    env(CONFIG_URL="http://127.0.0.1:1", IP="240.0.0.1", DATABASE_URL="sqlite:///none/x", PORT="x")
    with pytest.raises(SettingsError) as refused:
        start.prepare(app.parts)
    names = [each.partition(":")[0] for each in refused.value.mistakes]
    assert names == ["CONFIG_URL", "PORT"]
