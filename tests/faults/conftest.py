"""The harness of the tests with real processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.processes import Harness, Keys


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
