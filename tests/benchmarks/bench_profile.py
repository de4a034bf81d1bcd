"""What a charge's CPU consists of: by thread, and by function of the event loop's thread.

Times are CPU of that thread. cProfile makes small functions look dearer than they are: read it for
the order, not for the times.
"""

import pstats
from pathlib import Path
from typing import Any

from tests.benchmarks.plan import CALLERS
from tests.benchmarks.processes import ROOT, Child
from tests.benchmarks.stage import Stage, begin_profile

TOP = 45


def of_charges(stage: Stage) -> str:
    """Text for a person."""
    return "\n\n".join((_threads(stage), _functions(stage)))


def _threads(stage: Stage) -> str:
    server, target = stage.midas(stage.sqlite(), stage.stub)
    _charge(stage, target, stage.plan.warm_up)
    before = server.cpu_of_threads_s()
    _charge(stage, target, stage.plan.charges)
    after = server.cpu_of_threads_s()
    used = {name: 1e6 * (after[name] - before.get(name, 0)) for name in after}
    lines = [
        f"{us / stage.plan.charges:10.0f}  {name}"
        for name, us in sorted(used.items(), key=lambda item: -item[1])
        if us > 0
    ]
    return "\n".join(("CPU us/charge by thread (SQLite):", *lines))


def _functions(stage: Stage) -> str:
    profile = stage.folder / "charges.prof"
    server, target = stage.profiled_midas(stage.sqlite(), stage.stub, profile)
    _charge(stage, target, stage.plan.warm_up)
    _profiled(stage, server, target)
    stats: Any = pstats.Stats(str(profile))
    lines = ["us/charge by function:", f"{'own':>8} {'in all':>8} {'calls':>6}  function"]
    entries = sorted(stats.stats.items(), key=lambda item: -item[1][2])
    for (file, number, function), (_, calls, own, total, _callers) in entries[:TOP]:
        charges = stage.plan.charges
        where = f"{_short(file)}:{number} {function}" if number else function
        lines.append(
            f"{1e6 * own / charges:8.1f} {1e6 * total / charges:8.1f}"
            f" {calls / charges:6.1f}  {where}"
        )
    return "\n".join(lines)


def _profiled(stage: Stage, server: Child, target: str) -> None:
    begin_profile(server)
    _charge(stage, target, stage.plan.charges)
    server.stop()


def _charge(stage: Stage, target: str, count: int) -> None:
    prefix = stage.prefix()
    stage.load.ask(do="charge", target=target, callers=CALLERS, count=count, prefix=prefix)


def _short(file: str) -> str:
    _, installed, rest = file.partition("site-packages/")
    return rest if installed else file.removeprefix(f"{ROOT}/").removeprefix(str(Path.home()))
