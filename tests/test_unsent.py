"""UNAVAILABLE says that nothing was sent: never after an earlier charge was dealt with (I5)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from midas.charge import ChargeState
from midas.draft import Draft
from midas.errors import (
    ChargeNotMade,
    ChargeStillOpen,
    MidasError,
    OutcomeUnknown,
    Overloaded,
    PspUnavailable,
    StorageUnavailable,
)
from midas.payment import Change
from midas.ports import KeyTaken
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Lost, NotSent, Sent
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, TERMS
from tests.faults.world import Failed, FaultyStore, FaultyWire, World

FAILURES: list[tuple[Callable[[], Exception] | None, type[MidasError]]] = [
    (StorageUnavailable, ChargeNotMade),
    (Overloaded, ChargeNotMade),
    (lambda: StorageUnavailable(may_have_written=True), OutcomeUnknown),
    (None, ChargeNotMade),  # the post does not leave
]


Failure = Callable[[], Exception] | None


def break_the_new_charge(patch: pytest.MonkeyPatch, failure: Failure, after: int = 0) -> None:
    """Its intent cannot be written or, without a failure, its post does not leave.

    From this version of the order on: each call first tries whether the order is new.
    """
    commit, send = FaultyStore.commit, FaultyWire.send

    async def committed(self: FaultyStore, change: Change) -> bool:
        if change.new_charges and change.expected_version >= after and failure is not None:
            raise failure()
        return await commit(self, change)

    async def sent(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if request.url.endswith("/charges") and failure is None and request.method == "POST":
            return NotSent("connect_failed")
        return await send(self, request, limit)

    patch.setattr(FaultyStore, "commit", committed)
    patch.setattr(FaultyWire, "send", sent)


@pytest.mark.parametrize(("failure", "error"), FAILURES)
async def test_after_a_reversal(
    failure: Failure,
    error: type[MidasError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first charge was reversed; the other one could not be made; the same key makes it."""
    world = World(Chooser((), most_faults=0), TERMS)
    first = await world.payments.charge(TERMS)
    with monkeypatch.context() as patch:
        break_the_new_charge(patch, failure, after=1)
        with pytest.raises(error):
            await world.payments.charge(ALIPAY)
    assert world.lookalike.charge(first.charge.charge_id or "")["reversed"]
    again = await world.payments.charge(ALIPAY)
    assert again.charge.state is ChargeState.PENDING


@pytest.mark.parametrize("failure", [failure for failure, _ in FAILURES])
async def test_without_one(
    failure: Failure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same failures of an order's first charge are answered as what they are."""
    world = World(Chooser((), most_faults=0), TERMS)
    break_the_new_charge(monkeypatch, failure)
    result = await world.ask(lambda payments: payments.charge(TERMS))
    assert isinstance(result, Failed)
    expected = PspUnavailable if failure is None else type(failure())
    assert isinstance(result.error, expected)


async def test_a_question_that_fails_after_a_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    """The charge was posted again for its answer and turned down; then Ping++ is gone."""
    world = World(Chooser((), most_faults=0), TERMS)
    first = await world.payments.charge(TERMS)
    draft = Draft(await world.order())
    draft.put(replace(first.charge, answer=None))
    known = draft.change(world.disk.new_change_id())
    assert known is not None
    assert await world.disk.commit(known)

    async def sent(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        return TURNED_DOWN if request.method == "POST" else Lost("timeout")

    monkeypatch.setattr(FaultyWire, "send", sent)
    with pytest.raises(ChargeStillOpen):
        await world.payments.charge(TERMS)
    with pytest.raises(PspUnavailable):  # nothing but a question is asked here
        await world.payments.charge(replace(TERMS, amount=200))


TURNED_DOWN = Answer(
    402, b'{"error":{"type":"channel_error","code":"channel_request_error","message":"no"}}', ""
)


async def test_a_number_that_is_taken_is_not_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another order has it: the next one is tried."""
    world = World(Chooser((), most_faults=0), TERMS)
    commit = FaultyStore.commit
    taken: list[str] = []

    async def committed(self: FaultyStore, change: Change) -> bool:
        if change.new_charges and not taken:
            taken.append(change.new_charges[0].out_trade_no)
            raise KeyTaken("out_trade_no")
        return await commit(self, change)

    monkeypatch.setattr(FaultyStore, "commit", committed)
    made = await world.payments.charge(TERMS)
    assert made.charge.out_trade_no not in taken
