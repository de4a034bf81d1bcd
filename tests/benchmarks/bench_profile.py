"""What an operation's CPU consists of: by thread, and by function of the event loop's thread.

Times are CPU of that thread. cProfile makes small functions look dearer than they are: read it for
the order, not for the times.
"""

import pstats
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.chain import Chain
from tests.benchmarks.processes import ROOT, Child
from tests.benchmarks.stage import Stage, begin_profile

TOP = 45


def of_charges(stage: Stage) -> str:
    """Midas's share of a charge, as text for a person."""
    server, target = stage.midas(stage.sqlite(), stage.stub)
    stage.charge(target, stage.plan.warm_up)
    threads = _threads({"midas": server}, partial(stage.charge, target), stage.plan.charges)
    profile = stage.folder / "charges.prof"
    server, target = stage.midas(stage.sqlite(), stage.stub, profile)
    stage.charge(target, stage.plan.warm_up)
    begin_profile(server)
    stage.charge(target, stage.plan.charges)
    server.stop()
    functions = _functions("midas", profile, stage.plan.charges)
    return "\n\n".join(("A charge on SQLite.", threads, functions))


def of_events(stage: Stage) -> str:
    """What Midas and the gateway do for a webhook, until the order service knows; as text."""
    plan = stage.plan
    chain = _warm(Chain(stage, stage.sqlite()), stage)
    chain.prepare(plan.events)
    servers = {"gateway": chain.gateway, "midas": chain.midas}
    threads = _threads(servers, chain.deliver, plan.events)
    chain = _warm(Chain(stage, stage.sqlite(), profiles=stage.folder), stage)
    chain.prepare(plan.events)
    for server in chain.servers:
        begin_profile(server)
    chain.deliver(plan.events)
    for server in chain.servers:
        server.stop()
    functions = [_functions(name, stage.folder / f"{name}.prof", plan.events) for name in servers]
    return "\n\n".join(("An event on SQLite.", threads, *functions))


def _warm(chain: Chain, stage: Stage) -> Chain:
    chain.prepare(stage.plan.warm_up)
    chain.deliver(stage.plan.warm_up)
    return chain


def _threads(servers: Mapping[str, Child], work: Callable[[int], object], count: int) -> str:
    before = {name: server.cpu_of_threads_s() for name, server in servers.items()}
    work(count)
    lines = []
    for name, server in servers.items():
        after = server.cpu_of_threads_s()
        used = {thread: 1e6 * (after[thread] - before[name].get(thread, 0)) for thread in after}
        lines += [
            f"{us / count:10.0f}  {name}: {thread}"
            for thread, us in sorted(used.items(), key=lambda item: -item[1])
            if us > 0
        ]
    return "\n".join(("CPU us by thread:", *lines))


def _functions(server: str, profile: Path, count: int) -> str:
    stats: Any = pstats.Stats(str(profile))
    lines = [f"{server}, us by function:", f"{'own':>8} {'in all':>8} {'calls':>6}  function"]
    entries = sorted(stats.stats.items(), key=lambda item: -item[1][2])
    for (file, number, function), (_, calls, own, total, _callers) in entries[:TOP]:
        where = f"{_short(file)}:{number} {function}" if number else function
        lines.append(
            f"{1e6 * own / count:8.1f} {1e6 * total / count:8.1f} {calls / count:6.1f}  {where}"
        )
    return "\n".join(lines)


def _short(file: str) -> str:
    _, installed, rest = file.partition("site-packages/")
    return rest if installed else file.removeprefix(f"{ROOT}/").removeprefix(str(Path.home()))
