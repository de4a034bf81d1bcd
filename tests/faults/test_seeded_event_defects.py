"""The likely defects of webhooks and notifications, seeded on purpose: each must be caught.

As `test_seeded_defects.py`: with the defect in, the named check fails; without it the same check
passes in `test_crash_points.py`, `test_state_machine.py` or `tests/gateway`.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from midas.charge import ChargeTerms
from midas.draft import Draft
from midas.event import EventRecord, Subject
from midas.flows import apply_event
from midas.flows.announce import Announcer
from midas.flows.apply_event import EventOutcome, Recorded
from midas.flows.commit import Ports, commit
from midas.flows.keyed_locks import KeyedLocks
from midas.flows.payment_calls import Payments
from midas.lease import DeliveryOutcome, Settlement
from midas.payment import Order
from tests.faults import event_scenarios
from tests.faults.chooser import Odometer
from tests.faults.scenarios import BAR_CODE, TERMS, Story, play
from tests.gateway import test_signature as signature_tests
from tests.gateway.account import Account
from webhook_gateway import signature
from webhook_gateway.signature import Key, Verifier

Seed = Callable[[pytest.MonkeyPatch], None]
Settle = Callable[[Announcer, Sequence[Settlement]], Any]

MOST_ATTEMPTS = 10


def m6_attempt_cap(patch: pytest.MonkeyPatch) -> None:
    """M6: what could not be delivered ten times is left to a person."""
    attempts: Counter[tuple[str, int]] = Counter()

    def capped(each: Settlement) -> Settlement:
        attempts[each.order_no, each.sequence] += 1
        if attempts[each.order_no, each.sequence] < MOST_ATTEMPTS:
            return each
        return replace(each, outcome=DeliveryOutcome.REFUSED, code="GIVEN_UP")

    _settle_otherwise(patch, capped)


def m7_skip_what_failed(patch: pytest.MonkeyPatch) -> None:
    """M7: what could not be delivered is passed over, and the next one sent."""
    _settle_otherwise(patch, lambda each: replace(each, outcome=DeliveryOutcome.DELIVERED))


def _settle_otherwise(
    patch: pytest.MonkeyPatch, changed: Callable[[Settlement], Settlement]
) -> None:
    settle = Announcer.settle

    async def otherwise(self: Announcer, settlements: Sequence[Settlement]) -> list[bool]:
        retry = DeliveryOutcome.RETRY
        settled = [changed(each) if each.outcome is retry else each for each in settlements]
        return await settle(self, settled)

    patch.setattr(Announcer, "settle", otherwise)


def m9_answer_before_commit(patch: pytest.MonkeyPatch) -> None:
    """M9: the event is accepted first and written down afterwards."""
    record = apply_event.record
    writing: list[asyncio.Future[Recorded]] = []

    async def answer_first(ports: Ports, event: EventRecord, subject: Subject | None) -> Recorded:
        writing.append(asyncio.ensure_future(record(ports, event, subject)))
        return Recorded(EventOutcome.ACCEPTED, event)

    patch.setattr(apply_event, "record", answer_first)


def m10_known_before_applied(patch: pytest.MonkeyPatch) -> None:
    """M10: the row by which a repetition is known is written before the effect."""

    async def known_first(
        ports: Ports, order: Order, event: EventRecord, subject: Subject
    ) -> Recorded:
        done = apply_event._done(ports, event)
        if not await ports.store.record_event(done):
            return await apply_event._known(ports, event)
        await commit(ports, order, lambda draft: apply_event._apply(ports, draft, subject))
        return Recorded(EventOutcome.ACCEPTED, done)

    patch.setattr(apply_event, "_applied", known_first)


def m15_sequence_of_the_database(patch: pytest.MonkeyPatch) -> None:
    """M15: one counter numbers the notifications of all attempts, as a database's sequence does."""
    notify = Draft._notify
    numbers = iter(range(1, 1_000_000))

    def numbered(self: Draft, *arguments: Any) -> None:
        notify(self, *arguments)
        last = self._notifications.pop()
        self._notifications.append(replace(last, sequence=next(numbers)))

    patch.setattr(Draft, "_notify", numbered)


def webhook_waits_for_its_turn(patch: pytest.MonkeyPatch) -> None:
    """A webhook takes the order's turn, and so waits for the charge that is under way."""
    make, record = Payments.__init__, apply_event.record
    locks: dict[int, KeyedLocks] = {}

    def remember(self: Payments, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        locks[id(self.ports.store)] = self._locks

    async def in_turn(ports: Ports, event: EventRecord, subject: Subject | None) -> Recorded:
        order = None if subject is None else await apply_event._owner(ports, subject)
        if order is None:
            return await record(ports, event, subject)
        async with locks[id(ports.store)].of(order.order_no):
            return await record(ports, event, subject)

    patch.setattr(Payments, "__init__", remember)
    patch.setattr(apply_event, "record", in_turn)


CAUGHT: list[tuple[Seed, Story, ChargeTerms, int, str]] = [
    (m6_attempt_cap, event_scenarios.down_for_a_day, TERMS, 0, "I8"),
    (m7_skip_what_failed, event_scenarios.paid_and_given_back, TERMS, 2, "I8|I9"),
    (m9_answer_before_commit, event_scenarios.paid_and_announced, TERMS, 2, "I11"),
    (m10_known_before_applied, event_scenarios.paid_and_announced, TERMS, 2, "I3"),
    (webhook_waits_for_its_turn, event_scenarios.paid_before_we_know, BAR_CODE, 2, "I13"),
]
"""The defect, the story that shows it with so many faults, and what it breaks."""


@pytest.mark.parametrize(
    ("seed", "story", "terms", "most_faults", "invariant"),
    CAUGHT,
    ids=[seed.__name__ for seed, *_ in CAUGHT],
)
def test_the_enumeration_catches(
    seed: Seed,
    story: Story,
    terms: ChargeTerms,
    most_faults: int,
    invariant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the defect in, some schedule breaks the invariant."""
    seed(monkeypatch)

    async def explore() -> None:
        for chooser in Odometer(most_faults):
            await play(chooser, story, terms)

    with pytest.raises(AssertionError, match=invariant):
        asyncio.run(explore())


def m16_verify_what_was_read(patch: pytest.MonkeyPatch) -> None:
    """M16: the body is parsed, and the signature checked over its JSON as written anew."""
    signer_of = Verifier.signer_of

    def parsed_first(self: Verifier, given: str, body: bytes) -> str | None:
        try:
            content = json.loads(body)
        except ValueError:
            return None
        again = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return signer_of(self, given, again.encode())

    patch.setattr(Verifier, "signer_of", parsed_first)


def test_m16_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same JSON in another layout passes for the signed one, and the gateway's test fails."""
    account = Account()
    signature_tests.test_w8_m16_only_the_raw_bytes_count(account)
    m16_verify_what_was_read(monkeypatch)
    with pytest.raises(AssertionError, match="spaces"):
        signature_tests.test_w8_m16_only_the_raw_bytes_count(account)


def m17_empty_key_is_no_key(patch: pytest.MonkeyPatch) -> None:
    """M17: a key file that is empty switches the verification off."""
    load, signer_of = signature._key_in, Verifier.signer_of

    def any_key(path: Path) -> rsa.RSAPublicKey | None:
        return load(path) if path.read_bytes().strip() else None

    def load_keys(paths: Sequence[Path]) -> list[Key]:
        found = [(path.stem, any_key(path)) for path in paths]
        return [Key(name, public) for name, public in found if public is not None]

    def make(self: Verifier, keys: Sequence[Key]) -> None:
        self._keys = list(keys)

    def signed_by_anybody(self: Verifier, given: str, body: bytes) -> str | None:
        return signer_of(self, given, body) if self._keys else "unverified"

    for module in (signature, signature_tests):
        patch.setattr(module, "load_keys", load_keys)
    patch.setattr(Verifier, "__init__", make)
    patch.setattr(Verifier, "signer_of", signed_by_anybody)


def test_m17_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty key is taken, everything verifies, and both of the gateway's tests fail."""
    account = Account()
    signature_tests.test_w10_m17_what_is_no_key_is_refused(tmp_path, account)
    signature_tests.test_m17_no_verifier_without_a_key()
    m17_empty_key_is_no_key(monkeypatch)
    assert Verifier([]).signer_of("", b"{}") is not None
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        signature_tests.test_w10_m17_what_is_no_key_is_refused(tmp_path, account)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        signature_tests.test_m17_no_verifier_without_a_key()
