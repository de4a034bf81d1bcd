"""Warns where a failover of PostgreSQL may lose commits that were answered.

An ordinary role can read enough: how many processes send the log to replicas, the slots of replicas
that are away for a moment, and the settings that decide. It cannot read what those processes are: a
backup or an archive that is being written counts, too. While `synchronous_standby_names` is not
empty, a commit waits for the replicas that it names. With Patroni's `synchronous_mode` it names
those that may become the primary.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from midas.storage.faults import StorageFault

LOOK_S = 60.0
"""How often it is read: an administrator changes it, or Patroni when a replica goes away."""
REMIND_S = 3600.0
"""How often the warning is repeated while the risk lasts."""

_REPLICATION = """
SELECT (SELECT count(*) FROM pg_stat_replication),
    (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical'),
    current_setting('synchronous_standby_names'), current_setting('synchronous_commit')
"""

_log = logging.getLogger(__name__)

Fetch = Callable[[str], Awaitable[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Replication:
    """The server's replication, as its views and settings show it."""

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
    """Looks once a minute, and warns. One per process."""

    def __init__(self, fetch: Fetch, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._risk = ""
        self._warned_at = 0.0

    async def run(self) -> None:
        """Look once a minute until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Warn when a risk begins, and each hour while it lasts; log when it is over."""
        try:
            rows = await self._fetch(_REPLICATION)
        except StorageFault:
            return  # others report that there is no database now
        found = Replication(*rows[0])
        now, risk = self._monotonic(), found.risk
        if risk and (risk != self._risk or now - self._warned_at >= REMIND_S):
            fields = {"reason": risk, "count": max(found.senders, found.slots)}
            _log.warning("failover_may_lose_commits", extra=fields)
            self._warned_at = now
        elif self._risk and not risk:
            _log.info("failover_loses_no_commits")
        self._risk = risk
