"""The log of this process, for tests that read it."""

import io
import logging
from collections.abc import Iterator

import pytest

from midas.runtime.logs import Logs, configure


@pytest.fixture
def logged() -> Iterator[tuple[Logs, io.StringIO]]:
    """What the process writes to its log."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:]
    logs = configure("INFO", stream)
    yield logs, stream
    logs.close()
    for handler in before:
        root.addHandler(handler)
