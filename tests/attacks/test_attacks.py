"""Every attack against a real process; `python -m tests.attacks` prints the counts.

There good calls have five seconds, too. Here the machine may be busy with other tests, so that no
time is judged: a good call is broken if it is refused or cut.
"""

from pathlib import Path

import pytest

from tests.attacks.__main__ import DELAY_S
from tests.attacks.drain import drained
from tests.attacks.plan import ATTACKS
from tests.attacks.stage import staged
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.long


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_is_withstood(name: str, tmp_path: Path) -> None:
    """Good calls are served during it and at once after it; the log names the attacker."""
    attack = ATTACKS[name]
    async with staged(tmp_path, **attack.settings) as stage:
        options = [*attack.options]
        if attack.certificate:
            options += ["--tls", stage.certificate(attack.certificate)]
        damage = await stage.attack(attack.kind, *options, timeout_s=PATIENCE_S)
    assert not attack.too_much(damage, served_again_s=PATIENCE_S), f"\n{damage}"
    assert damage.ended == 0


async def test_a_drain_leaves_no_call_without_details() -> None:
    """Callers that heed health, and bursts of half of them with the signal: all are served."""
    ends = await drained(DELAY_S)
    assert (ends.bare.total(), ends.status) == (0, 0), ends
