"""What callers, payers, clerks, clocks and networks may do to Midas, in any order (T2)."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from midas.charge import ChargeState, ChargeTerms
from midas.errors import RefundExceedsRemaining, RefundNoReused, RefundNotAllowed
from midas.flows.charge import ChargeResult
from midas.flows.payments import Payments
from midas.flows.refund import RefundResult
from midas.flows.terms import RefundTerms, charge_digest
from midas.order import Order
from midas.ports import KeyKind
from midas.refund import Refund
from midas.sandbox.errors import ControlError
from midas.sandbox.ledger import RefundOutcome
from tests.faults.conservation import EVERYTHING
from tests.faults.machine_checks import Watch, check_settled
from tests.faults.machine_ports import WAYS, Fault, Plan
from tests.faults.machine_stage import Stage
from tests.faults.machine_world import ORDERS, World
from tests.faults.world import Failed

QR = ChargeTerms(
    order_no="",
    channel="wx_pub_qr",
    amount=100,
    currency="cny",
    subject="Tea",
    body="Green tea",
    client_ip="203.0.113.7",
    extra={"product_id": "tea-1"},
)
OFFERS = {
    "qr": QR,
    "dear": replace(QR, amount=150),
    "short": replace(QR, subject="Tea now", expires_in=timedelta(minutes=5)),
    "alipay": replace(QR, channel="alipay_qr", extra={}),
    "wap": replace(QR, channel="alipay_wap", extra={"success_url": "https://shop.invalid/ok"}),
    "bar code": replace(QR, channel="wx_pub_scan", extra={"scan_code": "134567890123456789"}),
    "balance": replace(QR, channel="balance", extra={"user": "payer-1"}),
}
REFUND_NOS = ("r1", "r2", "r3")
PLANS: tuple[RefundOutcome, ...] = ("pending", "failed", "alipay_link")
PAUSES_S = (1, 40, 70, 400, 1000, 7300, 100_000)

orders = st.sampled_from(ORDERS)
offers = st.sampled_from(sorted(OFFERS))
refund_nos = st.sampled_from(REFUND_NOS)
amounts = st.sampled_from((0, 30, 60, 100, 200))
numbers = st.integers(0, 7)


@st.composite
def _fault(draw: st.DrawFn) -> Fault:
    kind = draw(st.sampled_from(("POST", "POST", "commit", "commit", "GET", "read", "claim")))
    return Fault(kind, draw(st.sampled_from(WAYS[kind])), draw(st.integers(0, 2)))


plans = st.one_of(st.just(()), st.lists(_fault(), min_size=1, max_size=2)).map(tuple)
turns = st.lists(st.integers(0, 3), max_size=12)


class PaymentsMachine(RuleBasedStateMachine):
    """One Midas at a time on a real database; whoever deals with it does so in any order."""

    def __init__(self, stage: Stage, met: Counter[str]) -> None:
        super().__init__()
        self.stage = stage
        self.met = met
        self.asked: dict[str, RefundTerms] = {}
        self.runner = asyncio.Runner()

    @initialize(skew_s=st.sampled_from((0.0, -60.0, 60.0)))
    def begin(self, skew_s: float) -> None:
        """An empty database; Ping++'s clock need not agree with ours."""
        self.world = self.runner.run(World.open(self.stage, skew_s=skew_s))
        self.watch = Watch(self.world)

    def teardown(self) -> None:
        """All is healed, time passes, everything is asked for, and the books are compared."""
        try:
            if hasattr(self, "world"):
                self.runner.run(self._end())
        finally:
            self.runner.close()

    async def _end(self) -> None:
        try:
            await self.world.settle()
            await self.world.refresh()
            await self.world.settle()
            await self.watch.look()
            await check_settled(self.world)
            self.met.update(self.world.met.keys())
        finally:
            await self.world.close()

    # What holds at any time ---------------------------------------------------------------

    @invariant()
    def nothing_is_broken(self) -> None:
        """I1, I2, I4, I6, I7, I8, I10."""
        if hasattr(self, "world"):
            self.runner.run(self.watch.look())

    # Callers ------------------------------------------------------------------------------

    @rule(order_no=orders, offer=offers, faults=plans)
    def charge(self, order_no: str, offer: str, faults: tuple[Fault, ...]) -> None:
        """A caller wants to be paid, or asks again."""
        self._charge((order_no, offer), faults=faults)

    @rule(order_no=orders, offer=offers, faults=plans)
    def charge_and_pay(self, order_no: str, offer: str, faults: tuple[Fault, ...]) -> None:
        """The same, and whoever gets a charge pays it at once."""
        self._charge((order_no, offer), faults=faults)
        self._pay(len(self.world.handed_out) - 1)

    @rule(order_no=orders, offer=offers, other=offers, faults=plans, schedule=turns)
    def two_charges_at_once(
        self, order_no: str, offer: str, other: str, faults: tuple[Fault, ...], schedule: list[int]
    ) -> None:
        """Two callers of one order, with the same terms or others (I10)."""
        self._charge((order_no, offer), (order_no, other), faults=faults, schedule=schedule)

    @rule(order_no=orders, refund_no=refund_nos, amount=amounts, faults=plans)
    def refund(
        self, order_no: str, refund_no: str, amount: int, faults: tuple[Fault, ...]
    ) -> None:
        """A caller wants money back, or asks again, or confuses the numbers (I10)."""
        self._refund(_refund_terms(order_no, refund_no, amount), faults=faults)

    @rule(order_no=orders, nos=st.tuples(refund_nos, refund_nos), amount=amounts,
          other=amounts, faults=plans, schedule=turns)
    def two_refunds_at_once(
        self,
        order_no: str,
        nos: tuple[str, str],
        amount: int,
        other: int,
        faults: tuple[Fault, ...],
        schedule: list[int],
    ) -> None:
        """Two callers, with the same refund_no or with others."""
        one = _refund_terms(order_no, nos[0], amount)
        two = _refund_terms(order_no, nos[1], other)
        self._refund(one, two, faults=faults, schedule=schedule)

    @rule(order_no=orders, refresh=st.booleans(), faults=plans)
    def query(self, order_no: str, refresh: bool, faults: tuple[Fault, ...]) -> None:
        """A caller asks how things stand."""
        self._ask(lambda p: p.query(KeyKind.ORDER_NO, order_no, refresh), faults=faults)

    # Midas by itself ----------------------------------------------------------------------

    @rule(faults=plans, schedule=turns)
    def resolve_due(self, faults: tuple[Fault, ...], schedule: list[int]) -> None:
        """Midas looks for what it does not know."""
        self._ask(lambda p: p.resolve_due(), faults=faults, schedule=schedule)

    @rule()
    def restart(self) -> None:
        """The process is gone, with all that it had in its memory."""
        self.world.restart(all_of_them=True)

    @rule(seconds=st.sampled_from(PAUSES_S))
    def pass_time(self, seconds: int) -> None:
        """Nothing happens for a while."""
        self.world.clock.pass_time(seconds)

    @precondition(lambda self: self.world.late)
    @rule()
    def late_requests_arrive(self) -> None:
        """What was given up as lost reaches Ping++ after all."""
        self.world.late_requests_arrive()

    # Payers, clerks and channels ----------------------------------------------------------

    @precondition(lambda self: self.world.handed_out)
    @rule(which=numbers)
    def pay(self, which: int) -> None:
        """The payer pays what was handed out, in time or too late."""
        self._pay(which)

    @precondition(lambda self: self.world.lookalike.ledger.money)
    @rule(which=numbers, amount=st.sampled_from((None, 30, 60)))
    def refund_at_dashboard(self, which: int, amount: int | None) -> None:
        """A clerk gives money back without Midas (P16)."""
        charge_id = self._some_charge(which)
        self._control(lambda: self.world.lookalike.refund_at_dashboard(charge_id, amount))

    @precondition(lambda self: self.world.handed_out)
    @rule(which=numbers)
    def reverse_elsewhere(self, which: int) -> None:
        """Somebody closes a charge, or takes a bar-code payment back, without Midas."""
        path = f"/v1/charges/{self._some_charge(which)}/reverse"
        self.world.lookalike.handle("POST", path, (), b"{}")

    @rule(outcome=st.sampled_from(PLANS))
    def plan_refund(self, outcome: RefundOutcome) -> None:
        """The channel will not give money back at once."""
        self.world.lookalike.plan_refund(outcome)

    @precondition(lambda self: self._refunds_at_psp())
    @rule(which=numbers, well=st.booleans())
    def refund_ends(self, which: int, well: bool) -> None:
        """The channel carries a waiting refund out, or refuses it, or thinks better of it."""
        refunds = self._refunds_at_psp()
        refund_id = refunds[which % len(refunds)]
        lookalike = self.world.lookalike
        end = lookalike.approve_refund if well else lookalike.fail_refund
        self._control(lambda: end(refund_id))

    # What the above need ------------------------------------------------------------------

    def _ask(
        self,
        *calls: Callable[[Payments], Awaitable[Any]],
        faults: tuple[Fault, ...],
        schedule: list[int] | None = None,
    ) -> list[Any]:
        picks = itertools.chain(schedule or (), itertools.repeat(0))
        self.world.gate.pick = lambda waiting: next(picks) % len(waiting)
        return self.runner.run(self.world.ask(*calls, plan=Plan(faults)))

    def _orders(self) -> list[Order]:
        return self.runner.run(self.world.orders())

    def _charge(
        self,
        *wanted: tuple[str, str],
        faults: tuple[Fault, ...],
        schedule: list[int] | None = None,
    ) -> None:
        terms = [replace(OFFERS[offer], order_no=order_no) for order_no, offer in wanted]
        calls = [lambda p, t=each: p.charge(t) for each in terms]
        results = self._ask(*calls, faults=faults, schedule=schedule)
        for each, result in zip(terms, results, strict=True):
            if isinstance(result, ChargeResult):
                _check_handed_out(each, result)
        got = [each.charge for each in results if isinstance(each, ChargeResult)]
        if len(got) == 2 and terms[0] == terms[1]:
            assert got[0].charge_id == got[1].charge_id, "I10: the same call, two charges"

    def _pay(self, which: int) -> None:
        handed_out = self.world.handed_out
        if not handed_out:
            return
        charge_id = handed_out[which % len(handed_out)]
        lookalike = self.world.lookalike
        late = lookalike.is_expired(charge_id)
        self._control(lambda: (lookalike.pay_late if late else lookalike.pay)(charge_id))

    def _refund(
        self,
        *terms: RefundTerms,
        faults: tuple[Fault, ...],
        schedule: list[int] | None = None,
    ) -> None:
        before = self._orders()
        known = {each.refund_no: each for order in before for each in order.refunds}
        calls = [lambda p, t=each: p.refund(t) for each in terms]
        results = self._ask(*calls, faults=faults, schedule=schedule)
        for each, result in zip(terms, results, strict=True):
            if each.refund_no in known:
                self._check_repeated(each, known[each.refund_no], result)
            elif isinstance(result, RefundResult):
                assert each.amount in (0, result.refund.amount), "I10: another amount"
        for order in self._orders():
            for refund in order.refunds:
                if not refund.external and refund.refund_no not in self.asked:
                    self.asked[refund.refund_no] = _asked_for(refund, terms)

    def _check_repeated(self, terms: RefundTerms, known: Refund, result: Any) -> None:
        if terms == self.asked[terms.refund_no]:
            if isinstance(result, RefundResult):
                assert result.refund.amount == known.amount, "I10: another refund than before"
            elif isinstance(result, Failed):
                other = (RefundNoReused, RefundExceedsRemaining, RefundNotAllowed)
                assert not isinstance(result.error, other), f"I10: {result.error!r} the 2nd time"
        else:
            assert not isinstance(result, RefundResult), "I10: other content, and accepted"

    def _some_charge(self, which: int) -> str:
        charges = self.world.lookalike.newest_charges(EVERYTHING)
        return str(charges[which % len(charges)]["id"])

    def _refunds_at_psp(self) -> list[str]:
        lookalike = self.world.lookalike
        charges = lookalike.newest_charges(EVERYTHING)
        made = [each for charge in charges for each in lookalike.refunds_of(charge["id"])]
        return [each["id"] for each in made if each["status"] != "succeeded"]

    def _control(self, act: Callable[[], object]) -> None:
        """Do it, if it can happen now."""
        try:
            act()
        except ControlError:
            self.world.met["impossible control"] += 1


def _refund_terms(order_no: str, refund_no: str, amount: int) -> RefundTerms:
    return RefundTerms(refund_no, order_no=order_no, amount=amount, description="too late")


def _asked_for(refund: Refund, terms: tuple[RefundTerms, ...]) -> RefundTerms:
    """Which of the calls made this refund."""
    ours = [
        each
        for each in terms
        if each.refund_no == refund.refund_no
        and each.order_no == refund.order_no
        and each.amount in (0, refund.amount)
    ]
    assert ours, "I10: a refund that nobody asked for"
    return ours[0]


def _check_handed_out(terms: ChargeTerms, result: ChargeResult) -> None:
    """A caller gets the charge that it asked for, still open or just paid."""
    told = json.loads(result.charge_json)
    assert told["id"] == result.charge.charge_id
    assert (told["amount"], told["channel"]) == (terms.amount, terms.channel), "I10: other terms"
    assert result.charge.terms_digest == charge_digest(terms)
    assert result.charge.state in (ChargeState.PENDING, ChargeState.SUCCEEDED)
    assert not result.charge.superseded
