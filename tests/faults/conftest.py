"""The harness of the tests with real processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.processes import Harness, Keys
from tests.faults.webhook_stage import Chain


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """The merchant's and Ping++'s keys of this run."""
    return Keys.made_in(tmp_path_factory.mktemp("keys"))


@pytest.fixture
async def harness(tmp_path: Path, keys: Keys) -> AsyncIterator[Harness]:
    """A sandbox that runs, and processes that end with the test."""
    made = Harness(tmp_path, keys)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def chain(harness: Harness, sqlite_url: str) -> AsyncIterator[Chain]:
    """The way of a webhook on SQLite."""
    made = Chain(harness, sqlite_url)
    yield made
    made.close()


@pytest.fixture
async def either_chain(harness: Harness, database_url: str) -> AsyncIterator[Chain]:
    """The same on SQLite, then on PostgreSQL."""
    made = Chain(harness, database_url)
    yield made
    made.close()


@pytest.fixture
async def postgres_chain(harness: Harness, postgres_url: str) -> AsyncIterator[Chain]:
    """The same on PostgreSQL alone."""
    made = Chain(harness, postgres_url)
    yield made
    made.close()
