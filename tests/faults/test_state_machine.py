"""T2: random stories of many callers, faults and restarts on real databases.

A failure prints the shortest story that shows it. The line with `@reproduce_failure` in the output,
put above `machine` in `run`, plays it again; so does `--hypothesis-seed`. `HYPOTHESIS_PROFILE=
nightly` looks for about twenty minutes.
"""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.machine_rules import PaymentsMachine
from tests.faults.machine_stage import PostgresStage, SqliteStage, Stage
from tests.postgres import PostgresServer

_EVERY = settings(
    deadline=None,
    database=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    stateful_step_count=25,
)
PROFILES = {
    "default": settings(_EVERY, max_examples=60),
    "nightly": settings(_EVERY, max_examples=2000, stateful_step_count=40),
}
PROFILE = PROFILES.get(os.environ.get("HYPOTHESIS_PROFILE", ""), PROFILES["default"])


def run(stage: Stage, chosen: settings) -> Counter[str]:
    """Play stories on this stage; in how many of them each thing was met."""
    met: Counter[str] = Counter()

    def machine() -> PaymentsMachine:
        return PaymentsMachine(stage, met)

    run_state_machine_as_test(machine, settings=chosen)  # type: ignore[arg-type]
    return met


@pytest.fixture
def sqlite_stage(sqlite_template: Path, tmp_path: Path) -> SqliteStage:
    """Files in a folder of this test."""
    return SqliteStage(sqlite_template, tmp_path)


@pytest.fixture
def postgres_stage(postgres: PostgresServer, postgres_url: str) -> PostgresStage:
    """A database of this test."""
    return PostgresStage(postgres, postgres_url)


def test_on_sqlite(sqlite_stage: SqliteStage) -> None:
    met = run(sqlite_stage, PROFILE)
    print(sorted(met.items(), key=lambda x: x[1]))


def test_on_postgres(postgres_stage: PostgresStage) -> None:
    met = run(postgres_stage, PROFILE)
    print(sorted(met.items(), key=lambda x: x[1]))
