"""Databases for tests: SQLite files, and a real PostgreSQL with a fresh database for each test.

`sqlite_url`, `postgres_url`: an empty database with Midas's schema, for one test.
`database_url`: both of them, one after the other. `blank_postgres_url`: without the schema.
`module_postgres_url`: one for all tests of a module. `postgres`: the server itself.
"""

import asyncio
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from midas.storage import migrate
from tests.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server of this pytest process, started when a test asks for it first.

    A test may stop it, if it starts it again.
    """
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """A database with Midas's schema, to make others from."""
    name = postgres.new_database()
    _migrate(postgres.url(name))
    return name


def _migrate(url: str) -> None:
    """In a thread, since an async fixture that asks for a template has a loop running here."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(migrate(url))).result()


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A PostgreSQL database with the schema and nothing in it."""
    yield from _postgres_url(postgres, postgres_template)


@pytest.fixture(scope="module")
def module_postgres_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A PostgreSQL database with the schema, shared by the tests of a module."""
    yield from _postgres_url(postgres, postgres_template)


@pytest.fixture
def blank_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database with nothing at all in it."""
    yield from _postgres_url(postgres, "template0")


def _postgres_url(server: PostgresServer, template: str) -> Iterator[str]:
    name = server.new_database(template)
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with Midas's schema, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_path(tmp_path: Path, sqlite_template: Path) -> Path:
    """A SQLite file with the schema and nothing in it."""
    return Path(shutil.copy(sqlite_template, tmp_path / "midas.db"))


@pytest.fixture
def sqlite_url(sqlite_path: Path) -> str:
    """The DATABASE_URL of `sqlite_path`."""
    return f"sqlite:///{sqlite_path}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database with the schema: SQLite, then PostgreSQL."""
    return str(request.getfixturevalue(f"{request.param}_url"))
