"""T2: random stories of many callers, faults and restarts on real databases.

A failure prints the shortest story that shows it. The line with `@reproduce_failure` in the output,
put above `machine` in `run`, plays it again; so does `--hypothesis-seed`. `HYPOTHESIS_PROFILE=
nightly` looks for about twenty minutes.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from midas import charge as charge_machine
from midas import refund as refund_machine
from midas.charge import ChargeFacts, ChargeObservation, ChargeOutcome, ChargeSaid, ChargeState
from midas.flows import resolve as resolve_flow
from midas.flows.observe import Ports
from midas.refund import RefundObservation, RefundSaid, RefundState
from tests.faults.machine_preludes import PRELUDES
from tests.faults.machine_rules import PaymentsMachine
from tests.faults.machine_stage import PostgresStage, SqliteStage, Stage
from tests.faults.test_seeded_defects import m2_timeout_is_failed_refund, m2_timeout_is_failure
from tests.postgres import PostgresServer

_EVERY = settings(
    deadline=None,
    database=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
PROFILES = {
    "default": settings(_EVERY, max_examples=11, stateful_step_count=25),
    "nightly": settings(_EVERY, max_examples=600, stateful_step_count=40),
}
"""Examples are counted for each prelude."""
PROFILE = PROFILES.get(os.environ.get("HYPOTHESIS_PROFILE", ""), PROFILES["default"])
LONGEST_S = 900 if PROFILE is PROFILES["default"] else 3600

SOMETIMES = frozenset(
    {
        "POST lost_request",
        "POST lost_response",
        "POST late_request",
        "POST not_sent",
        "arrived late",
        "charge_outcome_unknown",
        "charge_quarantined",
        "charge_superseded",
        "charge_closed",
        "late money",
        "paid twice",
        "refund_outcome_unknown",
        "refund_needs_operator",
        "refund_sent_again",
        "refund_succeeded",
        "OutcomeUnknown",
        "OrderAlreadyPaid",
        "commit doubt_written",
        "commit doubt_late",
    }
)
"""A green run proves nothing unless all of these were met in it."""


def run(stage: Stage, chosen: settings, preludes: Iterable[str] = PRELUDES) -> Counter[str]:
    """Play stories on this stage; in how many of them each thing was met."""
    met: Counter[str] = Counter()
    for prelude in preludes:

        def machine(prelude: str = prelude) -> PaymentsMachine:
            return PaymentsMachine(stage, PRELUDES[prelude], met)

        try:
            run_state_machine_as_test(machine, settings=chosen)  # type: ignore[arg-type]
        except BaseException as failure:
            failure.add_note(f"prelude: {prelude}")
            raise
    return met


@pytest.fixture
def sqlite_stage(sqlite_template: Path, tmp_path: Path) -> SqliteStage:
    """Files in a folder of this test."""
    return SqliteStage(sqlite_template, tmp_path)


@pytest.fixture
def postgres_stage(postgres: PostgresServer, postgres_url: str) -> PostgresStage:
    """A database of this test."""
    return PostgresStage(postgres, postgres_url)


@pytest.mark.timeout(LONGEST_S)
def test_stories_on_sqlite(sqlite_stage: SqliteStage) -> None:
    """Whatever happens, nothing is broken after any step and the books agree at the end."""
    assert set(run(sqlite_stage, PROFILE)) >= SOMETIMES


@pytest.mark.timeout(LONGEST_S)
def test_stories_on_postgres(postgres_stage: PostgresStage) -> None:
    """Whatever happens, nothing is broken after any step and the books agree at the end."""
    assert set(run(postgres_stage, PROFILE)) >= SOMETIMES


def m12_any_amount(patch: pytest.MonkeyPatch) -> None:
    """M12: whatever Ping++ tells of is believed to be the payment that was asked for."""

    def believe(_charge: charge_machine.Charge, _facts: ChargeFacts) -> tuple[str, ...]:
        return ()

    patch.setattr(charge_machine, "mismatches", believe)


def regressing_charge(patch: pytest.MonkeyPatch) -> None:
    """A payment that is seen for the second time makes the charge wait again."""
    back = {ChargeSaid.PAID: ChargeState.PENDING}
    moves = {**charge_machine.TRANSITIONS, ChargeState.SUCCEEDED: back}
    patch.setattr(charge_machine, "TRANSITIONS", moves)


def regressing_refund(patch: pytest.MonkeyPatch) -> None:
    """A refund that is seen done for the second time counts as failed."""
    back = {RefundSaid.DONE: RefundState.FAILED}
    moves = {**refund_machine.TRANSITIONS, RefundState.SUCCEEDED: back}
    patch.setattr(refund_machine, "TRANSITIONS", moves)


def unknown_is_unsent(patch: pytest.MonkeyPatch) -> None:
    """A refund that was not answered is sent again."""

    def unsent(ports: Ports, reason: str, by: charge_machine.ObservedBy) -> RefundObservation:
        return RefundObservation(RefundSaid.UNSENT, by, ports.store.now(), code=reason)

    patch.setattr(resolve_flow, "refund_silent", unsent)


def silent_duplicate(patch: pytest.MonkeyPatch) -> None:
    """A second payment of an order is announced like the first one."""
    observe = charge_machine.observe

    def first(
        charge: charge_machine.Charge, seen: ChargeObservation, *, order_paid: bool
    ) -> ChargeOutcome:
        return observe(charge, seen, order_paid=False)

    patch.setattr(charge_machine, "observe", first)


def untold_refund(patch: pytest.MonkeyPatch) -> None:
    """The end of a refund is written down, and not announced."""
    observe = refund_machine.observe

    def untold(
        refund: refund_machine.Refund, seen: RefundObservation
    ) -> refund_machine.RefundOutcome:
        return replace(observe(refund, seen), notice=None)

    patch.setattr(refund_machine, "observe", untold)


CAUGHT: list[tuple[Callable[[pytest.MonkeyPatch], None], str, str]] = [
    (m2_timeout_is_failure, "charge unanswered", "I5"),
    (m2_timeout_is_failed_refund, "refund late", "I5"),
    (m12_any_amount, "lied to", "I4"),
    (regressing_charge, "paid", "I1|I4|I6|I8"),
    (regressing_refund, "refund not sent", "I5|I6|I8"),
    (unknown_is_unsent, "refund late", "I2"),
    (silent_duplicate, "paid twice", "I1"),
    (untold_refund, "refund not sent", "I7|I8"),
]
"""The defect, where the stories begin that show it, and what it breaks."""
QUICK = settings(
    _EVERY,
    max_examples=12,
    stateful_step_count=25,
    derandomize=True,
    phases=(Phase.generate,),
    report_multiple_bugs=False,
)


@pytest.mark.parametrize(
    ("seed", "prelude", "invariant"), CAUGHT, ids=[seed.__name__ for seed, *_ in CAUGHT]
)
def test_the_stories_catch(
    seed: Callable[[pytest.MonkeyPatch], None],
    prelude: str,
    invariant: str,
    sqlite_stage: SqliteStage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the defect in, one of a fixed handful of stories breaks an invariant."""
    seed(monkeypatch)
    with pytest.raises(AssertionError, match=invariant):
        run(sqlite_stage, QUICK, [prelude])
