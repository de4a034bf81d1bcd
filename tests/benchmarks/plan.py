"""How much is measured. A round measures every contender once, so that noise affects them all."""

from dataclasses import dataclass, replace

CALLERS = 32
"""Concurrent callers of the closed-loop benchmarks."""

STEADY_PER_S = 100
"""Charges per second of the open-loop benchmark."""

STUB_HOLD_MS = 120
"""How long Ping++ takes to answer in the open-loop benchmark."""

SENDERS = 32
"""Connections that Ping++ sends its webhooks over."""

GENTLE_PER_S = 20
"""Webhooks per second when all is idle."""

WRITERS = (1, 16, 64)
"""Concurrent callers of the store alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Counts of operations per contender and round. Warm-ups are not measured."""

    rounds: int
    warm_up: int
    charges: int
    sdk_charges: int
    """Charges of the SDK, which takes tens of milliseconds for each."""
    queries: int
    stored_orders: int
    """Orders that there are for the queries to find."""
    steady: int
    writes: int
    """So many with 16 callers and more; one caller alone makes a quarter of them."""
    webhooks: int
    """Webhooks that are only taken in."""
    events: int
    """Webhooks that are followed until the order service knows."""
    gentle: int
    """The same, one by one."""


FULL = Plan(
    rounds=3,
    warm_up=600,
    charges=2500,
    sdk_charges=100,
    queries=5000,
    stored_orders=2000,
    steady=500,
    writes=2000,
    webhooks=6000,
    events=2500,
    gentle=160,
)
QUICK = Plan(
    rounds=2,
    warm_up=100,
    charges=400,
    sdk_charges=24,
    queries=1000,
    stored_orders=200,
    steady=100,
    writes=300,
    webhooks=2000,
    events=500,
    gentle=30,
)
SMOKE = Plan(
    rounds=1,
    warm_up=8,
    charges=120,
    sdk_charges=8,
    queries=1200,
    stored_orders=16,
    steady=10,
    writes=200,
    webhooks=2000,
    events=200,
    gentle=6,
)
"""Only shows that everything runs; its numbers mean nothing."""

SIDE_BY_SIDE = replace(FULL, rounds=7, charges=1000, events=1000)
"""For two checkouts, compared by their CPU."""
COUNTED = replace(FULL, rounds=3, warm_up=200, charges=200, events=200)
"""The same, compared by their instructions: counting is slow, and the counts scatter little."""
