"""Looks through Ping++'s lists: only a complete list can show that something is not there."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

from midas import limits
from midas.charge import Charge
from midas.flows.commit import Ports
from midas.flows.deadline import NO_DEADLINE, Deadline, within
from midas.flows.sweep import INCOMPLETE, TOO_LONG, Found, Wanted, sweep, wanted
from midas.flows.unknown import as_unknown
from midas.ports import Done, Unknown
from midas.refund import RefundFacts

FindCharge = Callable[[Ports, Charge, Deadline], Awaitable[Found]]
"""How a charge is looked for: alone, or together with others."""


async def find_charge(ports: Ports, charge: Charge, deadline: Deadline = NO_DEADLINE) -> Found:
    """Every charge of this number that Ping++ lists; `()` if the charge is absent.

    Absent means that complete lists of the time in which it can have been made do not show it.
    """
    one = wanted(ports, charge)
    await sweep(ports, charge.channel, [one], deadline, limits.PSP_LIST_PAGES)
    return one.answer if one.answer is not None else TOO_LONG


class SharedLooks:
    """Looks for many charges at once: one sweep answers all looks of a channel that wait.

    A look that comes while a sweep is under way waits for the next one: what a list showed before
    the look began proves nothing to it. `places` bounds the work beside it: a look that waits gives
    its place back.
    """

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._waiting: defaultdict[str, list[Wanted]] = defaultdict(list)
        self._sweeping: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def find_charge(
        self, ports: Ports, charge: Charge, _deadline: Deadline = NO_DEADLINE
    ) -> Found:
        """What `find_charge` does, within the pages and the time of a sweep: no caller waits."""
        one = wanted(ports, charge)
        self._places.release()
        try:
            await self._answer(ports, charge.channel, one)
        finally:
            await self._places.acquire()
        return one.answer if one.answer is not None else TOO_LONG

    async def _answer(self, ports: Ports, channel: str, one: Wanted) -> None:
        waiting = self._waiting[channel]
        waiting.append(one)
        try:
            async with self._sweeping[channel]:
                if one.answer is None:
                    together = [each for each in waiting if each.answer is None]
                    end = within(ports.clock, limits.SWEEP_TIME)
                    await sweep(ports, channel, together, end, limits.SWEEP_PAGES)
        finally:
            waiting.remove(one)


async def list_all_refunds(
    ports: Ports, charge_id: str, deadline: Deadline = NO_DEADLINE
) -> tuple[RefundFacts, ...] | Unknown:
    """Every refund of a charge; Unknown unless the list is complete."""
    found: list[RefundFacts] = []
    after: str | None = None
    for _ in range(limits.PSP_LIST_PAGES):
        page = await ports.psp.list_refunds(charge_id, after, deadline.left())
        if not isinstance(page, Done):
            return as_unknown(page)
        found += page.answer.refunds
        if not page.answer.more:
            return tuple(found)
        if not page.answer.refunds:
            return INCOMPLETE
        after = page.answer.refunds[-1].refund_id
    return TOO_LONG
