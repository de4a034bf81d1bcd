"""What Ping++ does not show any more: a list that lags, a wrong key, or, seldom, a lost charge.

One answer proves nothing; two, and the settle window between them, call a person, and nobody calls
the charge over. Many rows at once are one fault of configuration.
"""

import logging
from dataclasses import replace

import pytest

from midas.charge import Charge, ChargeState, ChargeTerms
from midas.errors import (
    ChargeStillOpen,
    OutcomeUnknown,
    PspRejectsMidas,
    PspUnavailable,
    RefundNotAllowed,
)
from midas.flows.run import Run
from midas.limits import RUN_FIRST_LOOKS, SETTLE_WINDOW
from midas.ports import KeyKind
from midas.refund import RefundState
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, TERMS, a_part, insist_on_charge
from tests.faults.world import Failed, World

MISSING = ("not_found", "other_account")
BLIND = (*MISSING, "rejected")
OTHER_TERMS = replace(ALIPAY, amount=200)
WAP = replace(TERMS, channel="alipay_wap", extra={"success_url": "https://shop.invalid/ok"})
"""It cannot be reversed, so that it is watched after it made way."""
SETTLED_S = SETTLE_WINDOW.total_seconds()


@pytest.fixture
def world() -> World:
    """Nothing goes wrong by itself."""
    return World(Chooser((), most_faults=0), ALIPAY)


@pytest.fixture(autouse=True)
def _alarms(caplog: pytest.LogCaptureFixture) -> None:
    """Only what calls a person."""
    caplog.set_level(logging.ERROR)


async def looked_at(world: World, answered: str = "") -> Charge:
    """The order's first charge, after a question that is answered so."""
    key = world.terms.order_no
    world.odd = {"": answered} if answered else {}
    assert not isinstance(await world.ask(lambda p: p.query(KeyKind.ORDER_NO, key, True)), Failed)
    world.odd = {}
    return (await world.order()).charges[0]


@pytest.mark.parametrize("way", MISSING)
async def test_one_answer_calls_nobody(world: World, way: str) -> None:
    """The charge goes on as if nothing had been, and a later look clears that it was missed."""
    await insist_on_charge(world, ALIPAY)
    missed = await looked_at(world, way)
    assert (missed.state, missed.operator_reason) == (ChargeState.PENDING, "")
    assert missed.absent_since is not None
    again = await insist_on_charge(world, ALIPAY)
    assert again is not None
    assert again.reused
    shown = await looked_at(world)
    assert shown.absent_since is None


@pytest.mark.parametrize("way", MISSING)
async def test_many_answers_at_once_call_nobody(
    world: World, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However often, within the settle window; and no more is written than that it is missed."""
    await insist_on_charge(world, ALIPAY)
    await looked_at(world, way)
    version = (await world.order()).version
    for _ in range(5):
        world.pass_time(SETTLED_S / 6)
        assert (await looked_at(world, way)).operator_reason == ""
    assert (await world.order()).version == version
    assert caplog.records == []


@pytest.mark.parametrize("way", MISSING)
@pytest.mark.parametrize("paid", [False, True])
async def test_what_stays_away_calls_a_person_once(
    world: World, way: str, paid: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """After the settle window, once; it has neither failed nor been closed (I5, I13)."""
    await insist_on_charge(world, ALIPAY)
    if paid:
        world.pay_everything()
        await looked_at(world)
    state = (await world.order()).charges[0].state
    await looked_at(world, way)
    world.pass_time(SETTLED_S)
    missed = await looked_at(world, way)
    assert missed.state is state
    assert missed.operator_reason
    world.pass_time(10 * 86400)
    assert (await looked_at(world, way)).state is state
    assert [each.__dict__["kind"] for each in caplog.records] == ["charge_contradicted"]


@pytest.mark.parametrize("way", MISSING)
@pytest.mark.parametrize("paid", [False, True])
async def test_what_is_shown_again_needs_nobody(world: World, way: str, paid: bool) -> None:
    """An answer that shows the charge ends the alarm, and counts as any other answer."""
    await insist_on_charge(world, ALIPAY)
    await looked_at(world, way)
    world.pass_time(SETTLED_S)
    assert (await looked_at(world, way)).operator_reason
    if paid:
        world.pay_everything()
    shown = await looked_at(world)
    assert (shown.operator_reason, shown.absent_since) == ("", None)
    assert shown.state is (ChargeState.SUCCEEDED if paid else ChargeState.PENDING)
    again = await world.ask(lambda payments: payments.charge(ALIPAY))
    assert isinstance(again, Failed) is paid


@pytest.mark.parametrize("way", MISSING)
async def test_two_absences_far_apart_are_two(world: World, way: str) -> None:
    """Shown in between, it is missed anew."""
    await insist_on_charge(world, ALIPAY)
    await looked_at(world, way)
    await looked_at(world)
    world.pass_time(SETTLED_S)
    assert (await looked_at(world, way)).operator_reason == ""


async def test_another_amount_in_another_app_is_quarantined(world: World) -> None:
    """What differs in more than the account is a payment that nobody asked for (P11)."""
    await insist_on_charge(world, ALIPAY)
    world.alter = {"app": "app_2", "amount": 1}
    key = world.terms.order_no
    await world.ask(lambda p: p.query(KeyKind.ORDER_NO, key, True))
    assert (await world.order()).charges[0].operator_reason


@pytest.mark.parametrize("way", MISSING)
async def test_it_does_not_make_way_while_it_is_missing(world: World, way: str) -> None:
    """Other terms wait: the payer may be paying it. Then a person decides (I1)."""
    await insist_on_charge(world, ALIPAY)
    world.odd = {"": way}
    asked = await world.ask(lambda payments: payments.charge(OTHER_TERMS))
    assert isinstance(asked, Failed)
    assert isinstance(asked.error, ChargeStillOpen)
    world.pass_time(SETTLED_S)
    asked = await world.ask(lambda payments: payments.charge(OTHER_TERMS))
    assert isinstance(asked, Failed)
    assert isinstance(asked.error, OutcomeUnknown)
    assert asked.error.needs_operator
    world.odd = {}
    await looked_at(world)
    assert await insist_on_charge(world, OTHER_TERMS) is not None


@pytest.mark.parametrize("way", MISSING)
async def test_a_refund_of_what_is_missing(world: World, way: str) -> None:
    """It may be asked for again while that can still be a list that lags, and is refused then."""
    await insist_on_charge(world, ALIPAY)
    world.pay_everything()
    await looked_at(world)
    world.odd = {"": way}
    asked = await world.ask(lambda payments: payments.refund(a_part(world)))
    assert isinstance(asked, Failed)
    assert isinstance(asked.error, PspUnavailable)
    world.pass_time(SETTLED_S)
    asked = await world.ask(lambda payments: payments.refund(a_part(world)))
    assert isinstance(asked, Failed)
    assert isinstance(asked.error, RefundNotAllowed)
    assert asked.error.reason == "CHARGE_NOT_FOUND_AT_PSP"
    world.odd = {}
    assert not isinstance(await world.ask(lambda p: p.refund(a_part(world))), Failed)


@pytest.mark.parametrize("way", MISSING)
async def test_a_refund_that_is_missing(world: World, way: str) -> None:
    """The same rule: two looks, the settle window, a person, until it is shown again."""
    await insist_on_charge(world, ALIPAY)
    world.pay_everything()
    world.lookalike.plan_refund("pending")
    await world.ask(lambda payments: payments.refund(a_part(world)))
    world.alter = {"refunds": {"object": "list", "url": "/", "has_more": False, "data": []}}

    async def needs_a_person(odd: dict[str, str]) -> bool:
        world.odd = odd
        key = world.terms.order_no
        result = await world.ask(lambda p: p.query(KeyKind.ORDER_NO, key, True))
        assert not isinstance(result, Failed)
        refund = (await world.order()).refund("r1")
        assert refund.state is RefundState.PENDING
        return bool(refund.operator_reason)

    assert not await needs_a_person({"re_": way})
    world.pass_time(SETTLED_S / 2)
    assert not await needs_a_person({"re_": way})
    world.pass_time(SETTLED_S / 2)
    assert await needs_a_person({"re_": way})
    assert not await needs_a_person({})
    assert (await world.order()).refund("r1").absent_since is None


async def superseded(world: World, count: int) -> None:
    """So many orders, each with a charge that made way for another one and is watched."""
    for number in range(count):
        first = replace(WAP, order_no=f"order-{number}")
        await world.payments.charge(first)
        await world.payments.charge(replace(first, amount=200))
    world.pass_time(31)


async def watched(world: World, number: int = 0) -> Charge:
    """The charge that made way."""
    return (await world.disk.load(f"order-{number}")).charges[0]


def kinds(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Why persons were called."""
    return [each.__dict__["kind"] for each in caplog.records]


@pytest.mark.parametrize("way", MISSING)
async def test_a_charge_that_made_way_is_missing(
    world: World, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Midas misses it by itself, calls a person, and does not go on looking at it for ever."""
    await superseded(world, 1)
    world.odd = {"": way}
    for _ in range(30):
        world.pass_time(61)
        await world.payments.resolve_due()
    missed = await watched(world)
    assert (missed.state, missed.due_at) == (ChargeState.PENDING, None)
    assert missed.operator_reason
    assert kinds(caplog) == ["charge_contradicted"]
    world.odd = {}
    await world.ask(lambda p: p.query(KeyKind.ORDER_NO, "order-0", True))
    shown = await watched(world)
    assert shown.operator_reason == ""
    assert shown.due_at is not None, "watched again"


async def test_pauses_grow_though_a_look_is_planned_for_the_end_of_its_claim(world: World) -> None:
    """A charge that made way and is never paid is looked at ever more rarely (I14)."""
    await superseded(world, 1)
    looks = 0
    for _ in range(100):
        looks += await world.payments.resolve_due()
        world.pass_time(61)
    assert looks < 12


@pytest.mark.parametrize("way", BLIND)
async def test_many_rows_at_once_are_one_fault(
    world: World, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong key touches no row and calls one person, however many rows and runs there are."""
    await superseded(world, RUN_FIRST_LOOKS + 5)
    before = {key: order.version for key, order in world.disk.disk.orders.items()}
    calls = len(world.chooser.trace)
    world.odd = {"": way}
    for _ in range(5):
        await world.payments.resolve_due()
        world.pass_time(SETTLED_S)
    assert {key: order.version for key, order in world.disk.disk.orders.items()} == before
    assert kinds(caplog) == ["psp_knows_none_of_our_charges"]
    gets = [where for where, _ in world.chooser.trace[calls:] if where.startswith("GET")]
    assert len(gets) <= 5 * (RUN_FIRST_LOOKS + 8), "it went on asking in vain"
    world.odd = {}
    world.lookalike.pay(str((await watched(world)).charge_id))
    await world.payments.resolve_due()
    assert (await watched(world)).state is ChargeState.SUCCEEDED
    world.odd = {"": way}
    world.pass_time(3600)
    await world.payments.resolve_due()
    assert len(kinds(caplog)) == 2, "a new fault, a new alarm"


async def test_one_that_is_missing_among_many(world: World) -> None:
    """Where others are found, one that is not is missed, the first one too."""
    await superseded(world, RUN_FIRST_LOOKS + 5)
    gone = await watched(world)
    world.odd = {str(gone.charge_id): "not_found"}
    await world.payments.resolve_due()
    assert (await watched(world)).absent_since is not None


@pytest.mark.parametrize("found_at", [None, 0, 7, RUN_FIRST_LOOKS - 1, RUN_FIRST_LOOKS])
def test_when_a_run_is_blind(found_at: int | None) -> None:
    """Exactly when its first looks were all in vain; what it misses until then is put off."""
    run = Run()
    written = []
    for number in range(RUN_FIRST_LOOKS + 1):
        found = number == found_at
        if run.may_write_after(str(number), answered=found, blind=not found):
            written.append(number)
        if run.is_blind:
            break
    assert run.is_blind is (found_at is None or found_at >= RUN_FIRST_LOOKS)
    assert written == ([] if run.is_blind else list(range(found_at or 0, RUN_FIRST_LOOKS + 1)))
    assert run.put_off == [
        str(n) for n in range(RUN_FIRST_LOOKS if run.is_blind else found_at or 0)
    ]


def test_what_was_not_answered_proves_nothing() -> None:
    """A timeout is neither found nor missed, and is written down as always."""
    run = Run()
    for number in range(2 * RUN_FIRST_LOOKS):
        assert run.may_write_after(str(number), answered=False, blind=False)
    assert not run.is_blind


def test_a_row_by_itself_is_never_put_off() -> None:
    """A question about one row has no others to compare it with."""
    run = Run(many=False)
    for number in range(2 * RUN_FIRST_LOOKS):
        assert run.may_write_after(str(number), answered=False, blind=True)
    assert not run.is_blind


@pytest.mark.parametrize("terms", [TERMS, ALIPAY], ids=["wx", "alipay"])
async def test_another_accounts_list_proves_no_absence(terms: ChargeTerms) -> None:
    """A charge that was made is not called over because a wrong key lists others (I5)."""
    chooser = Chooser((0, 3), most_faults=1)  # the answer to the POST is lost
    world = World(chooser, terms)
    await world.ask(lambda payments: payments.charge(terms))
    assert chooser.faults == [("POST charges", "lost_response")]
    world.pass_time(3 * 3600)
    world.odd = {"": "other_account"}
    for _ in range(20):
        world.pass_time(301)
        await world.payments.resolve_due()
    assert (await world.order()).charges[0].state is ChargeState.SUBMITTING
    world.odd = {}
    world.pass_time(301)
    await world.payments.resolve_due()
    assert (await world.order()).charges[0].state is not ChargeState.FAILED


async def test_a_key_that_is_refused_is_an_error(world: World) -> None:
    """401 is no absence: the caller learns that an operator has to act, and nothing is written."""
    await insist_on_charge(world, ALIPAY)
    version = (await world.order()).version
    world.odd = {"": "rejected"}
    key = world.terms.order_no
    asked = await world.ask(lambda p: p.query(KeyKind.ORDER_NO, key, True))
    assert isinstance(asked, Failed)
    assert isinstance(asked.error, PspRejectsMidas)
    assert (await world.order()).version == version
