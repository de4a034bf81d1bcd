"""Compare two checkouts: `python -m tests.benchmarks.side_by_side OTHER_CHECKOUT`.

An operation is a charge or an event. The servers of this checkout and of the other one run at the
same time. In every round each of them gets the same work, in a random order. The load, the stub in
place of Ping++ and the databases are this checkout's for both. The table has the medians of the
rounds, and the median of the rounds' own ratios: below 1, this checkout is the cheaper one.

CPU time scatters by some 10 % on a busy machine. The number of instructions (`--instructions`)
hardly depends on how busy it is: the medians repeat within 1 %. But not every instruction takes the
same time. And valgrind lacks some features of the processor, so that OpenSSL's RSA takes more
instructions there than natively: a signature has a larger share of the count than of the CPU time.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.callgrind import Callgrind
from tests.benchmarks.chain import Chain
from tests.benchmarks.plan import COUNTED, SIDE_BY_SIDE, Plan
from tests.benchmarks.processes import THIS, BenchmarkFailed, Checkout, Child
from tests.benchmarks.report import aligned, number
from tests.benchmarks.rounds import Contender, Meter, Sample, middle, ratios, take_turns, warm
from tests.benchmarks.stage import Stage, stage

AFTER_THE_SWITCH = 20
"""Operations between the begin of counting and the first round."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """How the cost of an operation is measured."""

    unit: str
    units: float
    """So many make one of a meter's own unit."""
    meter: Callable[[Child], Meter]
    prefix: tuple[str, ...] = ()
    """What the servers are started with."""
    switch_on: Callable[[Child], None] = lambda _server: None
    """What a server needs before the first round, once it is warm."""


def cpu_time() -> Gauge:
    """User and system time of a server's process."""
    return Gauge("CPU us", 1e6, lambda server: server.cpu_s)


def instructions(folder: Path) -> Gauge:
    """Instructions that a server's process executes. Raises BenchmarkFailed without valgrind."""
    callgrind = Callgrind(folder)
    unit, units = "thousand instructions", 1e-3
    return Gauge(unit, units, callgrind.meter, callgrind.prefix, callgrind.switch_on)


@dataclass(frozen=True, slots=True)
class Subject:
    """The servers of one checkout, and the work that is put on them."""

    servers: Mapping[str, Child]
    run: Callable[[int], Mapping[str, Any]]
    prepare: Callable[[int], object] = lambda _count: None

    def contender(self, gauge: Gauge, count: int) -> Contender:
        """The same as one that is measured."""
        meters = {name: gauge.meter(server) for name, server in self.servers.items()}
        return Contender(self.run, count, meters, self.prepare)


def _charge(stage: Stage, checkout: Checkout) -> Subject:
    midas, target = stage.midas(stage.sqlite(), stage.stub, checkout=checkout)
    return Subject({"midas": midas}, partial(stage.charge, target))


def _event(stage: Stage, checkout: Checkout) -> Subject:
    """The whole way of an outcome, until the order service knows."""
    chain = Chain(stage, stage.sqlite(), checkout=checkout)
    servers = {"gateway": chain.gateway, "midas": chain.midas}
    return Subject(servers, chain.deliver, chain.prepare)


OPERATIONS: dict[str, Callable[[Stage, Checkout], Subject]] = {"charge": _charge, "event": _event}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one process uses for an operation in either checkout, round by round."""

    operation: str
    process: str
    other: Sequence[float]
    this: Sequence[float]


HEADER = ("operation", "process", "other", "this", "unit", "this : other", "rounds from-to")
_RIGHT = (2, 3, 5, 6)


def main() -> int:
    """Compare and print one table. Exit status 0 if everything could be measured."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    try:
        other, plan = checkout_in(options.other), _plan(options)
        with stage(plan) as here:
            gauge = instructions(here.folder) if options.instructions else cpu_time()
            found = [
                each
                for operation in ([options.only] if options.only else OPERATIONS)
                for each in _measured(here, gauge, operation, other)
            ]
    except BenchmarkFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    print(f"this: {THIS.root}\nother: {other.root}")
    print(f"rounds: {plan.rounds} of {plan.charges} operations", end="\n\n")
    print(table(found, gauge))
    return 0


def checkout_in(folder: Path) -> Checkout:
    """The checkout there, with its own interpreter. Raises BenchmarkFailed if there is none."""
    root = folder.resolve()
    if not (root / "midas" / "__main__.py").is_file():
        raise BenchmarkFailed(f"{folder} is not a checkout of Midas.")
    python = root / ".venv" / "bin" / "python"
    if not python.exists():
        raise BenchmarkFailed(f"{folder} has no .venv: run `uv sync` there.")
    return Checkout(root, str(python))


def _measured(stage: Stage, gauge: Gauge, operation: str, other: Checkout) -> list[Comparison]:
    """One operation in both checkouts."""
    print(f"{operation} ...", file=sys.stderr, flush=True)
    plan = stage.plan
    count = {"charge": plan.charges, "event": plan.events}[operation]
    with stage.scene():
        subjects = {
            name: OPERATIONS[operation](stage, _started_with(gauge, checkout))
            for name, checkout in (("other", other), ("this", THIS))
        }
        contenders = {name: each.contender(gauge, count) for name, each in subjects.items()}
        for each in contenders.values():
            warm(each, plan.warm_up)
        for server in (server for each in subjects.values() for server in each.servers.values()):
            gauge.switch_on(server)
        for each in contenders.values():
            warm(each, AFTER_THE_SWITCH)
        samples = take_turns(contenders, plan.rounds)
    return list(comparisons(operation, samples["other"], samples["this"]))


def _started_with(gauge: Gauge, checkout: Checkout) -> Checkout:
    """Hashes, and with them the order of sets, are the same in every run."""
    return replace(checkout, prefix=("env", "PYTHONHASHSEED=0", *gauge.prefix))


def comparisons(
    operation: str, other: Sequence[Sample], this: Sequence[Sample]
) -> Iterator[Comparison]:
    """One for each process; where there are several, another one for their sum."""
    processes = list(this[0].used)
    for name in processes:
        sides = ([sample.used[name] for sample in side] for side in (other, this))
        yield Comparison(operation, name, *sides)
    if len(processes) > 1:
        sides = ([sum(sample.used.values()) for sample in side] for side in (other, this))
        yield Comparison(operation, "sum", *sides)


def table(found: Sequence[Comparison], gauge: Gauge) -> str:
    """All comparisons as text."""
    return aligned([HEADER, *(_cells(each, gauge) for each in found)], _RIGHT)


def _cells(each: Comparison, gauge: Gauge) -> tuple[str, ...]:
    """There is no ratio where the other checkout used less than a clock can show."""
    other, this = (number(gauge.units * middle(side)) for side in (each.other, each.this))
    by_round = ratios(each.this, each.other)
    ratio = f"{middle(by_round):.3f}" if by_round else "-"
    spread = f"{min(by_round):.3f} - {max(by_round):.3f}" if by_round else "-"
    return (each.operation, each.process, other, this, gauge.unit, ratio, spread)


def _plan(options: argparse.Namespace) -> Plan:
    """The plan of the mode, with what is asked for."""
    plan = COUNTED if options.instructions else SIDE_BY_SIDE
    return replace(
        plan,
        rounds=options.rounds or plan.rounds,
        charges=options.count or plan.charges,
        events=options.count or plan.events,
    )


def _options() -> argparse.Namespace:
    program = "python -m tests.benchmarks.side_by_side"
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument(
        "other",
        type=Path,
        metavar="OTHER_CHECKOUT",
        help="a folder with another version of Midas and a .venv, which `uv sync` makes",
    )
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count instructions instead of CPU time; this needs valgrind and takes minutes",
    )
    for name, of_cpu, counted, what in (
        ("--rounds", SIDE_BY_SIDE.rounds, COUNTED.rounds, "turns of each checkout"),
        ("--count", SIDE_BY_SIDE.charges, COUNTED.charges, "operations in each turn"),
    ):
        default = f"{what}; {of_cpu} unless given, {counted} with --instructions"
        parser.add_argument(name, type=_positive, help=default, metavar="N")
    parser.add_argument("--only", choices=OPERATIONS, help="this operation; both unless given")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError("it has to be a number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
