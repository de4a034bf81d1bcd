"""midas.v1.PaymentService: each method hands its request to the flows and gives the result."""

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from google.protobuf.message import Message

from midas.charge import Charge, ChargeState, ChargeTerms
from midas.flows.terms import RefundTerms
from midas.payment import Order
from midas.ports import KeyKind, Listing, RowKind
from midas.refund import Refund, RefundState
from midas.rpc import conversion
from midas.rpc.interceptor import Call, Method
from midas.rpc.page import PAGE_BYTES, page
from midas.v1 import payment_service_pb2 as pb

if TYPE_CHECKING:
    from midas.flows.create_charge import ChargeResult
    from midas.flows.create_refund import RefundResult
    from midas.flows.poll import PollResult

SERVICE = "midas.v1.PaymentService"


class Flows(Protocol):
    """What the service needs of `midas.flows.payment_calls.Payments`."""

    async def charge(self, terms: ChargeTerms) -> "ChargeResult":
        """Open a charge for an order."""

    async def refund(self, terms: RefundTerms) -> "RefundResult":
        """Give money back."""

    async def query(
        self, kind: KeyKind, key: str, refresh: bool, timeout: timedelta | None
    ) -> tuple[Order, tuple[Charge, ...]]:
        """What is known."""

    async def list_charges(self, state: ChargeState | None, page: Listing) -> list[Order]:
        """One order for each charge of the page, holding that charge alone."""

    async def list_refunds(self, state: RefundState | None, page: Listing) -> list[Refund]:
        """The refunds of the page."""

    async def poll(
        self, kinds: Collection[RowKind], limit: int, timeout: timedelta | None
    ) -> "PollResult":
        """Look at what is due."""


class PaymentService:
    """The methods of the service over the flows."""

    def __init__(self, flows: Flows) -> None:
        self._flows = flows

    @property
    def methods(self) -> list[Method[Any]]:
        """Every method of the service, to be wrapped and served."""
        return [
            Method(f"{SERVICE}/Charge", pb.ChargeRequest, self.charge, moves_money=True),
            Method(f"{SERVICE}/Refund", pb.RefundRequest, self.refund, moves_money=True),
            Method(f"{SERVICE}/Query", pb.QueryRequest, self.query),
            Method(f"{SERVICE}/ListCharges", pb.ListChargesRequest, self.list_charges),
            Method(f"{SERVICE}/ListRefunds", pb.ListRefundsRequest, self.list_refunds),
            Method(f"{SERVICE}/PollPending", pb.PollPendingRequest, self.poll_pending),
        ]

    async def charge(self, request: pb.ChargeRequest, call: Call) -> pb.ChargeResponse:
        """Open a charge for an order."""
        call.ids |= {"order_no": request.order_no, "channel": request.channel}
        call.ids["amount"] = request.amount
        result = await self._flows.charge(conversion.charge_terms(request))
        call.ids["out_trade_no"] = result.charge.out_trade_no
        call.ids |= {"currency": result.charge.currency, "state": result.charge.state.value}
        return pb.ChargeResponse(
            charge=conversion.charge_message(result.order, result.charge),
            charge_json=result.charge_json,
            reused=result.reused,
        )

    async def refund(self, request: pb.RefundRequest, call: Call) -> pb.RefundResponse:
        """Give back all or a part of a paid charge."""
        call.ids["refund_no"] = request.refund_no
        call.ids |= {"order_no": request.order_no, "amount": request.amount}
        result = await self._flows.refund(conversion.refund_terms(request))
        made = result.refund
        call.ids |= {"order_no": made.order_no, "out_trade_no": made.out_trade_no}
        call.ids |= {"amount": made.amount, "currency": made.currency, "state": made.state.value}
        return pb.RefundResponse(refund=conversion.refund_message(result.refund))

    async def query(self, request: pb.QueryRequest, call: Call) -> pb.QueryResponse:
        """What is known of an order, a charge or a refund."""
        kind, key = conversion.query_key(request)
        call.ids[kind] = key
        order, charges = await self._flows.query(kind, key, request.refresh, call.timeout)
        call.ids["order_no"] = order.order_no
        return pb.QueryResponse(
            charges=[conversion.charge_message(order, each) for each in charges]
        )

    async def list_charges(self, request: pb.ListChargesRequest, _: Call) -> pb.ListChargesResponse:
        """List charges, newest first."""
        state = conversion.asked_charge_state(request.state)
        wanted = page(request)
        orders = await self._flows.list_charges(state, wanted.listing)
        fitting = _fitting(
            [conversion.charge_message(order, order.charges[0]) for order in orders[: wanted.size]]
        )
        token = ""
        if len(fitting) < len(orders):
            last = orders[len(fitting) - 1].charges[0]
            token = wanted.token(last.created_at, last.out_trade_no)
        return pb.ListChargesResponse(charges=fitting, next_page_token=token)

    async def list_refunds(self, request: pb.ListRefundsRequest, _: Call) -> pb.ListRefundsResponse:
        """List refunds, newest first."""
        state = conversion.asked_refund_state(request.state)
        wanted = page(request)
        rows = await self._flows.list_refunds(state, wanted.listing)
        fitting = _fitting([conversion.refund_message(each) for each in rows[: wanted.size]])
        token = ""
        if len(fitting) < len(rows):
            last = rows[len(fitting) - 1]
            token = wanted.token(last.created_at, last.refund_no)
        return pb.ListRefundsResponse(refunds=fitting, next_page_token=token)

    async def poll_pending(
        self, request: pb.PollPendingRequest, call: Call
    ) -> pb.PollPendingResponse:
        """Ask Ping++ about what is due."""
        kinds, limit = conversion.poll_wanted(request)
        result = await self._flows.poll(kinds, limit, call.timeout)
        return conversion.poll_message(result)


_Row = TypeVar("_Row", bound=Message)


def _fitting(rows: list[_Row]) -> list[_Row]:
    """The rows that fit into one answer, and the first in any case."""
    size = 0
    for index, row in enumerate(rows):
        size += row.ByteSize()
        if size > PAGE_BYTES and index:
            return rows[:index]
    return rows
