"""T2: random stories of many callers, faults and restarts on real databases.

A failure prints the shortest story that shows it. The line with `@reproduce_failure` in the output,
put above `machine` in `run`, plays it again; so does `--hypothesis-seed`. A plain run plays a few,
`-m long` many and looks whether they reached everything; with `HYPOTHESIS_PROFILE=nightly` it takes
about twenty minutes.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from sqlite3 import Connection

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from midas import charge as charge_machine
from midas import refund as refund_machine
from midas.charge import ChargeFacts, ChargeObservation, ChargeOutcome, ChargeReport, ChargeState
from midas.flows import resolve_refund as resolve_flow
from midas.flows.commit import Ports
from midas.flows.observe import refund_observation
from midas.payment import Change
from midas.ports import Unknown
from midas.refund import RefundFacts, RefundObservation, RefundReport, RefundState
from midas.storage import sqlite_queues
from midas.storage.rows import NOTIFICATIONS, Row, utc_text
from midas.storage.store import SqlStore
from tests.faults.machine_event_rules import EventsMachine
from tests.faults.machine_preludes import PRELUDES
from tests.faults.machine_stage import PostgresStage, SqliteStage, Stage
from tests.faults.test_seeded_defects import m2_timeout_is_failed_refund, m2_timeout_is_failure
from tests.faults.test_seeded_event_defects import m15_sequence_of_the_database
from tests.postgres import PostgresServer

_EVERY = settings(
    deadline=None,
    database=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
FEW = settings(_EVERY, max_examples=2, stateful_step_count=25)
PROFILES = {
    "default": settings(_EVERY, max_examples=7, stateful_step_count=25),
    "nightly": settings(_EVERY, max_examples=600, stateful_step_count=40),
}
"""Examples are counted for each prelude."""
PROFILE = PROFILES.get(os.environ.get("HYPOTHESIS_PROFILE", ""), PROFILES["default"])
LONGEST_S = 1800 if PROFILE is PROFILES["default"] else 10_800

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
        "commit lost_written",
        "webhook before our own commit",
        "event ACCEPTED",
        "event ACCEPTED charge_not_paid_yet",
        "event DUPLICATE",
        "event IGNORED unknown_order",
        "event IGNORED other_app",
        "event IGNORED other_mode",
        "event IGNORED type_not_handled",
        "event IGNORED object_unreadable",
        "event IGNORED unreadable",
        "EventIdReused",
        "order lost_answer",
        "order refused",
        "order slow",
        "lease stolen",
        "notified twice",
        "parked to the end",
    }
)
"""A green run proves nothing unless it reached all of these."""


def run(stage: Stage, chosen: settings, preludes: Iterable[str] = PRELUDES) -> Counter[str]:
    """Play stories on this stage; how many of them reached each thing."""
    reached: Counter[str] = Counter()
    for prelude in preludes:

        def machine(prelude: str = prelude) -> EventsMachine:
            return EventsMachine(stage, PRELUDES[prelude], reached)

        try:
            run_state_machine_as_test(machine, settings=chosen)  # type: ignore[arg-type]
        except BaseException as failure:
            failure.add_note(f"prelude: {prelude}")
            raise
    return reached


@pytest.fixture
def sqlite_stage(sqlite_template: Path, tmp_path: Path) -> SqliteStage:
    """Files in a folder of this test."""
    return SqliteStage(sqlite_template, tmp_path)


@pytest.fixture
def postgres_stage(postgres: PostgresServer, postgres_url: str) -> PostgresStage:
    """A database of this test."""
    return PostgresStage(postgres, postgres_url)


def test_a_few_stories_on_sqlite(sqlite_stage: SqliteStage) -> None:
    """Nothing is broken after any step, and the books agree at the end."""
    run(sqlite_stage, FEW)


def test_a_few_stories_on_postgres(postgres_stage: PostgresStage) -> None:
    """Nothing is broken after any step, and the books agree at the end."""
    run(postgres_stage, FEW)


@pytest.mark.long
@pytest.mark.timeout(LONGEST_S)
def test_stories_on_sqlite(sqlite_stage: SqliteStage) -> None:
    """The same for so many stories that they reach everything that they must."""
    assert set(run(sqlite_stage, PROFILE)) >= SOMETIMES


@pytest.mark.long
@pytest.mark.timeout(LONGEST_S)
def test_stories_on_postgres(postgres_stage: PostgresStage) -> None:
    """The same on the other engine."""
    assert set(run(postgres_stage, PROFILE)) >= SOMETIMES


def m12_any_amount(patch: pytest.MonkeyPatch) -> None:
    """M12: any payment that Ping++ shows is believed to be the one that was asked for."""

    def believe(_charge: charge_machine.Charge, _facts: ChargeFacts) -> tuple[str, ...]:
        return ()

    patch.setattr(charge_machine, "mismatches", believe)


def regressing_charge(patch: pytest.MonkeyPatch) -> None:
    """A payment that is observed for the second time makes the charge wait again."""
    back = {ChargeReport.PAID: ChargeState.PENDING}
    moves = {**charge_machine.TRANSITIONS, ChargeState.SUCCEEDED: back}
    patch.setattr(charge_machine, "TRANSITIONS", moves)


def regressing_refund(patch: pytest.MonkeyPatch) -> None:
    """A refund that is observed as done for the second time counts as failed."""
    back = {RefundReport.DONE: RefundState.FAILED}
    moves = {**refund_machine.TRANSITIONS, RefundState.SUCCEEDED: back}
    patch.setattr(refund_machine, "TRANSITIONS", moves)


def unknown_is_unsent(patch: pytest.MonkeyPatch) -> None:
    """A refund that was not answered is sent again."""

    def unsent(
        ports: Ports, answer: RefundFacts | Unknown, by: charge_machine.ObservedBy
    ) -> RefundObservation:
        if isinstance(answer, Unknown):
            at, code = ports.store.now(), answer.reason
            return RefundObservation(RefundReport.UNSENT, by, at, code=code)
        return refund_observation(ports, answer, by)

    patch.setattr(resolve_flow, "refund_observation", unsent)


def unflagged_duplicate(patch: pytest.MonkeyPatch) -> None:
    """A second payment of an order is announced like the first one."""
    observe = charge_machine.observe

    def first(
        charge: charge_machine.Charge,
        observation: ChargeObservation,
        *,
        order_paid: bool,
        booked: bool,
    ) -> ChargeOutcome:
        return observe(charge, observation, order_paid=False, booked=booked)

    patch.setattr(charge_machine, "observe", first)


def unannounced_refund(patch: pytest.MonkeyPatch) -> None:
    """The end of a refund is written down, and not announced."""
    observe = refund_machine.observe

    def unannounced(
        refund: refund_machine.Refund, observation: RefundObservation, *, booked: bool = False
    ) -> refund_machine.RefundOutcome:
        return replace(observe(refund, observation, booked=booked), notice=None)

    patch.setattr(refund_machine, "observe", unannounced)


_CLAIMS = "CREATE TABLE IF NOT EXISTS claims (order_no, sequence, until)"
_UNCLAIMED = (
    "SELECT 0, o.last_change, o.order_no,"  # noqa: S608
    f" {', '.join(f'n.{name}' for name in NOTIFICATIONS.columns)}"
    " FROM notifications n JOIN orders o ON o.order_no = n.order_no"
    " WHERE n.delivered_at IS NULL AND o.parked_code = '' AND NOT EXISTS (SELECT 1 FROM claims c"
    " WHERE c.order_no = n.order_no AND c.sequence = n.sequence AND c.until > ?)"
    " ORDER BY n.order_no, n.sequence LIMIT ?"
)
_CLAIM = "INSERT INTO claims VALUES (?, ?, ?)"
_HOLD_ORDER = "UPDATE orders SET lease_token = ? WHERE order_no = ?"


def m8_row_level_claim(patch: pytest.MonkeyPatch) -> None:
    """M8: notifications are claimed one by one, an order's second one beside its first."""
    key = [3 + NOTIFICATIONS.columns.index(name) for name in ("order_no", "sequence")]

    def lease(
        connection: Connection, wanted: tuple[int, timedelta, str], now: datetime
    ) -> list[Row]:
        limit, hold, token = wanted
        connection.execute(_CLAIMS)
        rows = connection.execute(_UNCLAIMED, (utc_text(now), limit)).fetchall()
        for row in rows:
            order_no, sequence = (row[place] for place in key)
            connection.execute(_CLAIM, (order_no, sequence, utc_text(now + hold)))
            connection.execute(_HOLD_ORDER, (token, order_no))
        return rows

    patch.setattr(sqlite_queues, "lease", lease)


def m11_no_version(patch: pytest.MonkeyPatch) -> None:
    """M11: a change is written although another was written since its order was read."""
    commit = SqlStore.commit

    async def blind(self: SqlStore, change: Change) -> bool:
        now = await self.load(change.order_no)
        last = now.last_change
        blind_change = replace(change, expected_version=now.version, expected_change=last)
        return await commit(self, blind_change)

    patch.setattr(SqlStore, "commit", blind)


CAUGHT: list[tuple[Callable[[pytest.MonkeyPatch], None], str, str]] = [
    (m2_timeout_is_failure, "charge unanswered", "I5"),
    (m2_timeout_is_failed_refund, "refund late", "I5"),
    (m12_any_amount, "lied to", "I4"),
    (regressing_charge, "paid", "I1|I4|I6|I8"),
    (regressing_refund, "refund not sent", "I3|I5|I6|I8"),
    (unknown_is_unsent, "refund late", "I2"),
    (unflagged_duplicate, "paid twice", "I1"),
    (unannounced_refund, "refund not sent", "I7|I8"),
    (m8_row_level_claim, "not notified", "I9"),
    (m11_no_version, "overtaken", "I6|I7"),
    (m15_sequence_of_the_database, "paid", "I7"),
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
