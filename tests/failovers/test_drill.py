"""The drill itself, without failovers, on the plain PostgreSQL of the tests."""

from pathlib import Path

import pytest

from tests.failovers.drill import LOGS, drill
from tests.failovers.plan import Plan

pytestmark = pytest.mark.long


async def test_without_failovers_all_ledgers_agree(tmp_path: Path, postgres_url: str) -> None:
    """Every part of the drill works, and the load does what it promises."""
    plan = Plan(rounds=0, orders=40, pause_s=0.1, late_s=2, settle_window_s=5, psp_timeout_s=5)
    report = await drill(tmp_path, plan, postgres_url, None)
    assert report.holds, str(report)
    assert len(report.stories) >= plan.orders
    assert any(story.refunds_at_psp for story in report.stories)
    assert any(story.received for story in report.stories)
    assert (tmp_path / LOGS).exists()
