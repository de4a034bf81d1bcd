"""What the flows of refunds decide, each decision by itself: on a draft, or on one answer."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from midas import limits, schedule
from midas.charge import Charge, ChargeState, ObservedBy
from midas.draft import Draft
from midas.errors import (
    InvalidRequest,
    MidasError,
    OutcomeUnknown,
    Overloaded,
    RefundNoReused,
    RefundNotAllowed,
    StorageUnavailable,
)
from midas.flows import create_refund as refund_flow
from midas.flows import resolve_refund
from midas.flows.commit import Ports
from midas.flows.payment_calls import Payments, SystemClock
from midas.flows.terms import RefundTerms, refund_digest
from midas.payment import Change, Order
from midas.ports import KeyKind
from midas.refund import FundingSource, Refund, RefundFacts, RefundReport, RefundState
from midas.sandbox.ledger import Lookalike
from tests.fakes.psp import DirectWire, client_over
from tests.fakes.store import MemoryStore
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, TERMS, a_part, insist_on_charge
from tests.faults.world import TOTAL_TIMEOUT, FaultyStore, World
from tests.records import NOON, a_charge, a_refund

KEY, NUMBER = "o1", "N1"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ports() -> Ports:
    """A store at NOON."""
    psp = client_over(DirectWire(Lookalike("app_1")), "app_1", TOTAL_TIMEOUT)
    return Payments(MemoryStore(clock=NOON), psp, SystemClock()).ports


@pytest.fixture
async def paid() -> World:
    """An order that is paid; nothing goes wrong by itself."""
    world = World(Chooser((), most_faults=0), TERMS)
    await insist_on_charge(world, TERMS)
    world.pay_everything()
    return world


def one(**fields: Any) -> Charge:
    """A charge that is paid."""
    known = {"out_trade_no": NUMBER, "charge_id": "ch_1", "state": ChargeState.SUCCEEDED}
    return a_charge(KEY, **known | fields)


def with_refund(**fields: Any) -> tuple[Order, Refund]:
    """An order with one refund of its charge."""
    refund = a_refund(one(), refund_no="R1", **fields)
    return Order(KEY, charges=(one(),), refunds=(refund,)), refund


# What is asked for ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "terms",
    [RefundTerms("", order_no=KEY, amount=1, description="x"), RefundTerms("R1", KEY, "ch_1", 1)],
)
def test_what_could_never_be_accepted_is_refused_at_once(terms: RefundTerms) -> None:
    """By the name of its field."""
    with pytest.raises(InvalidRequest):
        refund_flow.check(terms)


async def test_what_the_channel_would_not_accept_is_not_written_down() -> None:
    """Only WeChat and QQ let a refund name the balance that pays it."""
    world = World(Chooser((), most_faults=0), ALIPAY)
    await insist_on_charge(world, ALIPAY)
    world.pay_everything()
    strange = replace(a_part(world), funding_source=FundingSource.RECHARGE_FUNDS)
    with pytest.raises(InvalidRequest):
        await world.payments.refund(strange)
    assert (await world.order()).refunds == ()


ASKED = RefundTerms("R1", order_no=KEY, amount=10, description="back")


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({}, True),
        ({"charge_id": "ch_1"}, True),
        ({"order_no": "", "charge_id": "ch_1"}, True),
        ({"order_no": "o2"}, False),
        ({"order_no": "", "charge_id": "ch_2"}, False),
        ({"charge_id": "ch_2"}, False),
        ({"amount": 11}, False),
        ({"description": "later"}, False),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, dict) else str(each),
)
def test_a_refund_no_means_one_refund(fields: dict[str, Any], same: bool) -> None:
    """Of one charge of one order, however that is named, and with one content."""
    order, _ = with_refund(content_digest=refund_digest(ASKED, NUMBER))
    terms = replace(ASKED, **fields)
    if same:
        refund_flow._check_content(order, terms)
    else:
        with pytest.raises(RefundNoReused):
            refund_flow._check_content(order, terms)


@pytest.mark.parametrize(
    ("charges", "target"),
    [
        ([one(state=ChargeState.FAILED)], None),
        ([one(state=ChargeState.SUBMITTING, charge_id=None)], None),
        ([one(state=ChargeState.CLOSED), one(out_trade_no="N2", charge_id="ch_2")], "N2"),
        ([one(), one(out_trade_no="N2", charge_id="ch_2", state=ChargeState.CLOSED)], "N1"),
        ([one(state=ChargeState.PENDING)], "N1"),
    ],
    ids=["failed", "unknown", "paid after all", "paid before", "perhaps paid"],
)
def test_which_charge_an_order_is_refunded_of(charges: list[Charge], target: str | None) -> None:
    """The one that holds its money; one that waits may be paid, and Ping++ is asked about it."""
    order = Order(KEY, charges=tuple(charges))
    if target is None:
        with pytest.raises(RefundNotAllowed) as refused:
            refund_flow._target(order, ASKED)
        assert refused.value.reason == "ORDER_NOT_PAID"
    else:
        assert refund_flow._target(order, ASKED).out_trade_no == target


# What cannot be written -------------------------------------------------------------------


@pytest.mark.parametrize("may_have_written", [False, True])
async def test_only_for_a_commit_in_doubt_is_it_recorded_that_nothing_was_sent(
    paid: World, may_have_written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What certainly is not on disk needs no word."""

    async def away(_: FaultyStore, change: Change) -> bool:
        raise StorageUnavailable(may_have_written=may_have_written)

    await paid.payments.query(KeyKind.ORDER_NO, TERMS.order_no, refresh=True)
    monkeypatch.setattr(FaultyStore, "commit", away)
    with pytest.raises(StorageUnavailable):
        await paid.payments.refund(a_part(paid))
    assert len(paid.in_doubt) == may_have_written


@pytest.mark.parametrize("failure", [StorageUnavailable, Overloaded])
async def test_what_was_sent_before_stays_unknown_while_nothing_can_be_written(
    paid: World, failure: type[MidasError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refund is asked for again, and is found at Ping++: UNAVAILABLE would be a lie."""
    commit = FaultyStore.commit

    async def away(self: FaultyStore, change: Change) -> bool:
        if paid.posts > posts:
            raise failure
        return await commit(self, change)

    posts = paid.posts
    monkeypatch.setattr(FaultyStore, "commit", away)
    with pytest.raises(OutcomeUnknown):
        await paid.payments.refund(a_part(paid))
    paid.pass_time(3600)
    with pytest.raises(OutcomeUnknown):
        await paid.payments.refund(a_part(paid))
    monkeypatch.undo()
    assert (await paid.payments.refund(a_part(paid))).refund.state is RefundState.SUCCEEDED


# What was sent, and by whom ---------------------------------------------------------------


@pytest.mark.parametrize(("earlier_s", "waits"), [(1, True), (0, False)])
async def test_how_long_a_queued_refund_waits_on_another_server(
    ports: Ports, earlier_s: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a post whose commit was lost may be on its way, and the list may lag behind it."""
    posting = schedule.while_in_flight(NOON, TOTAL_TIMEOUT) - NOON

    async def since_possible_loss() -> timedelta:
        return posting + limits.SETTLE_WINDOW - timedelta(seconds=earlier_s)

    monkeypatch.setattr(ports.store, "since_possible_loss", since_possible_loss)
    assert await resolve_refund._may_be_on_its_way(ports) is waits


@pytest.mark.parametrize(
    ("fields", "is_another"),
    [
        ({}, False),
        ({"updated_at": NOON + MINUTE}, True),
        ({"created_at": NOON - MINUTE}, True),
        ({"updated_at": NOON + MINUTE, "unsent": True}, False),
        ({"updated_at": NOON + MINUTE, "state": RefundState.PENDING}, False),
    ],
    ids=["the same", "sent again", "written again", "queued", "answered"],
)
def test_which_post_an_answer_is_of(fields: dict[str, Any], is_another: bool) -> None:
    """The row tells when it was made and sent last; what is not being sent has no other post."""
    _, sent = with_refund(state=RefundState.SUBMITTING)
    assert resolve_refund._is_sent_by_another(replace(sent, **fields), sent) is is_another


def test_a_refund_that_ping_works_on_is_looked_at_soon(ports: Ports) -> None:
    """What our own post was answered plans the next look, as any other answer does."""
    order, refund = with_refund(state=RefundState.SUBMITTING, refund_id=None, due_at=NOON + MINUTE)
    facts = RefundFacts(
        refund_id="re_1",
        charge_id="ch_1",
        amount=refund.amount,
        report=RefundReport.WORKING,
        created_at=NOON,
    )
    draft = Draft(order)
    resolve_refund._answered(ports, refund, facts, ObservedBy.CREATE)(draft)
    after = draft.refund("R1")
    assert (after.state, after.refund_id) == (RefundState.PENDING, "re_1")
    assert after.due_at == schedule.next_poll(NOON, 0)
