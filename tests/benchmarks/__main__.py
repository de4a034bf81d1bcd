"""`python -m tests.benchmarks`: measure, print one table. Exit status 0 if it could be measured."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence

from tests.benchmarks import (
    bench_charge,
    bench_events,
    bench_latency,
    bench_profile,
    bench_query,
    bench_writes,
)
from tests.benchmarks.plan import FULL, QUICK, SMOKE, Plan
from tests.benchmarks.processes import BenchmarkFailed
from tests.benchmarks.report import Row, machine, table
from tests.benchmarks.stage import Stage, stage

BENCHMARKS: dict[str, Callable[[Stage], list[Row]]] = {
    "charge": bench_charge.on_sqlite,
    "charge-postgres": bench_charge.on_postgres,
    "query": bench_query.from_storage,
    "latency": bench_latency.added,
    "writes": bench_writes.of_charges,
    "events": bench_events.on_sqlite,
    "events-postgres": bench_events.on_postgres,
}

PROFILES: dict[str, Callable[[Stage], str]] = {
    "charges": bench_profile.of_charges,
    "events": bench_profile.of_events,
}


def main() -> int:
    """Run what is asked for."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    plan: Plan = options.plan
    before = machine(plan)
    if options.profile:
        with stage(plan) as here:
            print(PROFILES[options.profile](here))
        return 0
    rows, failures = _measure(options.only or list(BENCHMARKS), plan)
    if options.json:
        data = {"machine": before, "rows": [each.as_data() for each in rows], "failed": failures}
        print(json.dumps(data, ensure_ascii=False, indent=2))
    else:
        print(" ".join(f"{name}={value}" for name, value in before.items()), end="\n\n")
        print(table(rows))
        for name, why in failures.items():
            print(f"\n{name} could not be measured: {why}")
    return 1 if failures else 0


def _measure(names: Sequence[str], plan: Plan) -> tuple[list[Row], dict[str, str]]:
    rows: list[Row] = []
    failures: dict[str, str] = {}
    with stage(plan) as here:
        for name in names:
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                with here.scene():
                    rows += BENCHMARKS[name](here)
            except BenchmarkFailed as failed:
                failures[name] = str(failed)
    return rows, failures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=BENCHMARKS, help="this one; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument(
        "--profile",
        nargs="?",
        choices=PROFILES,
        const="charges",
        help="instead: what a charge's CPU consists of, or an event's",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        dest="plan",
        action="store_const",
        const=QUICK,
        default=FULL,
        help="fewer operations, about a minute",
    )
    size.add_argument(
        "--smoke",
        dest="plan",
        action="store_const",
        const=SMOKE,
        help="only whether all of it runs",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
