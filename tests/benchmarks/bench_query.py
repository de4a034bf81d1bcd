"""CPU per Query of orders that are stored, at 32 concurrent callers."""

from collections.abc import Mapping
from typing import Any

from tests.benchmarks.bench_charge import migrated
from tests.benchmarks.plan import CALLERS
from tests.benchmarks.processes import Child
from tests.benchmarks.report import Row, row
from tests.benchmarks.rounds import Contender, cpu, measure, ratios
from tests.benchmarks.stage import Stage

_CPU = "CPU ms/query"


def from_storage(stage: Stage) -> list[Row]:
    """Midas on both databases beside a bare grpc.aio echo."""
    plan, postgres = stage.plan, stage.postgres
    on_postgres = stage.midas(migrated(stage, postgres.database()), stage.stub)
    contenders = {
        "echo": _contender(stage, *stage.baseline("echo_server", stage.stub), "unused"),
        "sqlite": _stored(stage, *stage.midas(stage.sqlite(), stage.stub)),
        "postgres": _stored(stage, *on_postgres, postgres=postgres.cpu_s),
    }
    samples = measure(contenders, plan.rounds, plan.warm_up)
    echo, sqlite, server = (cpu(samples[name], "server") for name in contenders)
    itself = cpu(samples["postgres"], "postgres")
    name, n = "query", f"{plan.rounds} x {plan.queries}"
    return [
        row(name, "midas, SQLite", sqlite, _CPU, count=n),
        row(name, "midas, PostgreSQL", server, _CPU, count=n),
        row(name, "PostgreSQL itself", itself, _CPU, count=n),
        row(name, "bare grpc.aio echo", echo, _CPU, count=n),
        row(name, "midas on SQLite : echo", ratios(sqlite, echo), "x"),
        row(name, "midas on PostgreSQL : echo", ratios(server, echo), "x"),
    ]


def _stored(stage: Stage, server: Child, target: str, **meters: Any) -> Contender:
    """The same server, once it has orders."""
    prefix = stage.prefix()
    stored = stage.plan.stored_orders
    stage.load.ask(do="charge", target=target, callers=CALLERS, count=stored, prefix=prefix)
    return _contender(stage, server, target, prefix, **meters)


def _contender(stage: Stage, server: Child, target: str, prefix: str, **meters: Any) -> Contender:
    def run(queries: int) -> Mapping[str, Any]:
        return stage.load.ask(
            do="query",
            target=target,
            callers=CALLERS,
            count=queries,
            prefix=prefix,
            stored=stage.plan.stored_orders,
        )

    return Contender(run, stage.plan.queries, {"server": server.cpu_s, **meters})
