"""A failing enumeration prints its story: short, whole, and with a line that plays it again."""

import logging
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import scenarios
from tests.faults.exploring import OFFERS, described, explore, read, story_of, written
from tests.faults.scenarios import TERMS
from tests.faults.test_crash_points import EVENT_RUNS, LOSSES, RUNS
from tests.faults.test_seeded_defects import m2_timeout_is_failed_refund
from tests.faults.world import World

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 60


async def story_of_a_defect(monkeypatch: pytest.MonkeyPatch) -> str:
    """The text when a refund without an answer is taken for a failed one."""
    m2_timeout_is_failed_refund(monkeypatch)
    with pytest.raises(pytest.fail.Exception) as failed:
        async for _ in explore(scenarios.refund_once, TERMS, 2):
            pass
    assert failed.value.pytrace is False
    return str(failed.value)


async def test_what_broke_is_shown_with_its_faults_and_ledgers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The check, each step with the faults marked, and three ledgers."""
    text = await story_of_a_defect(monkeypatch)
    lines = text.splitlines()
    assert lines[0].startswith("I5: ")
    assert "conservation.py:" in lines[1]
    assert any(line.endswith("<-- fault") for line in lines)
    assert "Ping++ holds:" in lines
    assert any("'refund_no': 'r1'" in line for line in lines), text
    assert any(line.startswith("  refund r1 ") and "FAILED" in line for line in lines), text
    assert "The order service received:" in lines
    assert len(lines) < MOST_LINES


async def test_what_schedules_log_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Pytest would print all of it beside a failure; afterwards logging goes on as before."""

    async def noisy(world: World) -> None:
        logging.getLogger("midas.x").error("noise")
        await scenarios.charge_and_pay(world)

    async for _ in explore(noisy, TERMS, 0):
        logging.getLogger("midas.x").error("between")
    assert [record.message for record in caplog.records] == ["between"]


async def test_the_last_line_plays_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names story, offer and schedule; with the defect still in, the same check fails."""
    text = await story_of_a_defect(monkeypatch)
    *command, story, channel, schedule = shlex.split(text.splitlines()[-1])
    assert command == ["uv", "run", "python", "-m", "tests.faults.replay"]
    again = await described(story_of(story), OFFERS[channel], read(schedule))
    assert again.split()[0] == "I5:"
    assert again.splitlines()[-1] == text.splitlines()[-1]


def test_a_schedule_is_a_word() -> None:
    """Written and read it is the same, but for calls that went well after the last fault."""
    assert written([0, 0, 3, 1, 0, 0, 12, 0]) == "2:3,0:1,2:12"
    assert written([0, 0]) == "-"
    for digits in ([], [0, 0, 3], [1], [1, 0, 0, 2, 2]):
        assert read(written(digits)) == digits


def test_the_command_of_the_last_line_works() -> None:
    """From the root of a checkout, with the number of a lost commit."""
    given = ["charge_and_pay", "alipay_qr", "3:3", "2"]
    command = [sys.executable, "-m", "tests.faults.replay", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("all promises are kept\nWhat happened, while commit number 2")
    assert done.stdout.endswith(f"{' '.join(given)}\n")


def test_every_enumeration_can_be_named() -> None:
    """Stories by their names, offers by their channels."""
    runs = [each[:2] for each in RUNS] + [each[:2] for each in EVENT_RUNS]
    for story, terms in runs + [each[:2] for each in LOSSES]:
        assert story_of(story.__name__) is story
        assert OFFERS[terms.channel] == terms
