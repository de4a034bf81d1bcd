"""One run: load, failovers one after the other, quiet, and the judgement."""

import asyncio
import contextlib
import random
import sys
import time
from collections import Counter
from pathlib import Path

from midas import storage
from tests.failovers.cluster import Cluster
from tests.failovers.judge import differences
from tests.failovers.ledgers import alarm_lines, stories
from tests.failovers.load import Shop
from tests.failovers.plan import Plan
from tests.failovers.quiet import NeverQuiet, become_quiet
from tests.failovers.report import Report, alarm_kind
from tests.failovers.stage import Stage

LOGS = "logs.txt"


async def drill(folder: Path, plan: Plan, database_url: str, cluster: Cluster | None) -> Report:
    """Run it; the logs of all processes are in `folder` then. Without a cluster nothing fails over.

    Raises ClusterFailed.
    """
    await storage.migrate(database_url)
    report = Report(plan)
    stage = Stage(folder, database_url, plan)
    try:
        await stage.open()
        await _under_load(stage, cluster, report)
        await _judged(stage, report)
    finally:
        with (folder / LOGS).open("w") as logs, contextlib.redirect_stdout(logs):
            try:
                await stage.close()
            except AssertionError as broken:
                report.wrong.append(str(broken))
    return report


async def _under_load(stage: Stage, cluster: Cluster | None, report: Report) -> None:
    plan = stage.plan
    shop = Shop(stage, random.Random(plan.seed))
    calling = asyncio.create_task(shop.run(plan.callers))
    failing = asyncio.create_task(_fail_over(shop, plan, cluster, report))
    try:
        await asyncio.wait([calling, failing], return_when=asyncio.FIRST_COMPLETED)
        if calling.done():
            calling.result()
        await failing
        shop.stop()
        await calling
        _print_progress("the load is over")
        await become_quiet(stage)
    except NeverQuiet as open_still:
        report.wrong.append(f"I13: never quiet: {open_still}")
    finally:
        for each in (calling, failing):
            each.cancel()
        await asyncio.wait([calling, failing])
        await shop.close()
        report.calls, report.wrong = shop.ends, [*report.wrong, *shop.refused]
    report.order_nos = shop.order_nos


async def _fail_over(shop: Shop, plan: Plan, cluster: Cluster | None, report: Report) -> None:
    _print_progress("everything serves; callers come")
    await shop.begun(plan.orders)
    for number in range(plan.rounds if cluster else 0):
        assert cluster is not None
        _print_progress(
            f"failover {number + 1} of {plan.rounds}, {len(shop.order_nos)} orders so far"
        )
        report.failovers.append(await cluster.kill_primary(plan.lag_s))
        await shop.begun(plan.orders)
        await cluster.revive()
        await shop.begun(plan.orders)


async def _judged(stage: Stage, report: Report) -> None:
    _print_progress("quiet; judging")
    report.stories = await stories(stage, report.order_nos)
    now = stage.harness.sandbox.lookalike.now()
    report.differences = differences(report.stories, now, lossy=report.plan.lossy)
    report.alarms = Counter(alarm_kind(each) for each in alarm_lines(stage.midas))
    _check_it_was_a_drill(report)


def _check_it_was_a_drill(report: Report) -> None:
    """Otherwise a run that holds proves nothing."""
    answered = report.calls["OK"] + report.calls["ORDER_ALREADY_PAID"]
    if report.failovers and report.calls.total() == answered:
        report.wrong.append("no call ever failed in a failover")
    if report.failovers and report.plan.lossy and not report.alarms:
        report.wrong.append("no commit was ever lost")


def _print_progress(what: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")
    sys.stderr.flush()
