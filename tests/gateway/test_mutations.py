"""Hundreds of thousands of changed webhooks: none is accepted, none breaks the gateway.

Most go through aiohttp's parser, the connection and the handler in memory (see memory.py); some
thousands go over real sockets. All of it is seeded: a failure shows the request.
"""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import TypeAlias

import pytest

from midas.v1 import event_service_pb2 as events
from tests.gateway.account import ABSENT
from tests.gateway.events_double import EventsDouble, served
from tests.gateway.intake_stage import PATH, read_all, request, staged
from tests.gateway.memory import answered_to_each
from tests.gateway.mutate import (
    Chance,
    Signed,
    changed_body,
    changed_head,
    changed_request,
    changed_signature,
    made_webhooks,
    recorded_webhooks,
)
from webhook_gateway.connections import ConnectionBounds, Connections
from webhook_gateway.intake import Intake, IntakeBounds
from webhook_gateway.metrics import Metrics
from webhook_gateway.signature import Verifier

Make: TypeAlias = Callable[[Chance, Signed], bytes]

SEED = 20260728
MUTATIONS: dict[Make, int] = {
    changed_body: 100_000,
    changed_signature: 60_000,
    changed_request: 50_000,
}
"""So many changes of the webhooks that Ping++ itself signed; a fifth as many of those that are made
here. A plain run plays a tenth of them."""
GENUINE_UNDER_CHANGED_HEADS = 20_000
OVER_SOCKETS = 3_000
AT_ONCE = 200
RECORDED = recorded_webhooks()
MADE = made_webhooks()
WEBHOOKS = RECORDED + MADE
needs_recorded = pytest.mark.skipif(not RECORDED, reason=ABSENT)
some_or_all = pytest.mark.parametrize(
    "share", [pytest.param(10, id="tenth"), pytest.param(1, id="all", marks=pytest.mark.long)]
)
each_kind = pytest.mark.parametrize("make", MUTATIONS, ids=["bodies", "signatures", "heads"])


class InMemory:
    """An intake without sockets, and all that reached RecordEvent."""

    def __init__(self) -> None:
        self.recorded: list[events.RecordEventRequest] = []
        bounds = IntakeBounds(
            path=PATH,
            body_bytes=64 * 1024,
            body_timeout=timedelta(seconds=60),
            concurrent=1000,
        )
        metrics = Metrics()
        verifier = Verifier({each.key.name: each.key for each in WEBHOOKS}.values())
        intake = Intake(verifier, self._record, bounds, metrics)
        limits = ConnectionBounds(10 * AT_ONCE, timedelta(seconds=60))
        self.server = Connections(intake.handle, limits, metrics)

    async def _record(self, sent: events.RecordEventRequest) -> events.RecordEventResponse:
        self.recorded.append(sent)
        return events.RecordEventResponse(outcome=events.EVENT_OUTCOME_ACCEPTED)

    async def statuses_of(
        self, requests: Iterable[bytes], allowed: range = range(200, 500)
    ) -> Counter[int]:
        """How often each status was answered; 0 is no answer. Fails at the first other one."""
        statuses_answered: Counter[int] = Counter()
        source = iter(requests)
        while some := list(islice(source, AT_ONCE)):
            answers = await answered_to_each(self.server, some)
            for raw, answer in zip(some, answers, strict=True):
                statuses = statuses_in(answer)
                assert set(statuses) <= set(allowed), (statuses, raw)
                statuses_answered.update(statuses or [0])
        return statuses_answered


def statuses_in(answer: bytes) -> list[int]:
    """The statuses of all answers on a connection, 100 Continue left out."""
    found = [int(each) for each in re.findall(rb"HTTP/\d\.\d (\d{3}) ", answer)]
    return [each for each in found if each != 100]


def many(count: int, make: Make, webhooks: Sequence[Signed]) -> Iterator[bytes]:
    """So many requests from the one seed, no two of them alike."""
    chance = random.Random(SEED)
    made: set[int] = set()
    while len(made) < count:
        raw = make(chance, chance.choice(webhooks))
        if hash(raw) not in made:
            made.add(hash(raw))
            yield raw


def genuine_under_changed_head(chance: Chance, webhook: Signed) -> bytes:
    """The signature and the body are genuine, but the head around them is not."""
    return changed_head(chance, request(webhook.body, webhook.signature))


async def test_unchanged_webhooks_are_accepted() -> None:
    """The counterproof: the very requests that the mutations start from get a 200."""
    memory = InMemory()
    statuses = await memory.statuses_of(request(each.body, each.signature) for each in WEBHOOKS)
    assert statuses == {200: len(WEBHOOKS)}
    assert [each.body for each in memory.recorded] == [each.body for each in WEBHOOKS]


@needs_recorded
@each_kind
@some_or_all
async def test_no_mutation_of_a_recorded_webhook_is_accepted_in_memory(
    make: Make, share: int
) -> None:
    """210,000 in all, each of them a validly signed request before."""
    await none_accepted(MUTATIONS[make] // share, make, RECORDED)


@each_kind
@some_or_all
async def test_no_mutation_of_a_webhook_made_here_is_accepted_in_memory(
    make: Make, share: int
) -> None:
    """42,000 more, of other kinds and sizes and with a longer key."""
    await none_accepted(MUTATIONS[make] // share // 5, make, MADE)


async def none_accepted(count: int, make: Make, webhooks: Sequence[Signed]) -> None:
    """Not one 2xx, not one 5xx, not one call of RecordEvent."""
    memory = InMemory()
    statuses = await memory.statuses_of(many(count, make, webhooks), range(400, 500))
    assert sum(statuses.values()) >= count
    assert statuses[401] > 0
    # only a changed head can leave the gateway waiting for the rest of a request
    assert make is changed_request or not statuses[0], statuses
    assert memory.recorded == []


async def test_a_changed_head_lets_only_the_signed_body_through() -> None:
    """What leaves body and signature alone may be accepted, and the body is the signed one then."""
    memory = InMemory()
    statuses = await memory.statuses_of(
        many(GENUINE_UNDER_CHANGED_HEADS, genuine_under_changed_head, WEBHOOKS)
    )
    signed = {each.body for each in WEBHOOKS}
    assert memory.recorded
    assert {each.body for each in memory.recorded} <= signed
    assert statuses[200] == len(memory.recorded)
    assert statuses[400] > 0


async def test_no_mutation_is_accepted_over_sockets() -> None:
    """Some thousands of each kind over TCP, before a real gRPC server that is never called."""
    midas = EventsDouble()
    keys = list({each.key.name: each.key for each in WEBHOOKS}.values())
    statuses: Counter[int] = Counter()
    async with served(midas) as port, staged(keys, port) as stage:
        requests = [raw for make in MUTATIONS for raw in many(OVER_SOCKETS, make, WEBHOOKS)]
        waiting = iter(requests)

        async def sender() -> None:
            for raw in waiting:
                statuses.update(statuses_in(await answers_to(stage.port, raw)) or [0])

        await asyncio.gather(*(sender() for _ in range(16)))
    assert sum(statuses.values()) >= len(requests)
    assert not [status for status in statuses if not 400 <= status < 500 and status], statuses
    assert midas.recorded == []


async def answers_to(port: int, raw: bytes) -> bytes:
    """All that is answered to these bytes, after which nothing more is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        with suppress(ConnectionError):
            await writer.drain()
            # no answer within this: the gateway still waits for the rest of it, and is left alone
            async with asyncio.timeout(0.5):
                return await read_all(reader)
    except TimeoutError:
        return b""
    finally:
        writer.close()
    return b""
