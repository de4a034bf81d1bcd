"""One look through Ping++'s lists for all the charges of a channel that are looked for.

    all that may hold them, in one page ── complete: a quiet channel ─▶ answered
    else the seconds around each call, and then ever more of its window, every second once

That a charge is not there is proven only when its whole window was read. A page has 100 charges, so
a channel with R charges a second costs R / 100 pages for each second that some window covers. A
window is about 18.5 minutes for a charge that is looked for until its settle window is over (2 h
more where Ping++ takes repetitions for so long), and 46.5 minutes while the clocks are not known to
agree. So `limits.SWEEP_PAGES` proves absence up to 27 charges a second on one channel, or 10. Above
that the outcome stays unknown, and a person is called after a day.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from midas.charge import Charge, ChargeFacts
from midas.flows.commit import Ports
from midas.flows.deadline import Deadline
from midas.flows.unknown import as_unknown
from midas.ports import ChargePage, Done, Unknown

Found = tuple[ChargeFacts, ...] | Unknown
"""All charges of one number that lists show, a paid one first; none if complete lists show none."""

Seconds = tuple[int, int]
"""A stretch of Ping++'s clock in whole seconds, both ends included. Lists are read by stretches."""

DISTANCES_S = (15, 60, 300, 10**9)
"""How far from the moment of a call a busy channel is searched: one distance after the other."""

INCOMPLETE = Unknown("incomplete_list")
"""A page promises more and gives nothing to go on from: it proves no absence."""
TOO_LONG = Unknown("list_too_long")


@dataclass(slots=True, eq=False)
class Wanted:
    """One number that is looked for, where, and in the end what was found."""

    out_trade_no: str
    moment: int
    window: Seconds
    answer: Found | None = None
    shown: dict[str, ChargeFacts] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether it is still looked for."""
        return self.answer is None and not self.shown

    def within(self, distance_s: int) -> Seconds:
        """The part of its window that is not further from the call than this."""
        earliest, latest = self.window
        return max(earliest, self.moment - distance_s), min(latest, self.moment + distance_s)


def wanted(ports: Ports, charge: Charge) -> Wanted:
    """Where a charge would be listed, by Ping++'s clock.

    The window reaches to the last moment at which a post, or its repetition, can have arrived.
    """
    now = ports.store.now()
    ports.skew.note(ports.psp.now(), now)
    posting = max(ports.psp.total_timeout, ports.psp.repost_window(charge.channel))
    passed = max(now - charge.created_at, timedelta(0))
    first, last = ports.skew.dated(charge.created_at)
    end = last + min(posting + ports.settle_window, passed)
    window = math.floor(first.timestamp()), math.ceil(end.timestamp())
    moment = math.floor((first.timestamp() + last.timestamp()) / 2)
    return Wanted(charge.out_trade_no, moment, window)


async def sweep(
    ports: Ports, channel: str, all_wanted: Sequence[Wanted], deadline: Deadline, pages: int
) -> None:
    """Answer for every one of them, and read at most `pages` pages.

    If something ends it early, only those stay unknown that were not searched to the end by then.
    """
    search = _Sweep(ports, channel, all_wanted, deadline, pages)
    why_not = await search.run()
    for each in all_wanted:
        if each.shown and each.answer is None:
            found = sorted(each.shown.values(), key=lambda one: (not one.paid, one.created_at))
            each.answer = tuple(found)
        elif each.answer is None:
            each.answer = why_not if without(each.window, search.covered) else ()


class _Sweep:
    def __init__(
        self,
        ports: Ports,
        channel: str,
        all_wanted: Sequence[Wanted],
        deadline: Deadline,
        pages: int,
    ) -> None:
        self._ports = ports
        self._channel = channel
        self._wanted = {each.out_trade_no: each for each in all_wanted}
        self._deadline = deadline
        self._pages_left = pages
        self.covered: list[Seconds] = []

    async def run(self) -> Unknown | None:
        """Search; None once all is found or searched, else what ended it."""
        for stretch in merged(each.window for each in self._wanted.values()):
            failed = await self._read(stretch, pages=1)
            if failed not in (None, TOO_LONG):
                return failed
        for distance_s in DISTANCES_S:
            for each in self._wanted.values():
                failed = await self._read_around(each, distance_s)
                if failed is not None:
                    return failed
        return None

    async def _read_around(self, one: Wanted, distance_s: int) -> Unknown | None:
        for stretch in reversed(without(one.within(distance_s), self.covered)):
            if not one.is_open:
                return None
            failed = await self._read(stretch)
            if failed is not None:
                return failed
        return None

    async def _read(self, stretch: Seconds, pages: int | None = None) -> Unknown | None:
        """Read one stretch to its end, or as long as something in it is looked for."""
        after: str | None = None
        while pages is None or pages > 0:
            if self._pages_left == 0:
                return TOO_LONG
            self._pages_left -= 1
            page = await self._page(stretch, after)
            if not isinstance(page, ChargePage):
                return page
            if any(_is_elsewhere(self._ports, each) for each in page.charges):
                return Unknown("other_account")  # it says nothing of ours
            self._note(page)
            if page.more and not page.last_id:
                return INCOMPLETE
            if not page.more:
                self.covered = merged([*self.covered, stretch])
                return None
            if not self._has_open(stretch):
                return None
            after, pages = page.last_id, None if pages is None else pages - 1
        return TOO_LONG

    def _note(self, page: ChargePage) -> None:
        for each in page.charges:
            ours = self._wanted.get(each.out_trade_no)
            if ours is not None:
                ours.shown[each.charge_id] = each
        for out_trade_no in page.unread:
            if out_trade_no in self._wanted:
                self._wanted[out_trade_no].answer = Unknown("unreadable_answer")

    def _has_open(self, stretch: Seconds) -> bool:
        return any(
            each.is_open and each.window[0] <= stretch[1] and stretch[0] <= each.window[1]
            for each in self._wanted.values()
        )

    async def _page(self, stretch: Seconds, after: str | None) -> ChargePage | Unknown:
        earliest, latest = (datetime.fromtimestamp(each, UTC) for each in stretch)
        verdict = await self._ports.psp.list_charges(
            earliest, latest, self._channel, after, self._deadline.left()
        )
        return verdict.answer if isinstance(verdict, Done) else as_unknown(verdict)


def _is_elsewhere(ports: Ports, listed: ChargeFacts) -> bool:
    """Whether it is of another app or mode than was asked for: the key is not the right one."""
    return (listed.app_id, listed.livemode) != (ports.psp.app_id, ports.psp.livemode)


def merged(stretches: Iterable[Seconds]) -> list[Seconds]:
    """The same seconds in as few stretches as there can be, in order."""
    whole: list[Seconds] = []
    for first, last in sorted(stretches):
        if whole and first <= whole[-1][1] + 1:
            whole[-1] = (whole[-1][0], max(whole[-1][1], last))
        else:
            whole.append((first, last))
    return whole


def without(stretch: Seconds, covered: Iterable[Seconds]) -> list[Seconds]:
    """What is left of the stretch; `covered` is in order and does not overlap."""
    first, last = stretch
    left: list[Seconds] = []
    for start, end in covered:
        if end < first or start > last:
            continue
        if first < start:
            left.append((first, start - 1))
        first = end + 1
    return [*left, (first, last)] if first <= last else left
