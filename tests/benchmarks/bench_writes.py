"""Durable writes of the store alone: begin and finish a charge, by 1, 16 and 64 callers."""

from tests.benchmarks.bench_charge import migrated
from tests.benchmarks.plan import WRITERS
from tests.benchmarks.processes import Talker
from tests.benchmarks.report import Row, row
from tests.benchmarks.stage import Postgres, Stage

Measured = dict[str, list[float]]


def of_charges(stage: Stage) -> list[Row]:
    """Both databases, every number of callers."""
    postgres = stage.postgres
    workers = {
        "SQLite FULL": stage.talker("store_worker", DATABASE_URL=stage.sqlite()),
        "PostgreSQL": stage.talker(
            "store_worker", DATABASE_URL=migrated(stage, postgres.database())
        ),
    }
    samples: dict[tuple[str, int], Measured] = {}
    for worker in workers.values():
        _write(stage, worker, stage.plan.warm_up, WRITERS[-1], postgres, {})
    for _ in range(stage.plan.rounds):
        for callers in WRITERS:
            for name, worker in workers.items():
                count = _count(stage, callers)
                sample = samples.setdefault((name, callers), {})
                _write(stage, worker, count, callers, postgres, sample)
    return [
        each
        for (name, callers), sample in sorted(
            samples.items(), key=lambda item: item[0][0], reverse=True
        )
        for each in _rows(stage, name, callers, sample)
    ]


def _count(stage: Stage, callers: int) -> int:
    return stage.plan.writes // 4 if callers == 1 else stage.plan.writes


def _write(
    stage: Stage, worker: Talker, count: int, callers: int, postgres: Postgres, sample: Measured
) -> None:
    before = postgres.cpu_s()
    answer = worker.ask(prefix=stage.prefix(), count=count, callers=callers)
    sample.setdefault("per_s", []).append(count / answer["elapsed_s"])
    sample.setdefault("cpu_ms", []).append(1000 * answer["cpu_s"] / count)
    sample.setdefault("postgres_ms", []).append(1000 * (postgres.cpu_s() - before) / count)


def _rows(stage: Stage, name: str, callers: int, sample: Measured) -> list[Row]:
    what = f"{name}, {callers} callers" if callers > 1 else f"{name}, 1 caller"
    n = f"{stage.plan.rounds} x {_count(stage, callers)}"
    rows = [
        row("writes", what, sample["per_s"], "ops/s", count=n),
        row("writes", what, sample["cpu_ms"], "CPU ms/op", count=n),
    ]
    if name == "PostgreSQL":
        rows.append(row("writes", f"{what}, itself", sample["postgres_ms"], "CPU ms/op", count=n))
    return rows
