"""Each defect that a payment service is likely to have, seeded on purpose, must be caught.

The numbers are those of reliability.md section 4. Each test shows two things: the defect in, the
named check fails; `test_crash_points.py` shows that without it the same check passes. Those of
events and notifications are in `test_seeded_event_defects.py`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from midas import charge as charge_machine
from midas.charge import (
    Charge,
    ChargeFacts,
    ChargeObservation,
    ChargeReport,
    ChargeTerms,
    ObservedBy,
)
from midas.draft import Draft
from midas.errors import OutcomeUnknown
from midas.flows import create_charge as charge_flow
from midas.flows import resolve_refund as resolve_flow
from midas.flows.commit import Ports, commit
from midas.flows.create_charge import ChargeResult
from midas.flows.observe import create_observation, refund_observation
from midas.flows.payment_calls import Payments
from midas.flows.terms import charge_digest
from midas.payment import Change, Order
from midas.ports import Done, Unknown, Verdict
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Sent
from midas.refund import RefundFacts, RefundObservation, RefundReport
from tests.faults import scenarios
from tests.faults.chooser import Chooser, Odometer
from tests.faults.scenarios import BAR_CODE, TERMS, Story, play
from tests.faults.world import FaultyStore, FaultyWire, World

Seed = Callable[[pytest.MonkeyPatch], None]


def m1_call_before_intent(patch: pytest.MonkeyPatch) -> None:
    """M1: Ping++ is called before the intent is on disk."""
    as_it_should_be = charge_flow.charge

    async def call_first(ports: Ports, terms: ChargeTerms) -> ChargeResult:
        if (await ports.store.load(terms.order_no)).charges:
            return await as_it_should_be(ports, terms)
        made = charge_flow._new_charge(ports, terms, charge_digest(terms))
        verdict = await ports.psp.create_charge(made)
        draft = Draft(Order(terms.order_no))
        draft.add_charge(made, ObservedBy.CREATE)
        draft.observe_charge(made.out_trade_no, create_observation(ports, made, verdict))
        wanted = draft.change(ports.store.new_change_id())
        if wanted is None or not await ports.store.commit(wanted):
            raise OutcomeUnknown(terms.order_no)
        charge = draft.charge(made.out_trade_no)
        if not isinstance(verdict, Done):
            raise charge_flow._why_not(verdict, charge)
        return ChargeResult(draft.order, charge, verdict.answer.raw, reused=False)

    patch.setattr(charge_flow, "charge", call_first)


def m2_timeout_is_failure(patch: pytest.MonkeyPatch) -> None:
    """M2: no answer is taken for a refusal of the charge."""

    def refused(ports: Ports, charge: Charge, verdict: Verdict[ChargeFacts]) -> ChargeObservation:
        if isinstance(verdict, Unknown):
            return ChargeObservation(ChargeReport.REFUSED, ObservedBy.CREATE, ports.store.now())
        return create_observation(ports, charge, verdict)

    patch.setattr(charge_flow, "create_observation", refused)


def m2_timeout_is_failed_refund(patch: pytest.MonkeyPatch) -> None:
    """M2: no answer is taken for a refusal of the refund."""

    def refused(ports: Ports, answer: RefundFacts | Unknown, by: ObservedBy) -> RefundObservation:
        if isinstance(answer, Unknown):
            return RefundObservation(RefundReport.REFUSED, by, ports.store.now())
        return refund_observation(ports, answer, by)

    patch.setattr(resolve_flow, "refund_observation", refused)


def m3_retry_after_502(patch: pytest.MonkeyPatch) -> None:
    """M3: a POST that got a 502 is sent again, as the SDK does by itself."""
    send = FaultyWire.send

    async def send_twice(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        sent = await send(self, request, limit)
        if isinstance(sent, Answer) and sent.status == 502:
            return await send(self, request, limit)
        return sent

    patch.setattr(FaultyWire, "send", send_twice)


def m4_new_number_per_retry(patch: pytest.MonkeyPatch) -> None:
    """M4: what is unknown is written off, and the retry goes out under a new number."""

    async def write_off(ports: Ports, order: Order, number: str, by: ObservedBy) -> Order:
        observation = ChargeObservation(ChargeReport.REFUSED, by, ports.store.now())
        return await commit(ports, order, lambda draft: draft.observe_charge(number, observation))

    patch.setattr(charge_flow, "resolve_charge", write_off)


def m5_two_commits(patch: pytest.MonkeyPatch) -> None:
    """M5: the state in one commit, the notification in another."""
    commit = FaultyStore.commit

    async def in_two(self: FaultyStore, wanted: Change) -> bool:
        if not wanted.notifications:
            return await commit(self, wanted)
        before = wanted.last_sequence - len(wanted.notifications)
        half = wanted.change_id[::-1]
        first = replace(wanted, notifications=(), last_sequence=before, change_id=half)
        if not await commit(self, first):
            return False
        rest = Change(
            wanted.order_no,
            wanted.expected_version + 1,
            half,
            wanted.last_sequence,
            wanted.change_id,
            wanted.after,
            notifications=wanted.notifications,
        )
        return await commit(self, rest)

    patch.setattr(FaultyStore, "commit", in_two)


CAUGHT: list[tuple[Seed, Story, ChargeTerms, str]] = [
    (m1_call_before_intent, scenarios.charge_and_pay, BAR_CODE, "I1|I3|I5"),
    (m2_timeout_is_failure, scenarios.charge_and_pay, TERMS, "I5"),
    (m2_timeout_is_failed_refund, scenarios.refund_once, TERMS, "I5"),
    (m3_retry_after_502, scenarios.refund_once, TERMS, "I2"),
    (m4_new_number_per_retry, scenarios.charge_and_pay, BAR_CODE, "I1|I3|I5"),
    (m5_two_commits, scenarios.refund_once, TERMS, "I7|I8"),
]


@pytest.mark.parametrize(
    ("seed", "story", "terms", "invariant"), CAUGHT, ids=[seed.__name__ for seed, *_ in CAUGHT]
)
def test_the_enumeration_catches(
    seed: Seed,
    story: Story,
    terms: ChargeTerms,
    invariant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the defect in, some schedule of at most two faults breaks the invariant."""
    seed(monkeypatch)

    async def explore() -> None:
        for chooser in Odometer(2):
            await play(chooser, story, terms)

    with pytest.raises(AssertionError, match=invariant):
        asyncio.run(explore())


async def test_m12_no_check_of_the_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    """M12: a charge that believes any amount is caught by the quarantine check."""

    def believe(_charge: charge_machine.Charge, _facts: ChargeFacts) -> tuple[str, ...]:
        return ()

    monkeypatch.setattr(charge_machine, "mismatches", believe)
    with pytest.raises(AssertionError, match="I4"):
        await scenarios.quarantined(_healthy_world(), {"amount": 1})


async def test_m13_closed_by_the_clock_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """M13: a charge that is closed because its time is over is caught by the late payer."""

    async def by_the_clock(ports: Ports, order: Order, number: str) -> Order:
        observation = ChargeObservation(ChargeReport.LAPSED, ObservedBy.QUERY, ports.store.now())
        return await commit(ports, order, lambda draft: draft.observe_charge(number, observation))

    monkeypatch.setattr(charge_flow, "close", by_the_clock)
    with pytest.raises(AssertionError, match="I5"):
        await scenarios.paid_at_the_last_moment(_healthy_world())


async def test_m14_handler_without_shield(monkeypatch: pytest.MonkeyPatch) -> None:
    """M14: a flow that dies with its caller is caught by the caller that goes away."""

    async def die_together(_self: Payments, work: Coroutine[Any, Any, Any]) -> Any:
        return await work

    monkeypatch.setattr(Payments, "_run_to_completion", die_together)
    with pytest.raises(AssertionError, match="F1"):
        await scenarios.caller_goes_away(_healthy_world())


def _healthy_world() -> World:
    return World(Chooser((), most_faults=0), TERMS)
