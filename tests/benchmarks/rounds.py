"""Measuring several servers in turn, round by round, and taking the middle of the rounds."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Meter = Callable[[], float]
"""CPU seconds used so far."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One server and the work that is put on it. `run` answers with `elapsed_s` and more."""

    run: Callable[[int], Mapping[str, Any]]
    count: int
    meters: Mapping[str, Meter]
    prepare: Callable[[int], object] = lambda _count: None
    """What has to be there before each run, unmeasured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round of one contender measured."""

    cpu_ms: Mapping[str, float]
    """CPU milliseconds per operation, by meter."""
    per_s: float
    """Operations per second of wall-clock time."""


def measure(
    contenders: Mapping[str, Contender], rounds: int, warm_up: int
) -> dict[str, list[Sample]]:
    """Warm every contender up, then give each its turn in every round."""
    for each in contenders.values():
        few = min(warm_up, each.count)
        each.prepare(few)
        each.run(few)
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, each in contenders.items():
            samples[name].append(_sample(each))
    return samples


def _sample(contender: Contender) -> Sample:
    contender.prepare(contender.count)
    before = {name: meter() for name, meter in contender.meters.items()}
    result = contender.run(contender.count)
    used = {name: meter() - before[name] for name, meter in contender.meters.items()}
    per_operation = {name: 1000 * cpu_s / contender.count for name, cpu_s in used.items()}
    return Sample(per_operation, contender.count / result["elapsed_s"])


def cpu(samples: Sequence[Sample], meter: str) -> list[float]:
    """One meter's readings, round by round."""
    return [each.cpu_ms[meter] for each in samples]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round, so that a noisy minute affects both sides."""
    return [a / b for a, b in zip(above, below, strict=True) if b > 0]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of them does not reach."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def middle(values: Sequence[float]) -> float:
    """The median; 0 when there is nothing."""
    return statistics.median(values) if values else 0.0
