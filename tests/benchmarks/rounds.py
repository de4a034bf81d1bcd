"""Measuring several servers in turn, round by round, and taking the middle of the rounds."""

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Meter = Callable[[], float]
"""How much was used so far: CPU seconds, or instructions."""


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

    used: Mapping[str, float]
    """What an operation used, by meter and in the meter's unit."""
    per_s: float
    """Operations per second of wall-clock time."""


def measure(
    contenders: Mapping[str, Contender], rounds: int, warm_up: int
) -> dict[str, list[Sample]]:
    """Warm every contender up, with no more than it has in a round, and take turns."""
    for each in contenders.values():
        warm(each, min(warm_up, each.count))
    return take_turns(contenders, rounds)


def warm(contender: Contender, count: int) -> None:
    """Let it do so many operations, unmeasured."""
    contender.prepare(count)
    contender.run(count)


def take_turns(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[Sample]]:
    """Give each contender its turn in every round, in a random order."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, each in random.sample(list(contenders.items()), len(contenders)):
            samples[name].append(_sample(each))
    return samples


def _sample(contender: Contender) -> Sample:
    contender.prepare(contender.count)
    before = {name: meter() for name, meter in contender.meters.items()}
    result = contender.run(contender.count)
    used = {name: meter() - before[name] for name, meter in contender.meters.items()}
    per_operation = {name: amount / contender.count for name, amount in used.items()}
    return Sample(per_operation, contender.count / result["elapsed_s"])


def cpu(samples: Sequence[Sample], meter: str) -> list[float]:
    """CPU milliseconds per operation by one meter, round by round."""
    return [1000 * each.used[meter] for each in samples]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round, so that a noisy minute affects both sides."""
    return [a / b for a, b in zip(above, below, strict=True) if b > 0]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of them does not reach."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def middle(values: Sequence[float]) -> float:
    """The median; 0 when there is nothing."""
    return statistics.median(values) if values else 0.0
