"""What Ping++ promises its callers: the real adapter over real sockets, and over the engine alone.

The look-alike checks our signatures and signs its answers, which the adapter verifies.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from midas.charge import Charge, ChargeFacts, ChargeReport, report_of
from midas.ports import Done, NotDone, Psp, Refusal, Unknown, Verdict
from midas.psp.client import PingppClient
from midas.psp.options import PspOptions
from midas.refund import FundingSource, Refund, RefundFacts, RefundReport
from midas.sandbox.app import SandboxOptions, SandboxServer
from midas.sandbox.clock import SandboxClock
from midas.sandbox.ledger import Lookalike
from tests.fakes.psp import DirectWire, client_over
from tests.psp import made

Answered = TypeVar("Answered")


@dataclass(frozen=True)
class World:
    """A Psp under test, and the hands of payers, channels and people behind it."""

    psp: Psp
    payers: Lookalike
    clock: SandboxClock

    def charge(self, number: int = 1, **changed: object) -> Charge:
        """A charge of this account that was not asked for before."""
        fields = {
            "out_trade_no": f"ORDER{number:015d}",
            "app_id": self.psp.app_id,
            "livemode": self.psp.livemode,
        }
        return made.charge(**(fields | changed))

    async def created(self, number: int = 1, **changed: object) -> ChargeFacts:
        """A charge that exists."""
        return done(await self.psp.create_charge(self.charge(number, **changed)))

    async def paid(self, number: int = 1, **changed: object) -> ChargeFacts:
        """A charge that was paid."""
        charge = await self.created(number, **changed)
        self.payers.pay(charge.charge_id)
        return done(await self.psp.retrieve_charge(charge.charge_id))

    async def refunded(self, charge: ChargeFacts, amount: int, refund_no: str) -> RefundFacts:
        """A refund that was taken in."""
        return done(await self.psp.create_refund(self.refund(charge, amount, refund_no)))

    def refund(self, charge: ChargeFacts, amount: int, refund_no: str = "refund-1") -> Refund:
        """A refund of this charge that was not asked for before."""
        return made.refund(refund_no=refund_no, charge_id=charge.charge_id, amount=amount)

    def window(self) -> tuple[datetime, datetime]:
        """The last and the next hour of Ping++'s clock."""
        now = datetime.fromtimestamp(self.clock.now(), UTC)
        return now - timedelta(hours=1), now + timedelta(hours=1)


@pytest.fixture(params=["sockets", "engine"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Over sockets with signatures in both directions, and over the engine alone."""
    if request.param == "engine":
        clock = SandboxClock()
        engine = Lookalike("app_Engine0000000000", now=clock.now, rng_seed=1)
        yield World(client_over(DirectWire(engine), engine.app_id, TIMEOUT), engine, clock)
        engine.close()
        return
    async with serving() as server, PingppClient(options_for(server)) as psp:
        yield World(psp, server.lookalike, server.clock)


TIMEOUT = timedelta(seconds=5)


@asynccontextmanager
async def serving() -> AsyncIterator[SandboxServer]:
    """A look-alike that checks our signatures and signs its answers."""
    server = SandboxServer(
        SandboxOptions(
            merchant_public_key=made.public_pem(),
            signing_private_key=made.private_pem("pingpp"),
            strict=True,
        )
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def options_for(server: SandboxServer) -> PspOptions:
    """The account that this server expects."""
    return PspOptions(
        api_key=server.options.key(),
        app_id=server.options.app_id,
        private_key=made.private_pem(),
        public_keys=(made.public_pem("pingpp"),),
        api_base=server.url,
        total_timeout=TIMEOUT,
    )


def done(verdict: Verdict[Answered]) -> Answered:
    """The answer of a call that was carried out."""
    assert isinstance(verdict, Done), verdict
    return verdict.answer


async def test_a_charge_is_made_as_asked(world: World) -> None:
    """Every term comes back, with a credential and Ping++'s own text for the client SDK."""
    asked = world.charge(metadata={"seat": "7F"})
    facts = done(await world.psp.create_charge(asked))
    assert (facts.out_trade_no, facts.amount) == (asked.out_trade_no, asked.amount)
    assert (facts.app_id, facts.livemode) == (world.psp.app_id, world.psp.livemode)
    assert (facts.channel, facts.currency) == (asked.channel, asked.currency)
    assert (facts.paid, facts.reversed, facts.has_credential) == (False, False, True)
    assert facts.charge_id in facts.raw
    assert "7F" in facts.raw
    assert (
        report_of(facts, facts.created_at, facts.created_at, timedelta(0)) is ChargeReport.WAITING
    )


async def test_an_expiry_is_kept(world: World) -> None:
    """The charge expires when it was asked to; without asking, at the channel's default."""
    wanted = datetime.fromtimestamp(int(world.clock.now()) + 900, UTC)
    assert (await world.created(1, asked_expires_at=wanted)).expires_at == wanted
    default = await world.created(2)
    assert default.expires_at == default.created_at + timedelta(hours=2)


async def test_identical_terms_are_the_same_charge_within_the_window(world: World) -> None:
    """Within `repost_window` a repetition gives the first charge back; afterwards it does not."""
    first = await world.created(channel="alipay")
    world.clock.advance(30)
    assert (await world.created(channel="alipay")).charge_id == first.charge_id
    world.clock.advance(world.psp.repost_window("alipay").total_seconds())
    later = await world.psp.create_charge(world.charge(channel="alipay"))
    assert not isinstance(later, Done) or later.answer.charge_id != first.charge_id


async def test_wechat_refuses_a_number_that_it_knows(world: World) -> None:
    """After its window WeChat takes no second charge of one number; a charge may exist."""
    await world.created()
    world.clock.advance(world.psp.repost_window("wx").total_seconds() + 60)
    verdict = await world.psp.create_charge(world.charge())
    assert not isinstance(verdict, Done)


async def test_a_refused_charge_is_proven_not_made(world: World) -> None:
    """A refusal names its field, and nothing appears in the list."""
    verdict = await world.psp.create_charge(world.charge(channel="no_such_channel"))
    assert isinstance(verdict, NotDone)
    assert verdict.refusal is Refusal.REFUSED
    assert done(await world.psp.list_charges(*world.window())).charges == ()


async def test_a_payment_is_reported(world: World) -> None:
    """Retrieve reports that it was paid, when, and the channel's number."""
    facts = await world.paid()
    assert facts.paid
    assert facts.paid_at is not None
    assert facts.transaction_no


async def test_a_bar_code_is_paid_at_once(world: World) -> None:
    """On channels that pay at create, the create call itself takes the money."""
    assert world.psp.pays_at_create("wx_pub_scan")
    code = {"scan_code": "134512345678901234"}
    assert (await world.created(channel="wx_pub_scan", extra=code)).paid


async def test_what_is_not_there_is_not_found(world: World) -> None:
    """Charges and refunds alike, and the refunds of no charge."""
    charge = await world.paid()
    for verdict in (
        await world.psp.retrieve_charge("ch_101200415434992752640001"),
        await world.psp.reverse_charge("ch_101200415434992752640001"),
        await world.psp.retrieve_refund(charge.charge_id, "re_101200415434992752640001"),
        await world.psp.list_refunds("ch_101200415434992752640001"),
        await world.psp.create_refund(made.refund()),
    ):
        assert isinstance(verdict, NotDone)
        assert verdict.refusal is Refusal.NOT_FOUND


async def test_a_charge_that_is_closed_stays_closed(world: World) -> None:
    """An unpaid one can be reversed where the channel allows it."""
    charge = await world.created()
    assert world.psp.can_reverse("wx")
    assert done(await world.psp.reverse_charge(charge.charge_id)).reversed
    facts = done(await world.psp.retrieve_charge(charge.charge_id))
    assert (
        report_of(facts, facts.created_at, facts.created_at, timedelta(0)) is ChargeReport.REVERSED
    )


async def test_a_paid_charge_is_not_closed(world: World) -> None:
    """The refusal is proven, and the money stays where it is."""
    charge = await world.paid()
    verdict = await world.psp.reverse_charge(charge.charge_id)
    assert not isinstance(verdict, Done)
    facts = done(await world.psp.retrieve_charge(charge.charge_id))
    assert facts.paid
    assert not facts.reversed


async def test_lists_are_whole_and_newest_first(world: World) -> None:
    """Page by page, with the id of the last one, every charge comes once."""
    made_here = [(await world.created(number)).charge_id for number in range(105)]
    first = done(await world.psp.list_charges(*world.window()))
    assert (len(first.charges), first.more) == (100, True)
    last = first.charges[-1].charge_id
    second = done(await world.psp.list_charges(*world.window(), after=last))
    assert (len(second.charges), second.more) == (5, False)
    listed = [each.charge_id for each in (*first.charges, *second.charges)]
    assert sorted(listed) == sorted(made_here)
    created = [each.created_at for each in (*first.charges, *second.charges)]
    assert created == sorted(created, reverse=True)
    assert all(each.raw.startswith("{") and each.charge_id in each.raw for each in first.charges)


async def test_lists_can_be_narrowed(world: World) -> None:
    """By channel, and by when the charge was made, both ends in."""
    one = await world.created(1)
    await world.created(2, channel="alipay")
    world.clock.advance(600)
    late = await world.created(3)
    in_window = done(await world.psp.list_charges(one.created_at, one.created_at, channel="wx"))
    assert [each.charge_id for each in in_window.charges] == [one.charge_id]
    after = done(await world.psp.list_charges(late.created_at, late.created_at))
    assert [each.charge_id for each in after.charges] == [late.charge_id]


async def test_a_refund_carries_our_number(world: World) -> None:
    """In its create answer, when it is retrieved, in its list and beside its charge."""
    charge = await world.paid()
    refund = await world.refunded(charge, 40, "refund-1")
    assert (refund.refund_no, refund.amount) == ("refund-1", 40)
    assert (refund.report, refund.charge_id) == (RefundReport.DONE, charge.charge_id)
    again = done(await world.psp.retrieve_refund(charge.charge_id, refund.refund_id))
    listed = done(await world.psp.list_refunds(charge.charge_id))
    beside = done(await world.psp.retrieve_charge(charge.charge_id))
    assert again == refund
    assert (listed.refunds, listed.more) == ((refund,), False)
    assert (beside.refunds, beside.refunds_complete) == ((refund,), True)


async def test_the_same_refund_twice_is_two_refunds(world: World) -> None:
    """Ping++ does not de-duplicate refunds: a repeated one is paid twice."""
    charge = await world.paid()
    first = await world.refunded(charge, 40, "refund-1")
    second = await world.refunded(charge, 40, "refund-1")
    assert first.refund_id != second.refund_id
    listed = done(await world.psp.list_refunds(charge.charge_id)).refunds
    assert [each.refund_id for each in listed] == [second.refund_id, first.refund_id]


async def test_more_than_was_paid_is_refused(world: World) -> None:
    """The refusal is proven: nothing more is listed."""
    charge = await world.paid()
    await world.refunded(charge, 60, "refund-1")
    verdict = await world.psp.create_refund(world.refund(charge, 41, "refund-2"))
    assert isinstance(verdict, NotDone)
    assert verdict.refusal is Refusal.REFUSED
    assert len(done(await world.psp.list_refunds(charge.charge_id)).refunds) == 1


async def test_an_unpaid_charge_is_not_refunded(world: World) -> None:
    """There is nothing to give back."""
    charge = await world.created()
    verdict = await world.psp.create_refund(world.refund(charge, 1))
    assert isinstance(verdict, NotDone)


async def test_a_refund_that_fails_is_answered_with_200(world: World) -> None:
    """Done carries the refund, whose report is failed, with the reason (P8)."""
    charge = await world.paid()
    world.payers.plan_refund("failed")
    refund = await world.refunded(charge, 40, "refund-1")
    assert refund.report is RefundReport.FAILED
    assert refund.failure_code
    source = FundingSource.RECHARGE_FUNDS
    again = replace(world.refund(charge, 40, "refund-2"), funding_source=source)
    assert done(await world.psp.create_refund(again)).report is RefundReport.DONE


async def test_the_end_of_a_pending_refund_is_reported(world: World) -> None:
    """Pending until the channel is done with it."""
    charge = await world.paid()
    world.payers.plan_refund("pending")
    refund = await world.refunded(charge, 40, "refund-1")
    assert refund.report is RefundReport.WORKING
    world.payers.approve_refund(refund.refund_id)
    ended = done(await world.psp.retrieve_refund(charge.charge_id, refund.refund_id))
    assert ended.report is RefundReport.DONE
    assert ended.succeeded_at is not None


async def test_an_alipay_refund_has_its_link(world: World) -> None:
    """A person has to open it."""
    charge = await world.paid(channel="alipay_qr")
    world.payers.plan_refund("alipay_link")
    refund = await world.refunded(charge, 40, "refund-1")
    assert refund.report is RefundReport.WORKING
    assert refund.action_url.startswith("http")


async def test_a_refund_of_the_dashboard_is_nobodys(world: World) -> None:
    """It is listed without a number of ours."""
    charge = await world.paid()
    world.payers.refund_at_dashboard(charge.charge_id, 30)
    (refund,) = done(await world.psp.list_refunds(charge.charge_id)).refunds
    assert (refund.refund_no, refund.amount) == ("", 30)


@pytest.mark.parametrize("kind", ["lose_request", "lose_response", "truncate", "garbage"])
async def test_a_charge_whose_answer_is_lost_is_found_again(kind: str) -> None:
    """Unknown; then the same terms give exactly one charge, whether or not it was made."""
    async with serving() as server, PingppClient(options_for(server)) as psp:
        world = World(psp, server.lookalike, server.clock)
        server.faults.add({"match": {"method": "POST"}, "action": {"kind": kind}})
        assert isinstance(await psp.create_charge(world.charge()), Unknown)
        assert len(server.requests.matching("POST")) == 1
        found = await world.created()
        listed = done(await psp.list_charges(*world.window()))
        assert [each.charge_id for each in listed.charges] == [found.charge_id]


async def test_answers_give_the_clock_of_ping(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Refusals too. A step of it is an alarm, and it is unknown until enough of them agree."""
    for hours in (0, 2):
        world.clock.advance(hours * 3600)
        for _ in range(5):
            assert world.psp.now() is None or hours
            await world.psp.retrieve_charge(made.CHARGE_ID)
        now = world.psp.now()
        assert now is not None
        assert abs(now.timestamp() - world.clock.now()) < 60
    assert [each.message for each in caplog.records] == ["psp_clock_jumped"]


@pytest.mark.parametrize("kind", ["garbage", "wrong_signature", "status"])
async def test_an_answer_that_is_not_believed_gives_no_time(kind: str) -> None:
    """It need not be Ping++'s."""
    action: dict[str, Any] = {"kind": kind}
    if kind == "status":
        action["code"] = 502
    async with serving() as server, PingppClient(options_for(server)) as psp:
        server.faults.add({"match": {}, "action": action, "count": None})
        for _ in range(5):
            assert isinstance(await psp.retrieve_charge(made.CHARGE_ID), Unknown)
        assert psp.now() is None


@pytest.mark.parametrize("wrong", ["api_key", "private_key", "public_keys"])
async def test_a_wrong_key_is_noticed(wrong: str) -> None:
    """Ours is refused; one of Ping++'s that does not fit leaves everything unknown."""
    changes: dict[str, Any] = {
        "api_key": "sk_test_other",
        "private_key": made.private_pem("other"),
        "public_keys": (made.public_pem("other"),),
    }
    async with serving() as server:
        options = replace(options_for(server), **{wrong: changes[wrong]})
        async with PingppClient(options) as psp:
            verdict = await psp.retrieve_charge(made.CHARGE_ID)
    if wrong == "public_keys":
        assert verdict == Unknown("bad_answer_signature")
    else:
        assert isinstance(verdict, NotDone)
        expected = Refusal.MIDAS_REJECTED if wrong == "api_key" else Refusal.REFUSED
        assert verdict.refusal is expected
