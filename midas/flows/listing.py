"""Looking through Ping++'s lists: only a complete one can say that something is not there."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from midas import limits
from midas.charge import Charge, ChargeFacts
from midas.flows.deadline import NO_DEADLINE, Deadline
from midas.flows.observe import Ports
from midas.ports import ChargePage, Done, NotDone, Unknown, Verdict
from midas.refund import RefundFacts

SLICES = tuple(timedelta(seconds=seconds) for seconds in (15, 60, 300, 86_400))
"""Distances from the moment of our call at which the search through a busy channel is cut."""

_INCOMPLETE = Unknown("incomplete_list")
"""A page that promises more and gives nothing to go on from: it proves the absence of nothing."""


async def find_charge(
    ports: Ports, charge: Charge, deadline: Deadline = NO_DEADLINE
) -> ChargeFacts | Unknown | None:
    """The charge as Ping++ lists it; None if complete lists of that time do not show it.

    A quiet channel shows the whole window at once. On a busy one it is searched in slices, from the
    moment of our call outwards, within one bound on pages.
    """
    search = _Search(ports, charge, deadline)
    for earliest, latest in _slices(ports, charge):
        found = await search.through(earliest, latest)
        if found is not None or search.whole_window_seen:
            return found
    return None


class _Search:
    """Looks for one charge through lists of charges. Pages are counted over all of them."""

    def __init__(self, ports: Ports, charge: Charge, deadline: Deadline) -> None:
        self._ports = ports
        self._charge = charge
        self._deadline = deadline
        self._pages_left = limits.PSP_LIST_PAGES
        self._slices_seen = 0
        self.whole_window_seen = False

    async def through(self, earliest: datetime, latest: datetime) -> ChargeFacts | Unknown | None:
        """The charge, None if this stretch of time does not hold it, or Unknown."""
        self._slices_seen += 1
        after: str | None = None
        while self._pages_left > 0:
            self._pages_left -= 1
            page = await self._page(earliest, latest, after)
            if not isinstance(page, ChargePage):
                return page
            if any(_is_elsewhere(self._ports, each) for each in page.charges):
                return Unknown("other_account")  # it says nothing of ours
            ours = [c for c in page.charges if c.out_trade_no == self._charge.out_trade_no]
            if ours:
                return min(ours, key=lambda each: not each.paid)
            if self._charge.out_trade_no in page.unread:
                return Unknown("unreadable_answer")
            if page.more and not page.last_id:
                return _INCOMPLETE
            if not page.more:
                self.whole_window_seen = self._slices_seen == 1
                return None
            if self._slices_seen == 1:
                return None  # a busy channel: look nearby first
            after = page.last_id
        return Unknown("list_too_long")

    async def _page(
        self, earliest: datetime, latest: datetime, after: str | None
    ) -> ChargePage | Unknown:
        channel = self._charge.channel
        left = self._deadline.left()
        told = await self._ports.psp.list_charges(earliest, latest, channel, after, left)
        return told.answer if isinstance(told, Done) else as_unknown(told)


def _is_elsewhere(ports: Ports, listed: ChargeFacts) -> bool:
    """Whether it is of another app or mode than was asked for: the key is not the right one."""
    return (listed.app_id, listed.livemode) != (ports.psp.app_id, ports.psp.livemode)


def _slices(ports: Ports, charge: Charge) -> Iterator[tuple[datetime, datetime]]:
    """The whole window first, then its parts, the likely ones first.

    It reaches to the last moment at which a post, or its repetition, can have arrived.
    """
    middle = charge.created_at
    before = limits.CLOCK_SKEW
    posting = max(ports.psp.total_timeout, ports.psp.repost_window(charge.channel))
    passed = ports.store.now() - charge.created_at
    behind = min(posting + ports.settle_window, passed) + limits.CLOCK_SKEW
    yield middle - before, middle + behind
    near = timedelta(0)
    for far in SLICES:
        yield middle + min(near, behind), middle + min(far, behind)
        yield middle - min(far, before), middle - min(near, before)
        near = far


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
            return _INCOMPLETE
        after = page.answer.refunds[-1].refund_id
    return Unknown("list_too_long")


def as_unknown(verdict: Verdict[Any]) -> Unknown:
    """No answer to a question, whatever kept it away."""
    if isinstance(verdict, NotDone):
        return Unknown(verdict.refusal.lower())
    return verdict if isinstance(verdict, Unknown) else Unknown("unexpected_answer")
