"""`python -m tests.failovers`: see the package."""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

import tests.failovers
from tests.failovers.cluster import Cluster, ClusterFailed
from tests.failovers.drill import LOGS, drill
from tests.failovers.plan import Plan
from tests.failovers.report import Report

CLUSTER = "MIDAS_HA_CLUSTER"
ALARMED = "alarmed.txt"


def main() -> int:
    """Exit status 0: the run holds. 1: it does not. 2: there was no cluster to try it on."""
    options = _options()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="midas-failovers-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        report = asyncio.run(_on_a_cluster(options.cluster, folder, _plan(options)))
    except ClusterFailed as failed:
        print(f"tests.failovers: {failed}", file=sys.stderr)
        return 2
    (folder / ALARMED).write_text(report.alarmed())
    print(report)
    print(f"All logs are in {folder / LOGS}, the differences with an alarm in {folder / ALARMED}")
    return 0 if report.holds else 1


async def _on_a_cluster(tool: str, folder: Path, plan: Plan) -> Report:
    # PostgreSQL's user must reach it, and a folder of mkdtemp is the owner's alone.
    cluster = Cluster(tool, folder.with_name(f"{folder.name}-cluster"))
    database_url = await cluster.up(synchronous=not plan.lossy)
    try:
        return await drill(folder, plan, database_url, cluster)
    finally:
        await cluster.down()


def _plan(options: argparse.Namespace) -> Plan:
    chosen = {
        "rounds": options.rounds,
        "lag_s": options.lag,
        "orders": options.orders,
        "callers": options.callers,
        "seed": options.seed,
    }
    return Plan(**{name: value for name, value in chosen.items() if value is not None})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.failovers",
        description=tests.failovers.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tool = os.environ.get(CLUSTER)
    parser.add_argument(
        "--cluster", metavar="TOOL", default=tool, required=not tool,
        help=f"the program that makes a cluster; {CLUSTER} in the environment unless given",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, help="failovers; 5 unless given")
    parser.add_argument(
        "--lag", type=float, metavar="S",
        help="asynchronous replication, and each failover loses the commits of the last S seconds;"
        " synchronous unless given",
    )  # fmt: skip
    parser.add_argument("--orders", type=int, help="begun before each failover and after; 60")
    parser.add_argument("--callers", type=int, help="at once; 8")
    parser.add_argument("--seed", type=int, help="repeats the choices of a run")
    parser.add_argument("--folder", type=Path, help="for the logs; a new one unless given")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
