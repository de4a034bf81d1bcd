"""What may be asked for, paid, and go wrong: the values that stories are made of."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st

from midas.charge import ChargeTerms
from midas.flows.terms import RefundTerms
from midas.sandbox.ledger import RefundOutcome
from tests.faults.machine_ports import WAYS, Fault
from tests.faults.machine_world import ORDERS

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
def fault(draw: st.DrawFn, kinds: Sequence[str]) -> Fault:
    """One call that goes wrong, of one of these kinds."""
    kind = draw(st.sampled_from(kinds))
    return Fault(kind, draw(st.sampled_from(WAYS[kind])), draw(st.integers(0, 2)))


def _plans(*kinds: str) -> st.SearchStrategy[tuple[Fault, ...]]:
    """None or a few faults; a kind that is named twice is chosen more often."""
    faulty = st.lists(fault(kinds), min_size=1, max_size=2)
    return st.one_of(st.just(()), faulty).map(tuple)


plans = _plans("POST", "POST", "commit", "commit", "GET", "read", "claim")
event_plans = _plans("commit", "commit", "event", "read", "GET")
relay_plans = _plans("order", "order", "settle", "lease", "read")
turns = st.lists(st.integers(0, 3), max_size=12)


def charge_terms(order_no: str, offer: str) -> ChargeTerms:
    """What a caller wants to be paid for."""
    return replace(OFFERS[offer], order_no=order_no)


def refund_terms(order_no: str, refund_no: str, amount: int) -> RefundTerms:
    """What a caller asks to give back; 0 is all that is left."""
    return RefundTerms(refund_no, order_no=order_no, amount=amount, description="too late")
