"""Looking for many charges in one go through the lists of a busy channel."""

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from midas import limits
from midas.charge import Charge, ChargeFacts, ChargeState
from midas.flows.commit import Ports
from midas.flows.deadline import NO_DEADLINE
from midas.flows.listing import SharedLooks, find_charge
from midas.flows.sweep import TOO_LONG, Found, Wanted, _Sweep, merged, sweep, wanted, without
from midas.ports import ChargePage, Done, NotDone, Refusal, Unknown, Verdict
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Lost, Sent
from tests.faults.chooser import Chooser
from tests.faults.scenarios import BAR_CODE
from tests.faults.world import Failed, FaultyWire, World
from tests.psp import made

PAGE = 100
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class BusyPsp:
    """Ping++ with one channel on which others charge so many times a second, for ever.

    `ours`: our charges, by the second in which Ping++ made them.
    """

    def __init__(self, real: Any, rate: float, ours: dict[int, list[str]] | None = None) -> None:
        self._real = real
        self._step_s = 1 / rate
        self._ours = ours or {}
        self.clock: Callable[[], datetime | None] = lambda: None
        self.pages = 0
        self.windows: list[tuple[datetime, datetime]] = []
        self.before_page: Callable[[], object] = lambda: None
        self.verdict: Verdict[ChargePage] | None = None
        self.unread: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def now(self) -> datetime | None:
        """What its answers told of its clock."""
        return self.clock()

    async def list_charges(
        self,
        created_from: datetime,
        created_to: datetime,
        channel: str | None = None,
        after: str | None = None,
        timeout: timedelta | None = None,
    ) -> Verdict[ChargePage]:
        """One page, newest first."""
        await asyncio.sleep(0)
        self.before_page()
        self.pages += 1
        self.windows.append((created_from, created_to))
        if self.verdict is not None:
            return self.verdict
        first, last = int(created_from.timestamp()), int(created_to.timestamp())
        rows = self._newest_first(first, last, after)
        page = [row for row, _ in zip(rows, range(PAGE + 1), strict=False)]
        shown = tuple(page[:PAGE])
        last_id = shown[-1].charge_id if shown else ""
        return Done(ChargePage(shown, len(page) > PAGE, self.unread, last_id))

    def _newest_first(self, first: int, last: int, after: str | None) -> Iterator[ChargeFacts]:
        """Whole seconds, as Ping++ dates them; `after` names the second and the place in it."""
        start, place = last, 0
        if after is not None:
            start, place = (int(each) for each in after.removeprefix("ch_").split("_"))
            place += 1
        for second in range(start, first - 1, -1):
            count = math.floor((second + 1) / self._step_s) - math.floor(second / self._step_s)
            numbers = [*self._ours.get(second, []), *[f"other{n}" for n in range(count)]]
            for n, number in enumerate(numbers):
                if second == start and n < place:
                    continue
                yield self._row(number, second, f"ch_{second}_{n}")

    def _row(self, number: str, second: int, charge_id: str) -> ChargeFacts:
        return ChargeFacts(
            charge_id=charge_id,
            out_trade_no=number,
            app_id=self._real.app_id,
            livemode=False,
            channel="wx_pub_scan",
            amount=100,
            currency="cny",
            paid=False,
            reversed=False,
            created_at=datetime.fromtimestamp(second, UTC),
        )


@pytest.fixture
def world() -> World:
    """Nothing goes wrong by itself."""
    world = World(Chooser((), most_faults=0), BAR_CODE)
    world.disk.clock = NOW
    return world


def busy(
    world: World, rate: float, ours: dict[int, list[str]] | None = None
) -> tuple[Ports, BusyPsp]:
    """A Midas whose Ping++ is as busy as that."""
    psp = BusyPsp(world.payments.ports.psp, rate, ours)
    return replace(world.payments.ports, psp=psp), psp


def unknown(number: str, age_s: float, **changed: object) -> Charge:
    """A bar code that was asked for so long ago."""
    at = NOW - timedelta(seconds=age_s)
    fields = {"out_trade_no": number, "channel": "wx_pub_scan", "created_at": at}
    return made.charge(**(fields | changed))


def measured(ports: Ports, psp: BusyPsp, ahead_s: float = 0) -> None:
    """Ping++'s clock has been known for as long as matters."""
    ahead = timedelta(seconds=ahead_s)
    psp.clock = lambda: ports.store.now() + ahead
    ports.skew.note(NOW - timedelta(days=1) + ahead, NOW - timedelta(days=1))


async def together(ports: Ports, *charges: Charge) -> list[Found]:
    """What a run of the resolver finds."""
    places = asyncio.Semaphore(2)
    looks = SharedLooks(places)

    async def look(charge: Charge) -> Found:
        async with places:
            return await looks.find_charge(ports, charge)

    return await asyncio.gather(*map(look, charges))


OVER_S = 40 * 60
"""By then a bar code's settle window is over, so its window is as long as it ever gets."""


@pytest.mark.parametrize(
    ("rate", "is_measured", "proven"),
    [(27, True, True), (29, True, False), (10, False, True), (12, False, False)],
)
async def test_how_busy_a_channel_may_be(
    world: World, rate: float, is_measured: bool, proven: bool
) -> None:
    """What the module promises: 27 charges a second with clocks that are measured, or 10."""
    ports, psp = busy(world, rate)
    if is_measured:
        measured(ports, psp)
    (found,) = await together(ports, unknown("N1", OVER_S))
    assert found == (() if proven else TOO_LONG)
    assert psp.pages <= limits.SWEEP_PAGES


@pytest.mark.parametrize("ahead_s", [-299, -30, 0, 30, 299])
@pytest.mark.parametrize("off_s", [-59, 0, 59])
@pytest.mark.parametrize("late_s", [0, 30 + 15 * 60])
async def test_wherever_a_charge_can_be_it_is_found(
    world: World, ahead_s: int, off_s: int, late_s: int
) -> None:
    """By Ping++'s clock, with a minute on each side, from the call to the end of the settle window.

    The channel is so busy that the window just fits.
    """
    second = int((NOW - timedelta(seconds=OVER_S)).timestamp()) + ahead_s + late_s
    ports, psp = busy(world, 25, {second + off_s: ["N1"]})
    measured(ports, psp, ahead_s)
    (found,) = await together(ports, unknown("N1", OVER_S))
    assert isinstance(found, tuple)
    assert [each.out_trade_no for each in found] == ["N1"]


@pytest.mark.parametrize("off_s", [-15 * 60, 0, 15 * 60])
async def test_while_the_clocks_are_not_measured_a_quarter_of_an_hour_is_kept(
    world: World, off_s: int
) -> None:
    """On either side, as long as there is no better."""
    second = int((NOW - timedelta(seconds=OVER_S)).timestamp()) + off_s
    ports, _ = busy(world, 5, {second: ["N1"]})
    (found,) = await together(ports, unknown("N1", OVER_S))
    assert isinstance(found, tuple)
    assert len(found) == 1


async def test_one_sweep_answers_for_all(world: World) -> None:
    """Fifty charges of one busy quarter of an hour cost as much as one, not fifty times."""
    alone, psp_alone = busy(world, 5)
    await together(alone, unknown("N0", OVER_S))
    seconds = {int(NOW.timestamp()) - OVER_S - n: [f"N{n}"] for n in range(0, 50, 2)}
    ports, psp = busy(world, 5, seconds)
    found = await together(ports, *(unknown(f"N{n}", OVER_S + n) for n in range(50)))
    assert [len(each) if isinstance(each, tuple) else each for each in found] == [1, 0] * 25
    assert psp.pages <= 2 * psp_alone.pages + 10


async def test_who_comes_during_a_sweep_waits_for_the_next_one(world: World) -> None:
    """What a list said before a look began proves nothing to it."""
    ports, psp = busy(world, 5)
    places = asyncio.Semaphore(10)
    looks = SharedLooks(places)
    began: list[int] = []

    async def look(number: str) -> Found:
        async with places:
            began.append(psp.pages)
            return await looks.find_charge(ports, unknown(number, OVER_S))

    tasks = [asyncio.ensure_future(look("N1"))]

    def one_more() -> None:
        if psp.pages == 3:
            tasks.append(asyncio.ensure_future(look("N2")))

    psp.before_page = one_more
    assert await tasks[0] == ()
    first = psp.pages
    assert await tasks[1] == ()
    assert began[1] > 0
    assert psp.pages == 2 * first


async def test_who_was_answered_waits_for_no_other_sweep(world: World) -> None:
    """Of two that come during the first one, neither makes a third one for one that comes later."""
    ports, psp = busy(world, 5)
    looks = SharedLooks(asyncio.Semaphore(10))
    ended: dict[str, int] = {}

    async def look(number: str) -> None:
        await looks.find_charge(ports, unknown(number, OVER_S))
        ended[number] = psp.pages

    tasks = [asyncio.ensure_future(look("N1"))]

    def more() -> None:
        new: tuple[str, ...] = ()
        if len(tasks) == 1:
            new = "N2", "N3"
        elif len(tasks) == 3 and psp.pages > ended.get("N1", math.inf):
            new = ("N4",)
        tasks.extend(asyncio.ensure_future(look(number)) for number in new)

    psp.before_page = more
    for n in range(4):
        await tasks[n]
    assert ended["N3"] == ended["N2"] == 2 * ended["N1"]
    assert ended["N4"] == 3 * ended["N1"]


async def test_the_waiting_leave_their_places_to_others(world: World) -> None:
    """Else as many as there are places would wait, and each sweep answer for no more than those."""
    ports, psp = busy(world, 1)
    await together(ports, *(unknown(f"N{n}", OVER_S) for n in range(20)))
    once, psp_once = busy(world, 1)
    await together(once, unknown("N0", OVER_S))
    assert psp.pages <= 2 * psp_once.pages


@pytest.mark.parametrize(
    ("window", "answer", "is_open"),
    [
        ((0, 9), None, False),
        ((0, 10), None, True),
        ((20, 30), None, True),
        ((21, 30), None, False),
        ((0, 30), None, True),
        ((0, 30), (), False),
    ],
    ids=["before", "its first second", "its last second", "after", "beyond it", "answered"],
)
def test_a_stretch_is_read_on_while_something_in_it_is_looked_for(
    world: World, window: tuple[int, int], answer: Found | None, is_open: bool
) -> None:
    """Pages are dear: of what is answered, or cannot be here, no more are turned."""
    one = Wanted("N1", 15, window, answer)
    other = Wanted("N2", 15, (0, 30), ())
    search = _Sweep(world.payments.ports, "wx_pub_scan", [one, other], NO_DEADLINE, 1)
    assert search._has_open((10, 20)) is is_open


async def test_a_sweep_that_breaks_leaves_the_others_to_the_next_one(world: World) -> None:
    """Nobody waits for an answer that does not come."""
    ports, psp = busy(world, 1)
    broken: list[bool] = []

    def break_once() -> None:
        if psp.pages == 1 and not broken:
            broken.append(True)
            raise RuntimeError

    psp.before_page = break_once
    places = asyncio.Semaphore(10)
    looks = SharedLooks(places)

    async def look(number: str) -> Found:
        async with places:
            return await looks.find_charge(ports, unknown(number, OVER_S))

    first, *others = await asyncio.gather(
        *(look(f"N{n}") for n in range(3)), return_exceptions=True
    )
    assert isinstance(first, RuntimeError)
    assert others == [(), ()]


async def test_what_was_searched_to_the_end_is_answered_though_the_pages_run_out(
    world: World,
) -> None:
    """So the next sweep has less to do, and in the end all are answered for."""
    ports, psp = busy(world, 5)
    measured(ports, psp)
    four = [wanted(ports, unknown(f"N{n}", OVER_S + n * 3600)) for n in range(4)]
    await sweep(ports, "wx_pub_scan", four, NO_DEADLINE, pages=170)
    assert [each.answer for each in four] == [(), (), TOO_LONG, TOO_LONG]
    assert psp.pages == 170


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Unknown("timeout"), "timeout"),
        (NotDone(Refusal.THROTTLED), "throttled"),
        (Done(ChargePage((), more=True)), "incomplete_list"),
    ],
)
async def test_a_page_that_does_not_come_leaves_all_unknown(
    world: World, verdict: Verdict[ChargePage], reason: str
) -> None:
    """No part of a list proves an absence (I5)."""
    ports, psp = busy(world, 1)
    psp.verdict = verdict
    found = await together(ports, unknown("N1", OVER_S), unknown("N2", OVER_S))
    assert found == [Unknown(reason)] * 2
    assert psp.pages <= 2


async def test_an_unreadable_row_of_one_leaves_the_others_as_they_are(world: World) -> None:
    """Its own number is there, whatever it says."""
    ports, psp = busy(world, 0.01)
    psp.unread = ("N1",)
    found = await together(ports, unknown("N1", OVER_S), unknown("N2", OVER_S))
    assert found == [Unknown("unreadable_answer"), ()]


async def test_all_charges_of_a_number_are_found_and_a_paid_one_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one is hidden from nobody."""
    second = int(NOW.timestamp()) - OVER_S
    ports, _ = busy(world, 0.01, {second: ["N1"], second + 30: ["N1"], second + 60: ["N1"]})
    row = BusyPsp._row
    monkeypatch.setattr(
        BusyPsp,
        "_row",
        lambda self, number, at, charge_id: replace(
            row(self, number, at, charge_id), paid=at == second + 30
        ),
    )
    found = await find_charge(ports, unknown("N1", OVER_S), NO_DEADLINE)
    assert isinstance(found, tuple)
    assert [int(each.created_at.timestamp()) - second for each in found] == [30, 0, 60]


async def test_a_whole_run_finds_out_with_a_few_pages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve orders whose calls were lost, through the resolver itself: one list for each look."""
    send = FaultyWire.send
    gets: list[str] = []

    async def lose_posts(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        answer = await send(self, request, limit)
        if request.method == "POST":
            return Answer(402, b'{"error":{"type":"channel_error","code":"new","message":"?"}}', "")
        gets.append(request.url)
        for _ in range(20):
            await asyncio.sleep(0)  # the others come meanwhile
        return answer

    monkeypatch.setattr(FaultyWire, "send", lose_posts)
    orders = [replace(BAR_CODE, order_no=f"order-{n}") for n in range(12)]
    for terms in orders:
        result = await world.ask(lambda payments, terms=terms: payments.charge(terms))  # type: ignore[misc]
        assert isinstance(result, Failed)
    world.pass_time(60)
    assert await world.payments.resolve_due() == 12
    assert len(gets) == 2
    for terms in orders:
        assert (await world.disk.load(terms.order_no)).charges[0].state is ChargeState.SUCCEEDED


@pytest.mark.parametrize("looked_before", [True, False])
async def test_the_resolver_keeps_watch_over_the_clocks(
    world: World, looked_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has nothing to do, and notes how they stand: what is written then is looked for nearby."""
    for n in range(5):
        await world.payments.charge(replace(BAR_CODE, order_no=f"other-{n}"))
    if looked_before:
        assert await world.payments.resolve_due() == 0
    send = FaultyWire.send
    gets: list[str] = []

    async def lose_posts(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if request.method == "POST":
            return Lost("timeout")
        gets.append(request.url)
        return await send(self, request, limit)

    monkeypatch.setattr(FaultyWire, "send", lose_posts)
    world.pass_time(1)
    assert isinstance(await world.ask(lambda payments: payments.charge(BAR_CODE)), Failed)
    asked_at = world.seconds
    world.pass_time(60)
    assert await world.payments.resolve_due() == 1
    earliest = int(parse_qs(urlsplit(gets[0]).query)["created[gte]"][0])
    kept = limits.CLOCK_SKEW_KEPT if looked_before else limits.CLOCK_SKEW
    assert abs(asked_at - kept.total_seconds() - earliest) <= 2


def test_stretches_are_cut_and_joined_as_sets_of_seconds_would_be() -> None:
    """Every combination of short stretches."""
    stretches = [(first, last) for first in range(5) for last in range(first, 6)]
    for pair in combinations(stretches, 2):
        covered = merged(pair)
        assert seconds(covered) == seconds(pair)
        for (_, end), (start, _) in pairwise(covered):
            assert start > end + 1
        for one in stretches:
            assert seconds(without(one, covered)) == seconds([one]) - seconds(pair)


def seconds(stretches: Any) -> set[int]:
    """All of their seconds."""
    return {each for first, last in stretches for each in range(first, last + 1)}
