"""ListCharges and ListRefunds over the real flows, the real store and a real socket."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from midas.flows.payment_calls import Payments, SystemClock
from midas.rpc.payment_service import SERVICE, PaymentService
from midas.rpc.server import Binding, Server
from midas.sandbox.ledger import Lookalike
from midas.storage import SqlStore, open_store
from midas.v1 import charge_pb2, refund_pb2
from midas.v1 import payment_service_pb2 as pb
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub
from tests.fakes.psp import DirectWire, client_over
from tests.records import intent, refund_intent

if TYPE_CHECKING:
    from midas.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

ORDERS = 9
PAID = (0, 2, 4)
TIES = 3
TIED_ORDERS = tuple(f"tie-{number}" for number in range(TIES))
CHARGES = ORDERS + 1 + TIES
REFUNDS = 2 * len(PAID) + TIES
TIED = datetime(2100, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
"""When those rows were created: later than everything that the flows make."""

Row = charge_pb2.Charge | refund_pb2.Refund
ListRequest = pb.ListChargesRequest | pb.ListRefundsRequest


@dataclass
class Whole:
    """Midas over a database, with everything real but the socket to Ping++."""

    stub: "PaymentServiceAsyncStub"
    store: SqlStore
    lookalike: Lookalike

    async def charge(self, order_no: str, amount: int = 100) -> str:
        """An open charge; its id."""
        request = pb.ChargeRequest(
            order_no=order_no,
            channel="wx_pub_qr",
            amount=amount,
            subject="Tea",
            body="Green tea",
            client_ip="203.0.113.7",
        )
        request.extra["product_id"] = "tea-1"
        return (await self.stub.Charge(request)).charge.charge_id

    async def refund(self, number: int, name: str, amount: int = 0) -> None:
        """Give back so much of the order's charge."""
        refund_no, order_no = f"r-{number}{name}", f"o-{number}"
        request = pb.RefundRequest(refund_no=refund_no, order_no=order_no, amount=amount)
        request.description = "cold"
        await self.stub.Refund(request)

    async def fill(self) -> None:
        """Charges and refunds in several states, some of them made in the same microsecond."""
        for number in range(ORDERS):
            charge_id = await self.charge(f"o-{number}")
            if number in PAID:
                self.lookalike.pay(charge_id)
                await self.stub.Query(pb.QueryRequest(charge_id=charge_id, refresh=True))
        await self.charge(f"o-{ORDERS - 1}", amount=200)
        for number in PAID:
            await self.refund(number, "a", amount=30)
        self.lookalike.plan_refund("pending")
        await self.refund(PAID[0], "b")
        self.lookalike.plan_refund("failed")
        await self.refund(PAID[1], "b")
        await self.refund(PAID[2], "b")
        for order_no in TIED_ORDERS:
            assert await self.store.commit(intent(order_no, created_at=TIED))
            order = await self.store.load(order_no)
            assert await self.store.commit(refund_intent(order, created_at=TIED))

    async def charges(self) -> list[charge_pb2.Charge]:
        """Every charge as Query answers it, the newest first."""
        found: list[charge_pb2.Charge] = []
        for order_no in (*(f"o-{number}" for number in range(ORDERS)), *TIED_ORDERS):
            found += (await self.stub.Query(pb.QueryRequest(order_no=order_no))).charges
        found.sort(key=lambda each: (moment(each), each.out_trade_no), reverse=True)
        return found

    async def refunds(self) -> list[refund_pb2.Refund]:
        """Every refund as Query answers it, the newest first."""
        found = [refund for charge in await self.charges() for refund in charge.refunds]
        found.sort(key=lambda each: (moment(each), each.refund_no), reverse=True)
        return found

    async def pages(self, request: ListRequest) -> list[list[Row]]:
        """Page after page until there is no further one, which must come in bounded time."""
        pages: list[list[Row]] = []
        while len(pages) <= CHARGES:
            if isinstance(request, pb.ListChargesRequest):
                charges = await self.stub.ListCharges(request)
                pages.append(list(charges.charges))
                request.page_token = charges.next_page_token
            else:
                refunds = await self.stub.ListRefunds(request)
                pages.append(list(refunds.refunds))
                request.page_token = refunds.next_page_token
            if not request.page_token:
                return pages
        raise AssertionError("the pages do not end")

    async def all(self, request: ListRequest) -> list[Row]:
        """The rows of all pages."""
        return [row for page in await self.pages(request) for row in page]


def moment(row: Row) -> tuple[int, int]:
    """When it was created, to be compared."""
    return row.created_at.seconds, row.created_at.nanos


def at(when: datetime) -> Timestamp:
    """The same in protobuf."""
    timestamp = Timestamp()
    timestamp.FromDatetime(when)
    return timestamp


@pytest.fixture
async def whole(database_url: str) -> AsyncIterator[Whole]:
    """Midas on each kind of database, with a few rows in it."""
    lookalike = Lookalike("app_1")
    psp = client_over(DirectWire(lookalike), "app_1", timedelta(seconds=5))
    async with await open_store(database_url) as store:
        methods = PaymentService(Payments(store, psp, SystemClock())).methods
        server = Server(Binding())
        await server.start({SERVICE: methods})
        async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            try:
                made = Whole(PaymentServiceStub(channel), store, lookalike)
                await made.fill()
                yield made
            finally:
                await server.drain(timedelta(seconds=1))
                await server.stop(timedelta(seconds=0.1))


async def test_all_pages_together_are_all_rows(whole: Whole) -> None:
    """With pages of any size each row comes once, newest first, as Query answers it."""
    charges, refunds = await whole.charges(), await whole.refunds()
    assert (len(charges), len(refunds)) == (CHARGES, REFUNDS)
    for size in (1, 2, 3, 4, CHARGES - 1, CHARGES, 1000, 0):
        for rows, request in (
            (charges, pb.ListChargesRequest(page_size=size)),
            (refunds, pb.ListRefundsRequest(page_size=size)),
        ):
            pages = await whole.pages(request)
            assert [row for page in pages for row in page] == rows
            full = size or 100
            assert all(len(page) == full for page in pages[:-1])
            assert 0 < len(pages[-1]) <= full


CHARGE_STATES = {
    charge_pb2.CHARGE_STATE_SUBMITTING: TIES,
    charge_pb2.CHARGE_STATE_PENDING: ORDERS - len(PAID),
    charge_pb2.CHARGE_STATE_SUCCEEDED: len(PAID),
    charge_pb2.CHARGE_STATE_CLOSED: 1,
}
REFUND_STATES = {
    refund_pb2.REFUND_STATE_SUBMITTING: TIES,
    refund_pb2.REFUND_STATE_PENDING: 1,
    refund_pb2.REFUND_STATE_SUCCEEDED: 4,
    refund_pb2.REFUND_STATE_FAILED: 1,
}


async def test_a_state_chooses(whole: Whole) -> None:
    """Only rows of the state come, all of them, page by page; of a state without rows none."""
    charges, refunds = await whole.charges(), await whole.refunds()
    assert Counter(each.state for each in charges) == CHARGE_STATES
    assert Counter(each.state for each in refunds) == REFUND_STATES
    for state in charge_pb2.ChargeState.values()[1:]:
        request = pb.ListChargesRequest(state=state, page_size=2)
        assert await whole.all(request) == [each for each in charges if each.state == state]
    for refund_state in refund_pb2.RefundState.values()[1:]:
        asked = pb.ListRefundsRequest(state=refund_state, page_size=2)
        assert await whole.all(asked) == [each for each in refunds if each.state == refund_state]


async def test_a_time_chooses(whole: Whole) -> None:
    """The first moment is included, and the last one is not."""
    charges, refunds = await whole.charges(), await whole.refunds()
    for rows, kind in ((charges, pb.ListChargesRequest), (refunds, pb.ListRefundsRequest)):
        newest, oldest = rows[TIES], rows[-3]
        assert moment(newest) > moment(rows[TIES + 1])
        assert moment(oldest) < moment(rows[-4])
        within = kind(created_from=oldest.created_at, created_before=newest.created_at, page_size=2)
        assert await whole.all(within) == rows[TIES + 1 : -2]
        tied = kind(created_from=at(TIED), page_size=2)
        assert await whole.all(tied) == rows[:TIES]
        before = kind(created_before=at(TIED), page_size=2)
        assert await whole.all(before) == rows[TIES:]
        later = kind(created_from=at(TIED + timedelta(microseconds=1)))
        assert await whole.pages(later) == [[]]


async def test_state_and_time_choose_together(whole: Whole) -> None:
    """Both must hold, on every page."""
    charges, refunds = await whole.charges(), await whole.refunds()
    pending = charge_pb2.CHARGE_STATE_PENDING
    request = pb.ListChargesRequest(state=pending, created_before=at(TIED), page_size=1)
    request.created_from.CopyFrom(charges[-3].created_at)
    wanted = [each for each in charges[TIES:-2] if each.state == pending]
    assert len(wanted) > 3
    assert await whole.all(request) == wanted
    done = refund_pb2.REFUND_STATE_SUCCEEDED
    asked = pb.ListRefundsRequest(state=done, created_before=at(TIED), page_size=1)
    asked.created_from.CopyFrom(refunds[-2].created_at)
    succeeded = [each for each in refunds[TIES:-1] if each.state == done]
    assert len(succeeded) > 1
    assert await whole.all(asked) == succeeded


async def test_what_is_made_between_two_pages_spoils_none(whole: Whole) -> None:
    """The rows that were there come once each; a newer one is on no later page."""
    charges, refunds = await whole.charges(), await whole.refunds()
    first = await whole.stub.ListCharges(pb.ListChargesRequest(page_size=5))
    some = await whole.stub.ListRefunds(pb.ListRefundsRequest(page_size=4))
    for order_no in ("new-1", "new-2"):
        assert await whole.store.commit(intent(order_no, created_at=TIED + timedelta(seconds=1)))
        order = await whole.store.load(order_no)
        newer = refund_intent(order, created_at=TIED + timedelta(seconds=1))
        assert await whole.store.commit(newer)
    rest = pb.ListChargesRequest(page_size=5, page_token=first.next_page_token)
    assert [*first.charges, *await whole.all(rest)] == charges
    others = pb.ListRefundsRequest(page_size=4, page_token=some.next_page_token)
    assert [*some.refunds, *await whole.all(others)] == refunds
