"""Waits until a session waits for a lock inside PostgreSQL."""

import asyncio

import asyncpg  # type: ignore[import-untyped]

from tests.patience import PATIENCE_S

_WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND wait_event_type = 'Lock'"
)


async def until_waiting(url: str) -> int:
    """The session that waits, once there is one."""
    session = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while (pid := await session.fetchval(_WAITING)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return int(pid)
    finally:
        await session.close()
