"""What a row works with: the order service's calls, the payer's moves, and what is expected."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc

from midas.cli.calls import trouble_of
from midas.cli.demo.fetch import Page
from midas.cli.demo.lookalike import Lookalike
from midas.cli.demo.orders import ReceivedNotification
from midas.cli.demo.stage import Stage
from midas.cli.polling import in_words
from midas.cli.show import money, state
from midas.runtime.command_errors import Trouble
from midas.v1.charge_pb2 import Charge
from midas.v1.payment_service_pb2 import (
    ChargeRequest,
    ChargeResponse,
    PollKind,
    PollPendingRequest,
    PollPendingResponse,
    QueryRequest,
    RefundRequest,
)
from midas.v1.refund_pb2 import Refund

CALL_TIMEOUT_S = 20.0
PATIENCE_S = 15.0
"""How long something that happens by itself may take before it counts as not done."""
LOOK_PAUSE_S = 0.05
DUE_MARGIN_S = 0.3
"""How much later than its time a look is certainly due."""
TAKEN = 200
"""The gateway's answer to a webhook that Midas has on disk."""
CHANNEL_EXTRA: dict[str, dict[str, Any]] = {"wx_pub_qr": {"product_id": "tea"}}


class NotHeld(Exception):
    """What was observed is not what was expected."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is expected, and what was observed of it."""

    what: str
    observed: Any
    wanted: Any
    held: bool

    def as_data(self) -> dict[str, Any]:
        """The check in the JSON of the demo."""
        return {
            "what": self.what,
            "seen": self.observed,
            "wanted": self.wanted,
            "held": self.held,
        }


@dataclass(slots=True)
class Scene:
    """One order on the stage. Every call and finding is printed as it happens."""

    stage: Stage
    order_no: str
    print_step: Callable[[str], None]
    steps: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def lookalike(self) -> Lookalike:
        """Ping++'s side."""
        return self.stage.lookalike

    def step(self, text: str) -> None:
        """Record and print what happened."""
        self.steps.append(text)
        self.print_step(text)

    def hold(self, what: str, observed: Any, wanted: Any = True) -> None:
        """Record what was observed. Raises NotHeld unless it is what was wanted."""
        self.checks.append(Check(what, observed, wanted, observed == wanted))
        if observed != wanted:
            raise NotHeld(f"{what}: saw {observed!r} instead of {wanted!r}")

    # The order service ---------------------------------------------------------------------

    def charge(self, channel: str, amount: int) -> ChargeResponse:
        """Charge the order."""
        asked = f"Charge({self.order_no}, {channel}, {money(amount, 'cny')})"
        request = self._terms(channel, amount)
        answer = self._call(self.stage.payments.Charge, request, asked)
        if isinstance(answer, Trouble):
            raise NotHeld(f"{asked} was refused: {answer.reason}")
        charge: Charge = answer.charge
        again = ", the same again" if answer.reused else ""
        self.step(f"{asked} → {state(charge)} {charge.charge_id}{again}")
        return answer  # type: ignore[no-any-return]

    def charge_refused(self, channel: str, amount: int) -> Trouble:
        """Charge the order, which is refused; returns the error."""
        asked = f"Charge({self.order_no}, {channel}, {money(amount, 'cny')})"
        answer = self._call(self.stage.payments.Charge, self._terms(channel, amount), asked)
        return answer if isinstance(answer, Trouble) else _went_through(asked)

    def refund(self, refund_no: str, amount: int) -> Refund:
        """Refund a part of the order, or with 0 all that is left."""
        asked, answer = self._refund(refund_no, amount)
        if isinstance(answer, Trouble):
            raise NotHeld(f"{asked} was refused: {answer.reason}")
        refund: Refund = answer.refund
        failure = f" ({refund.failure_code})" if refund.failure_code else ""
        self.step(
            f"{asked} → {state(refund)} {money(refund.amount, 'cny')} {refund.refund_id}{failure}"
        )
        return refund

    def refund_refused(self, refund_no: str, amount: int) -> Trouble:
        """Ask for a refund, which is refused; returns the error."""
        asked, answer = self._refund(refund_no, amount)
        return answer if isinstance(answer, Trouble) else _went_through(asked)

    def query(self, refresh: bool = False, quietly: bool = False) -> list[Charge]:
        """All charges of the order."""
        asked = f"Query({self.order_no}{', refresh' if refresh else ''})"
        request = QueryRequest(order_no=self.order_no, refresh=refresh)
        answer = self._call(self.stage.payments.Query, request, asked)
        if isinstance(answer, Trouble):
            raise NotHeld(f"{asked} failed: {answer.reason}")
        if not quietly:
            self.step(f"{asked} → {', '.join(map(_described, answer.charges))}")
        return list(answer.charges)

    def query_refused(self, **key: Any) -> Trouble:
        """Ask by a key that Midas does not know; returns the error."""
        asked = f"Query({', '.join(key.values())})"
        answer = self._call(self.stage.payments.Query, QueryRequest(**key), asked)
        return answer if isinstance(answer, Trouble) else _went_through(asked)

    def until(self, what: str, reached: Callable[[], bool]) -> None:
        """Wait for something that happens by itself. Raises NotHeld after PATIENCE_S."""
        started = time.monotonic()
        if not _comes(reached):
            self.hold(f"{what} within {PATIENCE_S:.0f} s", False)
        self.step(f"{what}, {time.monotonic() - started:.1f} s later, with nobody asking")

    # The payer -----------------------------------------------------------------------------

    def page(self, charge_id: str) -> str:
        """The address of the payment page."""
        return f"{self.lookalike.url}/pay/{charge_id}"

    def pays(self, charge_id: str) -> Page:
        """The payer confirms."""
        page = self.lookalike.press(self.page(charge_id), "confirm")
        self.step(f"the payer confirms {charge_id} → {_outcome(page)}")
        return page

    def cancels(self, charge_id: str) -> Page:
        """The payer leaves without paying."""
        page = self.lookalike.press(self.page(charge_id), "cancel")
        self.step(f"the payer cancels {charge_id} → {_outcome(page)}")
        return page

    def paid(self, channel: str, amount: int) -> Charge:
        """Charge the order and pay it. Midas has learnt of the payment by webhook afterwards."""
        charge = self.charge(channel, amount).charge
        self.pays(charge.charge_id)
        self.webhooks(charge.out_trade_no, "charge.succeeded")
        found = self.query()[0]
        self.hold("Query", state(found), "SUCCEEDED")
        return found

    # What comes of it ----------------------------------------------------------------------

    def webhooks(self, out_trade_no: str, kind: str, count: int = 1) -> list[str]:
        """Check that Ping++ sends `count` webhooks and the gateway takes all. Returns their ids."""
        found = self.lookalike.sent(out_trade_no, kind, count)
        ids = [each["event_id"] for each in found]
        answers = [each["sends"][-1]["status"] for each in found]
        for event_id, status in zip(ids, answers, strict=True):
            self.step(f"Ping++ sends {kind} {event_id} → the gateway answers {status}")
        self.hold(f"the gateway's answers to {kind}", answers, [TAKEN] * count)
        return ids

    def lose_webhooks(self, out_trade_no: str) -> None:
        """Let every further webhook about this charge and its refunds be lost on its way."""
        every = {"match": {"order_no": out_trade_no}, "count": None}
        self.lookalike.add_fault({**every, "action": {"kind": "webhook_drop"}})

    def is_lost(self, out_trade_no: str, kind: str) -> bool:
        """Whether the one webhook of this kind was sent, and none of its sends arrived."""
        lost = {"status": None, "fault": "webhook_drop"}
        ours = self.lookalike.sent(out_trade_no, kind, 1)
        for each in ours:
            count = sum(send.items() >= lost.items() for send in each["sends"])
            sends = len(each["sends"])
            self.step(f"{kind} {each['event_id']}: sent {sends} ×, lost on its way {count} ×")
            if count < sends or each["outcome"] != "pending":
                return False
        return len(ours) == 1

    def wait_for_look(self, table: str, number: str) -> None:
        """Wait until Midas's next look at this charge or refund is due."""
        due_at = self.stage.books.next_look(table, number)
        self.hold("a look is planned", due_at is not None)
        wait_s = max(0.0, due_at.timestamp() - time.time()) if due_at else 0.0
        self.step(f"nobody asks; Midas's own look at {number} is due in {wait_s:.1f} s")
        time.sleep(wait_s + DUE_MARGIN_S)

    def poll(self, kind: PollKind.ValueType) -> PollPendingResponse:
        """Do what the timer does: look at what is due."""
        asked = f"PollPending({PollKind.Name(kind).removeprefix('POLL_KIND_').lower()})"
        answer = self._call(
            self.stage.payments.PollPending, PollPendingRequest(kinds=[kind]), asked
        )
        if isinstance(answer, Trouble):
            raise NotHeld(f"{asked} failed: {answer.reason}")
        self.step(f"{asked} → {in_words(answer)}")
        return answer  # type: ignore[no-any-return]

    def hold_received(self, *wanted: str) -> list[ReceivedNotification]:
        """Check that the order service received exactly these, in order, and Midas has no more."""
        orders, numbered = self.stage.orders, [f"#{n} {name}" for n, name in enumerate(wanted, 1)]
        _comes(lambda: len(orders.received(self.order_no)) >= len(wanted))
        received = orders.received(self.order_no)
        shown = [f"{each} (found by {each.found_by})" for each in received]
        self.step(f"the order service received: {', '.join(shown) or 'nothing'}")
        self.hold("received by the order service", [str(each) for each in received], numbered)
        queue = self.stage.books.notifications(self.order_no)
        self.hold("written down for it by Midas", queue, numbered)
        return received

    def hold_ledger(self, *paid: int, refunded: int = 0) -> None:
        """Check the order's payments and refunds in the sandbox's ledger, in minor units."""
        numbers = [each.out_trade_no for each in self.query(quietly=True)]
        payments = [a for number in numbers for a in self.lookalike.moved(number, "charge_paid")]
        back = [a for number in numbers for a in self.lookalike.moved(number, "refund_succeeded")]
        self.step(
            f"the sandbox's ledger: {len(payments)} payment(s) of {money(sum(payments), 'cny')}, "
            f"{len(back)} refund(s) of {money(sum(back), 'cny')}"
        )
        self.hold("payments in the ledger", payments, list(paid))
        self.hold("money given back by the ledger", sum(back), refunded)

    def hold_count(self, out_trade_no: str, request: str, wanted: int) -> None:
        """Check how often this request about this number reached the sandbox."""
        count = self.lookalike.requests(out_trade_no).count(request)
        self.step(f"the sandbox counted {count} × {request}")
        self.hold(f"{request} at the sandbox", count, wanted)

    def as_data(self) -> dict[str, Any]:
        """Steps and checks as data."""
        return {"steps": self.steps, "checks": [each.as_data() for each in self.checks]}

    def _terms(self, channel: str, amount: int) -> ChargeRequest:
        request = ChargeRequest(
            order_no=self.order_no,
            channel=channel,
            amount=amount,
            subject="Oolong tea",
            body="Two cups",
            client_ip="127.0.0.1",
        )
        request.extra.update(CHANNEL_EXTRA.get(channel, {}))
        return request

    def _refund(self, refund_no: str, amount: int) -> tuple[str, Any]:
        part = money(amount, "cny") if amount else "all that is left"
        asked = f"Refund({refund_no}, {self.order_no}, {part})"
        request = RefundRequest(
            refund_no=refund_no,
            order_no=self.order_no,
            amount=amount,
            description="cold when it came",
        )
        return asked, self._call(self.stage.payments.Refund, request, asked)

    def _call(self, method: Any, request: Any, asked: str) -> Any:
        """The answer, or the trouble if the call failed."""
        try:
            return method(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            trouble = trouble_of(error, moves_money=True, ids={})
            money_and_retry = f"money_moved {trouble.money_moved}, retry {trouble.retry}"
            self.step(f"{asked} → {trouble.code} {trouble.reason} ({money_and_retry})")
            return trouble


def _comes(reached: Callable[[], bool]) -> bool:
    """Wait for something that happens by itself. Returns whether it came within PATIENCE_S."""
    started = time.monotonic()
    while not reached():
        if time.monotonic() - started > PATIENCE_S:
            return False
        time.sleep(LOOK_PAUSE_S)
    return True


def _went_through(asked: str) -> NoReturn:
    raise NotHeld(f"{asked} went through, and should not have")


def _described(charge: Charge) -> str:
    refunds = "".join(f" + refund {each.refund_no} {state(each)}" for each in charge.refunds)
    return f"{charge.charge_id or charge.out_trade_no} {state(charge)}{refunds}"


def _outcome(page: Page) -> str:
    words = ("waiting for payment", "paid", "closed", "expired", "Not possible")
    shown = next((word for word in words if f">{word}<".encode() in page.body), "?")
    return f"{page.status} {shown}"
