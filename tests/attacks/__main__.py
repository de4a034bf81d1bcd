"""`python -m tests.attacks`: attack, count. Exit status 0 if no good call was broken for long."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.attacks.drain import drained
from tests.attacks.plan import ATTACKS, Attack
from tests.attacks.stage import Damage, staged

DELAY_S = 1.0


async def _play(attack: Attack) -> Damage:
    with tempfile.TemporaryDirectory() as folder:
        async with staged(Path(folder), **attack.settings) as stage:
            options = [*attack.options]
            if attack.certificate:
                options += ["--tls", stage.certificate(attack.certificate)]
            return await stage.attack(attack.kind, *options)


DRAIN = "drain"


def _drain() -> bool:
    ends = asyncio.run(drained(DELAY_S))
    calls = ends.served + ends.detailed.total() + ends.bare.total()
    bare = ends.bare.total()
    print(f"{DRAIN}: {bare} of {calls} calls ended without details\n  {ends}", flush=True)
    return bool(bare or ends.status)


def main() -> int:
    """Play what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join([*ATTACKS, DRAIN]))
    names = parser.parse_args().names or [*ATTACKS, DRAIN]
    failed = 0
    for name in names:
        if name == DRAIN:
            failed += _drain()
            continue
        damage = asyncio.run(_play(ATTACKS[name]))
        why = ATTACKS[name].too_much(damage)
        failed += bool(why)
        print(f"{name}: {why or 'withstood'}\n{damage}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
