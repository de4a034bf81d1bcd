"""What Ping++'s webhooks, the gateway's relays and the order service may do, in any order (T2)."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from midas.errors import EventIdReused
from midas.flows.apply_event import EventOutcome, Recorded
from midas.sandbox.forgery import compact
from tests.faults.machine_choices import (
    charge_terms,
    event_plans,
    numbers,
    offers,
    orders,
    relay_plans,
    turns,
)
from tests.faults.machine_events import NEVER, STRANGERS, arrive, in_another_name, other_body
from tests.faults.machine_ports import Fault
from tests.faults.machine_replica import Work
from tests.faults.machine_rules import PaymentsMachine
from tests.faults.world import Failed

Faults = tuple[Fault, ...]
lease_limits = st.integers(1, 3)


class EventsMachine(PaymentsMachine):
    """A Midas that gets webhooks from Ping++, and notifies the order service."""

    # Ping++ -------------------------------------------------------------------------------

    @precondition(lambda self: self.world.mail.waiting)
    @rule(which=numbers, faults=event_plans)
    def webhook(self, which: int, faults: Faults) -> None:
        """One webhook arrives, in any order and however late."""
        self.ask_webhook(which, faults=faults)

    @precondition(lambda self: self.world.mail.waiting)
    @rule(which=numbers, faults=event_plans, schedule=turns)
    def webhook_twice(self, which: int, faults: Faults, schedule: list[int]) -> None:
        """The same webhook twice at once (W1)."""
        self.ask_webhook(which, copies=2, faults=faults, schedule=schedule)

    @precondition(lambda self: self.world.mail.waiting)
    @rule(which=numbers, other=numbers, faults=event_plans, schedule=turns)
    def two_webhooks(self, which: int, other: int, faults: Faults, schedule: list[int]) -> None:
        """Two webhooks at once, often of one order (W2)."""
        self.ask_webhook(which, other, faults=faults, schedule=schedule)

    @precondition(lambda self: self.world.mail.waiting)
    @rule(which=numbers, faults=event_plans)
    def webhook_whose_answer_is_lost(self, which: int, faults: Faults) -> None:
        """A webhook arrives, and its answer is lost: it will come again (W16)."""
        self.ask_webhook(which, faults=faults, answered=False)

    @precondition(lambda self: self.world.mail.accepted)
    @rule(which=numbers)
    def replay(self, which: int) -> None:
        """A webhook of long ago comes again: nothing changes (W5)."""
        body = self.world.mail.some_body(which)
        (result,) = self._changes_nothing(body)
        assert isinstance(result, Recorded), f"I11: {result}"
        assert result.outcome is not EventOutcome.ACCEPTED, "I12: a replay was news"

    @precondition(lambda self: self.world.mail.accepted)
    @rule(which=numbers, lie=st.booleans())
    def another_body(self, which: int, lie: bool) -> None:
        """A known event id with another body: refused, and nothing changes (W6)."""
        body = other_body(self.world.mail.some_body(which), lie=lie)
        (result,) = self._changes_nothing(body)
        assert isinstance(result, Failed), f"I12: two bodies under one id: {result}"
        assert isinstance(result.error, EventIdReused)

    @rule(what=st.sampled_from(sorted(STRANGERS)), again=st.booleans())
    def stranger(self, what: str, again: bool) -> None:
        """A genuine webhook that concerns nobody here (W9, W12, W19)."""
        self.ask_stranger(what)
        if again:
            self._changes_nothing(list(self.world.mail.strangers.values())[-1])

    @precondition(lambda self: self.world.mail.waiting or self.world.mail.accepted)
    @rule(which=numbers, other_app=st.booleans())
    def in_another_name(self, which: int, other_app: bool) -> None:
        """An event of another app or mode names our payment: not believed (W9)."""
        mail = self.world.mail
        known = [*mail.waiting.values(), *mail.accepted.values()]
        number = f"{NEVER}{len(mail.strangers)}"
        body = in_another_name(known[which % len(known)], number, other_app=other_app)
        mail.strangers[number] = body
        (result,) = self._changes_nothing(body)
        assert isinstance(result, Recorded), f"I11: {result}"
        assert result.outcome is EventOutcome.IGNORED, "I12: another app's event had an effect"

    # Midas and the gateway ----------------------------------------------------------------

    @rule(faults=event_plans, schedule=turns)
    def apply_due(self, faults: Faults, schedule: list[int]) -> None:
        """Midas looks at the events that wait."""
        self._run_at_once(lambda r: r.inbox.apply_due(), faults=faults, schedule=schedule)

    @rule(limit=lease_limits, faults=relay_plans)
    def relay(self, limit: int, faults: Faults) -> None:
        """A relay leases, delivers and settles."""
        self.ask_relay(limit, faults=faults)

    @rule(limit=lease_limits, faults=relay_plans, schedule=turns)
    def two_relays(self, limit: int, faults: Faults, schedule: list[int]) -> None:
        """The relays of two gateways at once (O6)."""
        self.ask_relay(limit, limit, faults=faults, schedule=schedule)

    @precondition(lambda self: self.world.mail.waiting)
    @rule(order_no=orders, offer=offers, which=numbers, faults=event_plans, schedule=turns)
    def all_at_once(
        self, order_no: str, offer: str, which: int, faults: Faults, schedule: list[int]
    ) -> None:
        """A caller, a webhook and a relay work in one Midas at once."""
        terms = charge_terms(order_no, offer)
        body = self.world.mail.waiting[self.world.mail.some(which)]
        self._run_at_once(
            lambda r: r.payments.charge(terms),
            _arriving(body),
            self.world.relay(),
            faults=faults,
            schedule=schedule,
        )

    # What the above need ------------------------------------------------------------------

    def ask_webhook(
        self,
        *which: int,
        copies: int = 1,
        faults: Faults = (),
        schedule: list[int] | None = None,
        answered: bool = True,
    ) -> None:
        """Webhooks arrive at once. Without faults each is accepted. `answered`: Ping++ gets it."""
        mail = self.world.mail
        ids = [mail.some(each) for each in which for _ in range(copies)]
        bodies = [mail.waiting[each] for each in ids]
        results = self._run_at_once(*map(_arriving, bodies), faults=faults, schedule=schedule)
        for event_id, result in zip(ids, results, strict=True):
            accepted = isinstance(result, Recorded)
            assert accepted or faults, f"I11: nothing failed, and {result}"
            if accepted and answered and event_id in mail.waiting:
                mail.accept(event_id)

    def ask_stranger(self, what: str) -> None:
        """A stranger's webhook: written down as ignored, and nothing else."""
        mail = self.world.mail
        number = f"{NEVER}{len(mail.strangers)}"
        mail.strangers[number] = body = compact(STRANGERS[what](number))
        (result,) = self._changes_nothing(body)
        assert isinstance(result, Recorded), f"I11: {result}"
        assert result.outcome is EventOutcome.IGNORED, "I12: a stranger's event had an effect"

    def ask_relay(self, *most: int, faults: Faults = (), schedule: list[int] | None = None) -> None:
        """Relays make one round each, at once."""
        rounds = [self.world.relay(each) for each in most]
        self._run_at_once(*rounds, faults=faults, schedule=schedule)

    def _changes_nothing(self, body: bytes) -> list[object]:
        """Let it arrive; no order may change by it."""
        before = [each.version for each in self._orders()]
        results = self._run_at_once(_arriving(body))
        assert [each.version for each in self._orders()] == before, "I12: it changed something"
        return results


def _arriving(body: bytes) -> Work:
    return lambda replica: arrive(replica, body)
