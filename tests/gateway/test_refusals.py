"""A flood of forged webhooks fills no disk, and hides nothing."""

import asyncio
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from midas.runtime.logs import Logs, configure
from tests.gateway.account import Account
from tests.gateway.events_double import EventsDouble, served
from tests.gateway.intake_stage import staged
from webhook_gateway.refusals import LINES, RefusalLines

BODY = b'{"id": "evt_1", "type": "charge.succeeded", "data": {"object": {}}}'


class Log:
    """What was logged."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.logs: Logs = configure("INFO", self.stream)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Those with this event, parsed."""
        self.logs.flush()
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def log() -> Iterator[Log]:
    """The log of this process, taken over for one test."""
    before = logging.getLogger().handlers[:]
    made = Log()
    yield made
    made.logs.close()
    for handler in before:
        logging.getLogger().addHandler(handler)


async def test_forged_webhooks_get_a_few_lines_and_a_count(log: Log) -> None:
    """Genuine ones keep theirs, and the metrics count every one."""
    account = Account()
    async with served(EventsDouble()) as port, staged([account.key], port) as stage:
        for _ in range(LINES + 5):
            assert (await stage.post(BODY, "forged")).status == 401
        assert (await stage.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).status == 405
        for _ in range(3):
            assert (await stage.post(BODY, account.sign(BODY))).status == 200
        verdicts = Counter(line["verdict"] for line in log.lines("webhook"))
        assert verdicts.pop("bad_signature") == LINES
        assert (sum(verdicts.values()), "method_not_allowed" in verdicts) == (3, False)
        assert log.lines("webhooks_refused") == []
        assert stage.counted("bad_signature") == LINES + 5
        await stage.intake.drain(timedelta(seconds=1))
    counts = {line["verdict"]: line["count"] for line in log.lines("webhooks_refused")}
    assert counts == {"bad_signature": 5, "method_not_allowed": 1}


async def test_the_count_is_logged_when_the_window_is_over(log: Log) -> None:
    """The line comes also when no request follows; the next window has lines again."""
    lines = RefusalLines(lines=1, window_s=0.05)
    assert [lines.has_line("bad_signature") for _ in range(3)] == [True, False, False]
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, later.set)
    await later.wait()
    assert log.lines("webhooks_refused")[0]["count"] == 2
    assert lines.has_line("bad_signature")
    lines.close()
    assert len(log.lines("webhooks_refused")) == 1
