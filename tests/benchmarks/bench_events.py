"""CPU per webhook: of the intake beside bare aiohttp, and of all that follows until it is known.

The intake is the gateway in front of an EventService that answers at once. The whole is the gateway
and Midas, every event durable, and the order service called; the stub in the order service's place
has a row of its own.
"""

from collections.abc import Callable, Mapping
from functools import partial

from tests.benchmarks.bench_charge import migrated
from tests.benchmarks.chain import Chain, send
from tests.benchmarks.plan import GENTLE_PER_S, Plan
from tests.benchmarks.processes import Child
from tests.benchmarks.report import Row, row
from tests.benchmarks.rounds import Contender, Sample, cpu, measure, quantile, ratios
from tests.benchmarks.stage import Stage

EVENT_CPU_MS_MAX = 0.6
INTAKE_TO_BARE_MAX = 1.5
DELAY_P50_MS_MAX = 50
"""On another class of machine only the ratio can be compared."""

_CPU = "CPU ms/event"
_PREPARED = 256
"""Webhooks that are sent again and again to those who do not remember them."""


def on_sqlite(stage: Stage) -> list[Row]:
    """The limits, the intake, the whole on SQLite, and the time it takes when all is idle."""
    plan = stage.plan
    chain = Chain(stage, stage.sqlite())
    prefix = chain.prepare(_PREPARED)
    events = stage.talker("event_stub")
    intake = stage.gateway(f"127.0.0.1:{events.port}")
    limits = {name: stage.bare_intake(name, events) for name in ("read", "verified", "recorded")}
    contenders = {
        name: _taking_in(stage, *receiver, prefix)
        for name, receiver in {**limits, "intake": intake}.items()
    }
    samples = measure({**contenders, "whole": _whole(plan, chain)}, plan.rounds, plan.warm_up)
    name = "events"
    return [
        *_whole_rows(name, "SQLite FULL", samples["whole"], plan),
        *_intake_rows(name, samples, plan),
        *_delay_rows(name, chain, plan),
    ]


def on_postgres(stage: Stage) -> list[Row]:
    """The whole on PostgreSQL; what PostgreSQL itself used is a row of its own."""
    plan, postgres = stage.plan, stage.postgres
    chain = Chain(stage, migrated(stage, postgres.database()))
    whole = _whole(plan, chain, postgres=postgres.cpu_s)
    samples = measure({"whole": whole}, plan.rounds, plan.warm_up)["whole"]
    name, n = "events-postgres", f"{plan.rounds} x {plan.events}"
    return [
        *_whole_rows(name, "PostgreSQL", samples, plan),
        row(name, "PostgreSQL itself", cpu(samples, "postgres"), _CPU, count=n),
        *_delay_rows(name, chain, plan),
    ]


def _taking_in(stage: Stage, server: Child, port: int, prefix: str) -> Contender:
    run = partial(send, stage, port, prefix)
    return Contender(run, stage.plan.webhooks, {"server": server.cpu_s})


def _whole(plan: Plan, chain: Chain, **more: Callable[[], float]) -> Contender:
    meters = {
        "gateway": chain.gateway.cpu_s,
        "midas": chain.midas.cpu_s,
        "orders": chain.orders.cpu_s,
        **more,
    }
    return Contender(chain.deliver, plan.events, meters, chain.prepare)


def _whole_rows(name: str, database: str, samples: list[Sample], plan: Plan) -> list[Row]:
    n = f"{plan.rounds} x {plan.events}"
    gateway, midas, orders = (cpu(samples, meter) for meter in ("gateway", "midas", "orders"))
    both = [a + b for a, b in zip(gateway, midas, strict=True)]
    rates = [each.per_s for each in samples]
    return [
        row(name, f"gateway and midas, {database}", both, _CPU, at_most=EVENT_CPU_MS_MAX, count=n),
        row(name, "of it the gateway", gateway, _CPU, count=n),
        row(name, "of it midas", midas, _CPU, count=n),
        row(name, "order service's stub", orders, _CPU, count=n),
        row(name, "delivered, all on one machine", rates, "events/s", count=n),
    ]


def _intake_rows(name: str, samples: Mapping[str, list[Sample]], plan: Plan) -> list[Row]:
    n = f"{plan.rounds} x {plan.webhooks}"
    read, verified, recorded, intake = (
        cpu(samples[each], "server") for each in ("read", "verified", "recorded", "intake")
    )
    rates = [each.per_s for each in samples["intake"]]
    beyond = ratios(intake, recorded)
    return [
        row(name, "gateway's intake alone", intake, _CPU, count=n),
        row(name, "bare aiohttp: read", read, _CPU, count=n),
        row(name, "bare aiohttp: verified and parsed", verified, _CPU, count=n),
        row(name, "bare aiohttp: and one RPC", recorded, _CPU, count=n),
        row(name, "intake : bare with one RPC", beyond, "x", at_most=INTAKE_TO_BARE_MAX),
        row(name, "intake alone, all on one machine", rates, "events/s", count=n),
    ]


def _delay_rows(name: str, chain: Chain, plan: Plan) -> list[Row]:
    """From the webhook's first byte to the call of the order service."""
    rounds = [chain.delays_ms(plan.gentle) for _ in range(plan.rounds)]
    name, n = f"{name} at {GENTLE_PER_S}/s", f"{plan.rounds} x {plan.gentle}"
    what = "webhook to order service"

    def at(share: float, until: str = "delivered") -> list[float]:
        return [quantile(each[until], share) for each in rounds]

    return [
        row(name, f"{what}, p50", at(0.5), "ms", at_most=DELAY_P50_MS_MAX, count=n),
        row(name, f"{what}, p99", at(0.99), "ms", count=n),
        row(name, "webhook to its answer, p50", at(0.5, "answered"), "ms", count=n),
    ]
