"""The command line as a whole: help, version, settings, and the base install without servers."""

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest

from midas import storage
from midas.cli.app import COMMANDS
from midas.errors import SettingsError
from midas.storage.schema import SCHEMA
from tests.cli.double import run_alone
from tests.patience import PATIENCE_S
from tests.storage.newer import Newer, install
from tests.test_config import sources, spring

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_SERVER = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from midas.__main__ import main
sys.argv = ["midas", *{arguments!r}]
main()
"""


def midas(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m midas` with no settings but these."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "midas", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=clean | environment,
    )


def test_version() -> None:
    """`python -m midas --version` prints the package's version."""
    done = midas("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("midas ")


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_teaches(command: str) -> None:
    """Each help describes what may have happened on failure, has an example, and offers --json."""
    text = run_alone(command, "--help").stdout
    assert "status 1" in text.lower() or "status 2" in text.lower()
    assert f"  midas {command}" in text or f"midas {command}\n" in text
    assert "--json" in text
    assert "\b" not in text
    assert "\\b" not in text


def test_without_a_command_there_is_help() -> None:
    """A bare `midas` prints the same as `midas --help`."""
    bare = run_alone()
    assert bare.exit_code == 0
    assert bare.stdout == run_alone("--help").stdout


def test_a_table_keeps_its_lines() -> None:
    """What is laid out in the source is laid out in the help."""
    lines = run_alone("--help").stdout.splitlines()
    assert any(line.split() == ["New", "here?", "midas", "demo"] for line in lines)


def test_the_exit_statuses_are_documented() -> None:
    """The top help names every command and every exit status."""
    text = run_alone("--help").stdout
    assert all(command in text for command in COMMANDS)
    assert all(f"  {status}  " in text for status in (0, 1, 2, 3))


def test_the_help_of_serve_is_the_manual_of_settings() -> None:
    """Every setting is listed under its name in the environment."""
    text = run_alone("serve", "--help").stdout
    assert "PINGPP_PRIVATE_KEY_PATH" in text
    assert "DRAIN_TIMEOUT_S" in text
    words = " ".join(text.split())
    assert all(f"[default: {value}]" in words for value in ("6011", "false", "20", "development"))


def test_unknown_command() -> None:
    """A command that does not exist is wrong usage."""
    assert run_alone("pay").exit_code == 2


@pytest.mark.parametrize("absent", [{"click"}, {"aiohttp"}, {"pydantic"}])
def test_without_the_server_extra(absent: set[str]) -> None:
    """On the base install one sentence names what to install, with status 2."""
    script = WITHOUT_SERVER.format(absent=absent, arguments=["serve"])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert "install midas[server]" in done.stderr
    assert "midas on the public index (PyPI) is another product" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name", ["README.md", "docs/operating.md", "Dockerfile", "ARCHITECTURE.md"]
)
def test_nobody_is_led_to_the_other_midas(name: str) -> None:
    """By the name `midas` alone pip would install the other product, from the public index."""
    text = (ROOT / name).read_text()
    by_name = re.compile(r"(?:pip install|uv add|uv tool install|uvx|pipx run) +['\"]?midas\b")
    assert not by_name.search(text)
    if name == "README.md":
        assert f"dist/midas-{metadata.version('midas')}-py3" in text
        assert "is another product" in text


def test_serve_without_settings() -> None:
    """A missing setting ends with status 2 and its name, as a sentence or as JSON."""
    done = midas("serve")
    assert done.returncode == 2
    assert "PINGPP_API_KEY" in done.stderr
    printed = json.loads(midas("serve", "--json").stdout)
    assert printed["error"]["reason"] == "SETTINGS"
    assert "PINGPP_API_KEY" in printed["error"]["message"]


def test_serve_that_cannot_listen_prints_one_object(tmp_path: Path) -> None:
    """A start that fails after the settings are read is one JSON object too, with status 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {
            "PINGPP_API_KEY": "sk_test_x",
            "PINGPP_APP_ID": "app_x",
            "PORT": str(taken.getsockname()[1]),
            "DATABASE_URL": f"sqlite:///{tmp_path / 'midas.sqlite3'}",
        }
        done = midas("serve", "--json", **settings)
    assert done.returncode == 2
    printed = json.loads(done.stdout)
    assert printed["error"]["reason"] == "SETTINGS"
    assert "PORT" in printed["error"]["message"]
    assert "cannot listen" not in done.stderr


def test_serve_check_starts_nothing() -> None:
    """--check prints that the settings will do, and which money would move."""
    settings = {"PINGPP_API_KEY": "sk_test_x", "PINGPP_APP_ID": "app_x"}
    done = midas("serve", "--check", **settings)
    assert done.returncode == 0, done.stderr
    assert "no real money" in done.stdout
    printed = json.loads(midas("serve", "--check", "--json", **settings).stdout)
    assert printed == {"ok": True, "env": "development", "livemode": False}


def test_migrate_prints_both_schemas(tmp_path: Path) -> None:
    """The first run makes the schema, the second finds it there."""
    url = f"sqlite:///{tmp_path / 'midas.sqlite3'}"
    first = run_alone("migrate", "--database", url, "--json")
    printed = json.loads(first.stdout)
    assert (first.exit_code, printed["from"]) == (0, None)
    second = run_alone("migrate", DATABASE_URL=url)
    assert f"Schema {printed['to']}: nothing to do." in second.stdout
    third = run_alone("migrate", "--json", DATABASE_URL=url)
    assert json.loads(third.stdout) == {"ok": True, "from": printed["to"], "to": printed["to"]}


def test_after_a_restore_numbers_begin_above_what_was_used(tmp_path: Path) -> None:
    """The floor is higher each time, and it is printed."""
    url = f"sqlite:///{tmp_path / 'midas.db'}"
    first = run_alone("migrate", "--restored", "--json", DATABASE_URL=url)
    assert (first.exit_code, json.loads(first.stdout)["from"]) == (0, None)
    floor = json.loads(first.stdout)["floor"]
    assert floor >= 1 << 20
    second = run_alone("migrate", "--restored", DATABASE_URL=url)
    (number,) = re.findall(r"numbered above (\d+) from now on", second.stdout)
    assert int(number) >= floor + (1 << 20)
    assert "numbered" not in run_alone("migrate", DATABASE_URL=url).stdout


def test_migrate_never_repeats_the_url() -> None:
    """What is wrong with the database is a mistake in a setting, printed without its password."""
    result = run_alone("migrate", "--database", "mysql://me:hunter2@db/midas")
    assert result.exit_code == 2
    assert "[SETTINGS]" in result.stderr
    assert "hunter2" not in result.output
    assert run_alone("migrate", DATABASE_URL="").exit_code == 2


@pytest.mark.parametrize(
    ("url", "is_warned"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/midas", True),
        ("postgresql://me:hunter2/2@127.0.0.1:1/midas", True),
        ("postgresql://me@127.0.0.1:1/midas?password=hunter2", True),
        ("postgresql://me@127.0.0.1:1/midas", False),
        ("sqlite:///none/midas.sqlite3", False),
    ],
)
def test_a_password_on_the_command_line_is_warned_of(url: str, is_warned: bool) -> None:
    """Everybody on the machine can read it; the warning names the environment instead."""
    given = run_alone("migrate", "--database", url, "--json")
    assert ("set DATABASE_URL in the environment" in given.stderr) is is_warned
    assert json.loads(given.stdout)["ok"] is False
    assert "in the environment" not in run_alone("migrate", DATABASE_URL=url).stderr
    assert "hunter2" not in given.output


def test_migrate_reads_the_config_server_like_every_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment first, then the config server; --database asks neither."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    served, own = (f"sqlite:///{tmp_path / name}.sqlite3" for name in ("served", "own"))
    source = sources({"database.url": served, "pingpp.private-key": "{cipher}AQ"})
    with spring(source) as (address, asked):
        settings = {"CONFIG_URL": f"http://{address}", "ENV": "test"}
        assert run_alone("migrate", **settings).exit_code == 0
        assert asked == [("/midas/test", None)]
        assert run_alone("migrate", DATABASE_URL=own, **settings).exit_code == 0
    gone = run_alone("migrate", **settings)
    assert (gone.exit_code, "CONFIG_URL" in gone.stderr) == (2, True)
    assert run_alone("migrate", "--database", own, **settings).exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("*.sqlite3")) == [
        "own.sqlite3",
        "served.sqlite3",
    ]


def test_the_error_of_a_migration_does_not_claim_that_nothing_was_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Migrations before the one that failed are done; all of them where --restored fails."""

    async def fails(*_: object) -> None:
        raise SettingsError("DATABASE_URL: a lock", "DATABASE_URL: two")

    url = f"sqlite:///{tmp_path}/midas.sqlite3"
    for step in ("raise_sequence_floor", "migrate"):
        with monkeypatch.context() as changed:
            changed.setattr(storage, step, fails)
            result = run_alone("migrate", "--restored", DATABASE_URL=url)
        assert result.exit_code == 2
        first, second, advice = result.stderr.splitlines()[-3:]
        assert (first, second) == (
            "midas: DATABASE_URL: a lock [SETTINGS]",
            "midas: DATABASE_URL: two [SETTINGS]",
        )
        assert advice.endswith("as a whole or not at all: correct this and run it again.")


def test_migrating_in_production_speaks_tls_wherever_the_url_stands() -> None:
    """What --database names is held to what DATABASE_URL is held to."""
    result = run_alone("migrate", "--database", "postgresql://midas@192.0.2.1/d", ENV="production")
    assert (result.exit_code, "sslmode" in result.stderr) == (2, True)


def test_migrate_takes_no_database_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was forgotten must not pass for one that is migrated."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    result = run_alone("migrate")
    assert (result.exit_code, "DATABASE_URL is not set" in result.stderr) == (2, True)


def test_migrate_prints_where_the_copy_is(
    sqlite_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is printed on standard error, so that the one object of --json stays alone."""
    with closing(sqlite3.connect(sqlite_path)) as connection, connection:
        columns = "order_no, version, last_sequence, last_change"
        connection.execute(f"INSERT INTO orders ({columns}) VALUES ('o1', 1, 0, 'c')")  # noqa: S608
    newer = Newer(tmp_path)
    newer.add("pass")
    install(newer.folder, monkeypatch)
    result = run_alone("migrate", "--json", DATABASE_URL=f"sqlite:///{sqlite_path}")
    assert json.loads(result.stdout) == {"ok": True, "from": SCHEMA, "to": newer.revision}
    (copy,) = sqlite_path.parent.glob("*.backup")
    assert result.stderr == f"The file is copied to {copy.name}, beside it.\n"
