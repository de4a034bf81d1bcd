"""The part of a process's store that keeps events and notifications, each call in its turn."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import TYPE_CHECKING

from midas.event import EventRecord
from midas.lease import Backlog, Lease, Settlement
from midas.storage.store import SqlStore
from tests.faults.crash import written

if TYPE_CHECKING:
    from tests.faults.machine_replica import Named
    from tests.faults.machine_world import World


class MachineQueues:
    """What `MachineStore` has of `Store` for them. The database gets the time first."""

    _world: "World"
    _process: "Named"
    _store: SqlStore

    def _call(self, kind: str) -> AbstractAsyncContextManager[str]:
        raise NotImplementedError

    async def record_event(self, event: EventRecord) -> bool:
        """Written or not, answered or not."""
        async with self._call("event") as way:
            return await written(self._process, way, lambda: self._store.record_event(event))

    async def event(self, event_id: str) -> EventRecord | None:
        """Readable or not."""
        async with self._call("read"):
            return await self._store.event(event_id)

    async def claim_events(self, limit: int, hold: timedelta) -> list[EventRecord]:
        """Claimed or not, answered or not; sorted as `claim_due_orders` is."""
        async with self._call("event") as way:
            await self._world.set_time()
            found = await written(self._process, way, lambda: self._store.claim_events(limit, hold))
            return sorted(found, key=lambda each: each.event_id)

    async def lease_notifications(self, limit: int, hold: timedelta) -> list[Lease]:
        """Leased or not, answered or not."""
        async with self._call("lease") as way:
            await self._world.set_time()
            return await written(
                self._process, way, lambda: self._store.lease_notifications(limit, hold)
            )

    async def settle_notifications(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settled or not, answered or not."""
        async with self._call("settle") as way:
            await self._world.set_time()
            return await written(
                self._process, way, lambda: self._store.settle_notifications(settlements)
            )

    async def backlog(self) -> Backlog:
        """Nothing: it decides nothing, and is waited for by the machine's own clock."""
        self._process.still_alive()
        return Backlog(None, 0)
