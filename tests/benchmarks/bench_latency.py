"""What a service adds to Ping++'s own time at a steady rate of charges.

Each answer of the stub has the time for which it was held back. That time is subtracted from
the time between the moment when the call was due and the moment when its answer came.
"""

from collections.abc import Mapping
from typing import Any

from tests.benchmarks.plan import STEADY_PER_S, STUB_HOLD_MS
from tests.benchmarks.report import Row, row
from tests.benchmarks.stage import Stage

P50_MS_MAX = 3
P99_MS_MAX = 25


def added(stage: Stage) -> list[Row]:
    """Midas on SQLite beside the limit."""
    plan = stage.plan
    stub = stage.talker("stub", "--hold-ms", str(STUB_HOLD_MS))
    _, bare = stage.baseline("bare_server", stub)
    _, midas = stage.midas(stage.sqlite(), stub)
    for target in (bare, midas):
        _steady(stage, target, min(plan.warm_up, plan.steady))
    samples: dict[str, list[Mapping[str, Any]]] = {bare: [], midas: []}
    for _ in range(plan.rounds):
        for target, found in samples.items():
            found.append(_steady(stage, target, plan.steady))
    name, n = f"latency at {STEADY_PER_S}/s", f"{plan.rounds} x {plan.steady}"
    rows: list[Row] = []
    for point, at_most in (("p50", P50_MS_MAX), ("p99", P99_MS_MAX)):
        ours, limit = (_all(samples[target], f"{point}_ms") for target in (midas, bare))
        beyond = [a - b for a, b in zip(ours, limit, strict=True)]
        rows += [
            row(name, f"midas adds, {point}", ours, "ms", at_most=at_most, count=n),
            row(name, f"bare limit adds, {point}", limit, "ms", count=n),
            row(name, f"midas beyond bare, {point}", beyond, "ms"),
        ]
    return rows


def _steady(stage: Stage, target: str, count: int) -> Mapping[str, Any]:
    prefix = stage.prefix()
    return stage.load.ask(
        do="steady", target=target, per_s=STEADY_PER_S, count=count, prefix=prefix
    )


def _all(samples: list[Mapping[str, Any]], name: str) -> list[float]:
    return [each[name] for each in samples]
