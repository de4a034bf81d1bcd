"""What callers, payers, clerks, clocks and networks may do to Midas, in any order (T2)."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

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
from midas.flows.create_charge import ChargeResult
from midas.flows.create_refund import RefundResult
from midas.flows.payment_calls import Payments
from midas.flows.terms import RefundTerms, charge_digest, refund_digest
from midas.payment import Order
from midas.ports import KeyKind
from midas.refund import Refund
from midas.sandbox.errors import ControlError
from midas.sandbox.ledger import RefundOutcome
from tests.faults.conservation import EVERYTHING
from tests.faults.machine_checks import Watch, check_settled
from tests.faults.machine_choices import (
    PAUSES_S,
    PLANS,
    amounts,
    charge_terms,
    numbers,
    offers,
    orders,
    plans,
    refund_nos,
    refund_terms,
    turns,
)
from tests.faults.machine_event_checks import check_announced_by_webhook, check_events
from tests.faults.machine_ports import Fault, Plan
from tests.faults.machine_replica import Work
from tests.faults.machine_stage import Stage
from tests.faults.machine_world import ORDERS, World, at_the_door
from tests.faults.world import Failed

Result = TypeVar("Result")
LAST_CALLS = 30


class PaymentsMachine(RuleBasedStateMachine):
    """One Midas at a time on a real database; all that deal with it do so in any order."""

    def __init__(
        self, stage: Stage, prelude: Iterable[Callable[[Any], None]], reached: Counter[str]
    ) -> None:
        super().__init__()
        self.stage = stage
        self.prelude = prelude
        self.reached = reached
        self.asked: dict[str, RefundTerms] = {}
        self.runner = asyncio.Runner()

    @initialize(skew_s=st.sampled_from((0.0, -60.0, 60.0)), offer=offers, faults=plans)
    def begin(self, skew_s: float, offer: str, faults: tuple[Fault, ...]) -> None:
        """An empty database, and some history; Ping++'s clock need not agree with ours."""
        self.world = self._run(World.open(self.stage, skew_s=skew_s))
        self.watch = Watch(self.world)
        for step in self.prelude:
            step(self)
        self.ask_charge((ORDERS[0], offer), faults=faults)

    def teardown(self) -> None:
        """All is healed, time passes, everything is asked for, and the books are compared."""
        try:
            if hasattr(self, "world"):
                self._run(self._end())
        finally:
            self.runner.close()

    async def _end(self) -> None:
        try:
            self.world.late_requests_arrive()
            await self.watch.look()
            await self.world.settle()
            await self.watch.look()
            await check_announced_by_webhook(self.world)
            await self.world.refresh()
            await self.world.settle()
            await self.watch.look()
            await check_settled(self.world)
            await check_events(self.world)
            self.reached.update(key for key, times in self.world.reached.items() if times)
        finally:
            await self.world.close()

    # What holds at any time ---------------------------------------------------------------

    @invariant()
    def nothing_is_broken(self) -> None:
        """I1, I2, I4, I6, I7, I8, I10; I9 and I11 are looked at where they could break."""
        if hasattr(self, "world"):
            self._run(self.watch.look())

    # Callers ------------------------------------------------------------------------------

    @rule(order_no=orders, offer=offers, faults=plans)
    def charge(self, order_no: str, offer: str, faults: tuple[Fault, ...]) -> None:
        """A caller wants to be paid, or asks again."""
        self.ask_charge((order_no, offer), faults=faults)

    @rule(order_no=orders, offer=offers, faults=plans)
    def charge_and_pay(self, order_no: str, offer: str, faults: tuple[Fault, ...]) -> None:
        """The same, and the payer of each charge pays it at once."""
        self.ask_charge((order_no, offer), faults=faults)
        self.ask_pay(len(self.world.handed_out) - 1)

    @rule(order_no=orders, offer=offers, other=offers, faults=plans, schedule=turns)
    def two_charges_at_once(
        self, order_no: str, offer: str, other: str, faults: tuple[Fault, ...], schedule: list[int]
    ) -> None:
        """Two callers of one order, with the same terms or others (I10)."""
        self.ask_charge((order_no, offer), (order_no, other), faults=faults, schedule=schedule)

    @rule(order_no=orders, refund_no=refund_nos, amount=amounts, faults=plans)
    def refund(self, order_no: str, refund_no: str, amount: int, faults: tuple[Fault, ...]) -> None:
        """A caller wants money back, or asks again, or confuses the numbers (I10)."""
        self.ask_refund(refund_terms(order_no, refund_no, amount), faults=faults)

    @rule(
        order_no=orders,
        nos=st.tuples(refund_nos, refund_nos),
        amount=amounts,
        other=amounts,
        faults=plans,
        schedule=turns,
    )
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
        one = refund_terms(order_no, nos[0], amount)
        two = refund_terms(order_no, nos[1], other)
        self.ask_refund(one, two, faults=faults, schedule=schedule)

    @rule(order_no=orders, refresh=st.booleans(), faults=plans)
    def query(self, order_no: str, refresh: bool, faults: tuple[Fault, ...]) -> None:
        """A caller asks how things stand."""
        self.ask_query(order_no, refresh, faults)

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
        self.ask_pay(which)

    @precondition(lambda self: self.world.lookalike.ledger.money)
    @rule(which=numbers, amount=st.sampled_from((None, 30, 60)))
    def refund_at_dashboard(self, which: int, amount: int | None) -> None:
        """A clerk gives money back without Midas (P16)."""
        charge_id = self._some_charge(which)
        self._control(lambda: self.world.lookalike.refund_at_dashboard(charge_id, amount))

    @precondition(lambda self: self.world.handed_out)
    @rule(which=numbers)
    def reverse_elsewhere(self, which: int) -> None:
        """Somebody closes a charge, or takes a bar-code payment back, without Midas.

        Only one that Midas knows of: where repetitions are not refused, a repeated create after a
        reversal opens a second charge under the number, and the first can never be paid again.
        """
        handed_out = self.world.handed_out
        path = f"/v1/charges/{handed_out[which % len(handed_out)]}/reverse"
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

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """In this run's event loop. A violation names the last calls of Midas."""
        try:
            return self.runner.run(work)
        except AssertionError as violated:
            if hasattr(self, "world"):
                violated.add_note(f"last calls: {self.world.trace[-LAST_CALLS:]}")
            raise

    def _ask(
        self,
        *calls: Callable[[Payments], Awaitable[Any]],
        faults: tuple[Fault, ...],
        schedule: list[int] | None = None,
    ) -> list[Any]:
        return self._run_at_once(*map(at_the_door, calls), faults=faults, schedule=schedule)

    def _run_at_once(
        self, *work: Work, faults: tuple[Fault, ...] = (), schedule: list[int] | None = None
    ) -> list[Any]:
        """All of it at once; `schedule` chooses whose turn it is, by the place in the queue."""
        picks = itertools.chain(schedule or (), itertools.repeat(0))
        self.world.gate.pick = lambda waiting: next(picks) % len(waiting)
        return self._run(self.world.run(*work, plan=Plan(faults)))

    def ask_query(self, order_no: str, refresh: bool, faults: tuple[Fault, ...]) -> None:
        """A caller asks how an order stands."""
        self._ask(lambda p: p.query(KeyKind.ORDER_NO, order_no, refresh), faults=faults)

    def _orders(self) -> list[Order]:
        return self._run(self.world.orders())

    def ask_charge(
        self,
        *wanted: tuple[str, str],
        faults: tuple[Fault, ...],
        schedule: list[int] | None = None,
    ) -> None:
        """Callers want to be paid, at once; each gets what it asked for, or an error."""
        terms = [charge_terms(order_no, offer) for order_no, offer in wanted]
        calls = [lambda p, t=each: p.charge(t) for each in terms]
        results = self._ask(*calls, faults=faults, schedule=schedule)
        for each, result in zip(terms, results, strict=True):
            if isinstance(result, ChargeResult):
                _check_handed_out(each, result)
        got = [each.charge for each in results if isinstance(each, ChargeResult)]
        if len(got) == 2 and terms[0] == terms[1]:
            assert got[0].charge_id == got[1].charge_id, "I10: the same call, two charges"

    def ask_pay(self, which: int) -> None:
        """The payer pays one of the charges that were handed out, if it can be paid."""
        handed_out = self.world.handed_out
        if not handed_out:
            return
        charge_id = handed_out[which % len(handed_out)]
        lookalike = self.world.lookalike
        late = lookalike.is_expired(charge_id)
        self._control(lambda: (lookalike.pay_late if late else lookalike.pay)(charge_id))

    def ask_refund(
        self,
        *terms: RefundTerms,
        faults: tuple[Fault, ...],
        schedule: list[int] | None = None,
    ) -> None:
        """Callers want money back, at once; each refund_no stands for one content for ever."""
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
            self.world.reached["impossible control"] += 1


def _asked_for(refund: Refund, terms: tuple[RefundTerms, ...]) -> RefundTerms:
    """Which of the calls made this refund."""
    ours = [
        each
        for each in terms
        if (each.refund_no, each.order_no) == (refund.refund_no, refund.order_no)
        and refund_digest(each, refund.out_trade_no) == refund.content_digest
    ]
    assert ours, "I10: a refund that nobody asked for"
    return ours[0]


def _check_handed_out(terms: ChargeTerms, result: ChargeResult) -> None:
    """A caller gets the charge that it asked for, still open or just paid."""
    shown = json.loads(result.charge_json)
    assert shown["id"] == result.charge.charge_id
    assert (shown["amount"], shown["channel"]) == (terms.amount, terms.channel), "I10: other terms"
    assert result.charge.terms_digest == charge_digest(terms)
    assert result.charge.state in (ChargeState.PENDING, ChargeState.SUCCEEDED)
    assert not result.charge.superseded
