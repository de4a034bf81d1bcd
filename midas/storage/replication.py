"""Whether a failover of PostgreSQL may lose commits that were answered, and saying so.

An ordinary role is shown enough: how many processes send the log to replicas (but not what they
are: a backup or an archive that is being written counts, too), the slots of replicas that are away
for a moment, and the settings that decide. While `synchronous_standby_names` is not empty a commit
waits for the replicas that it names, and with Patroni's `synchronous_mode` it names those that may
become the primary.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from midas.storage.faults import StorageFault

LOOK_S = 60.0
"""How often it is looked at: an administrator changes it, or Patroni when a replica goes away."""
REMIND_S = 3600.0
"""How often it is said again while it lasts."""

_SEEN = """
SELECT (SELECT count(*) FROM pg_stat_replication),
    (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical'),
    current_setting('synchronous_standby_names'), current_setting('synchronous_commit')
"""

_log = logging.getLogger(__name__)

Fetch = Callable[[str], Awaitable[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Replication:
    """What the server shows of it."""

    senders: int
    slots: int
    synchronous_standby_names: str
    synchronous_commit: str

    @property
    def risk(self) -> str:
        """Why commits that were answered may be lost; empty if they may not."""
        if self.synchronous_commit == "off":
            return "synchronous_commit_off"  # a crash of the server alone is enough
        if not (self.senders or self.slots):
            return ""
        if not self.synchronous_standby_names.strip():
            return "no_synchronous_replica"
        return "synchronous_commit_local" if self.synchronous_commit == "local" else ""


class ReplicationWatch:
    """Looks every now and then, and warns. One per process."""

    def __init__(self, fetch: Fetch, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._risk = ""
        self._said_at = 0.0

    async def run(self) -> None:
        """Look, from now on, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Warn when it becomes so, and each hour while it stays so; say when it is over."""
        try:
            rows = await self._fetch(_SEEN)
        except StorageFault:
            return  # that there is no database now is said elsewhere
        seen = Replication(*rows[0])
        now, risk = self._monotonic(), seen.risk
        if risk and (risk != self._risk or now - self._said_at >= REMIND_S):
            told = {"reason": risk, "count": max(seen.senders, seen.slots)}
            _log.warning("failover_may_lose_commits", extra=told)
            self._said_at = now
        elif self._risk and not risk:
            _log.info("failover_loses_no_commits")
        self._risk = risk
