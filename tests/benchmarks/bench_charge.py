"""CPU per charge at 32 concurrent callers, requests signed, every charge durable."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from tests.benchmarks.processes import Child
from tests.benchmarks.report import Row, row
from tests.benchmarks.rounds import Contender, Sample, cpu, measure, ratios
from tests.benchmarks.stage import Stage

MIDAS_TO_BARE_MAX = 1.4
SDK_TO_MIDAS_MIN = 20
MIDAS_CPU_MS_MAX = 0.9
"""At most so many CPU milliseconds per charge, on a quiet machine with two cores.

On another class of machine only the ratios can be compared."""

_CPU = "CPU ms/charge"


def on_sqlite(stage: Stage) -> list[Row]:
    """Midas on SQLite beside the limit and beside the SDK as documented."""
    midas = _contender(stage, *stage.midas(stage.sqlite(), stage.stub), stage.plan.charges)
    return _side_by_side(stage, "charge", "midas, SQLite FULL", midas)


def on_postgres(stage: Stage) -> list[Row]:
    """The same on PostgreSQL; what PostgreSQL itself used is a row of its own."""
    postgres = stage.postgres
    database_url = migrated(stage, postgres.database())
    server, target = stage.midas(database_url, stage.stub)
    midas = _contender(stage, server, target, stage.plan.charges, postgres=postgres.cpu_s)
    return _side_by_side(stage, "charge-postgres", "midas, PostgreSQL", midas)


def _side_by_side(stage: Stage, name: str, what: str, contender: Contender) -> list[Row]:
    """Midas, the limit and the SDK in one run, each in turn in every round."""
    plan = stage.plan
    contenders = {
        "bare": _contender(stage, *stage.baseline("bare_server", stage.stub), plan.charges),
        "sdk": _contender(stage, *stage.baseline("sdk_server", stage.stub), plan.sdk_charges),
        "midas": contender,
    }
    samples = measure(contenders, plan.rounds, plan.warm_up)
    bare, sdk, midas = (cpu(samples[each], "server") for each in ("bare", "sdk", "midas"))
    n, few = f"{plan.rounds} x {plan.charges}", f"{plan.rounds} x {plan.sdk_charges}"
    return [
        row(name, what, midas, _CPU, at_most=MIDAS_CPU_MS_MAX, count=n),
        *_database(name, contender, samples, n),
        row(name, "bare limit, nothing stored", bare, _CPU, count=n),
        row(name, "grpc + pingpp SDK, nothing stored", sdk, _CPU, count=few),
        row(name, "midas : bare", ratios(midas, bare), "x", at_most=MIDAS_TO_BARE_MAX),
        row(name, "SDK : midas", ratios(sdk, midas), "x", at_least=SDK_TO_MIDAS_MIN),
        *_throughput(name, samples, n),
    ]


def _database(
    name: str, midas: Contender, samples: Mapping[str, list[Sample]], n: str
) -> list[Row]:
    """What a database with processes of its own used."""
    if "postgres" not in midas.meters:
        return []
    return [row(name, "PostgreSQL itself", cpu(samples["midas"], "postgres"), _CPU, count=n)]


def migrated(stage: Stage, database_url: str) -> str:
    """The same URL, once its database has the tables."""
    stage.run("midas", "migrate", DATABASE_URL=database_url)
    return database_url


def _contender(stage: Stage, server: Child, target: str, count: int, **meters: Any) -> Contender:
    run = partial(stage.charge, target)
    return Contender(run, count, {"server": server.cpu_s, **meters})


def _throughput(name: str, samples: Mapping[str, list[Sample]], n: str) -> list[Row]:
    """For orientation: stub, load and server share the cores."""
    rates = [each.per_s for each in samples["midas"]]
    return [row(name, "midas, all on one machine", rates, "charges/s", count=n)]
