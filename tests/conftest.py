"""Fixtures that every test may use, and what the tests cost.

At the end of a run stands how much processor time its tests used, and which used most of it: a busy
machine makes them slower, but not dearer. A plain run has six minutes on two cores. What takes
more than some ten seconds of one is marked `long`, or made cheaper.
"""

import logging
import os
import signal
from collections.abc import Generator

import pytest

pytest_plugins = ["tests.databases"]

CPU_S = "cpu_s"
DEAR_S = 10.0
"""What a test may cost without being named."""


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for a process or a database."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_configure() -> None:
    """Let signals have their usual effect here, and in what is started from here.

    A shell without a terminal starts what runs in the background with Ctrl-C ignored, and Midas's
    commands leave ignored what they find ignored: the tests that send it would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(each) is signal.SIG_IGN:
            signal.signal(each, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Generator[None]:
    """Take back what a test configured: the next one may count the lines that it meets."""
    loggers = [logging.getLogger(name) for name in (None, "midas")]
    levels = [(each, each.level) for each in loggers]
    yield
    for logger, level in levels:
        logger.setLevel(level)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember what everything had cost before the test."""
    item.stash[_BEGAN] = _cpu_s()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note in its last report what the test cost, with all processes that ended in it."""
    report = yield
    if call.when == "teardown":
        report.user_properties.append((CPU_S, _cpu_s() - item.stash[_BEGAN]))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell the sum, and who is above DEAR_S."""
    costs = [
        (float(value), report.nodeid)
        for report in terminalreporter.getreports("")
        for name, value in report.user_properties
        if name == CPU_S and report.when == "teardown"
    ]
    if not costs:
        return
    total = sum(cost for cost, _ in costs)
    terminalreporter.write_line(f"{len(costs)} tests used {total:.0f} s of processor time")
    for cost, nodeid in sorted(costs, reverse=True):
        if cost > DEAR_S:
            terminalreporter.write_line(f"  {cost:.0f} s {nodeid}")


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


_BEGAN = pytest.StashKey[float]()
