"""The books of real processes: what a database holds against what the sandbox did."""

from midas.payment import Order
from midas.sandbox.ledger import Lookalike
from midas.storage import open_store
from tests.faults.conservation import (
    EVERYTHING,
    check_announcements,
    check_charges,
    check_refunds,
)


async def books_agree(database_url: str, order_nos: list[str], lookalike: Lookalike) -> None:
    """Raise AssertionError, with the invariant's number, if money and books disagree."""
    known: set[str] = set()
    async with await open_store(database_url) as store:
        for order_no in order_nos:
            order = await store.load(order_no)
            known |= {each.out_trade_no for each in order.charges}
            _check_order(order, lookalike)
            check_announcements(order, await store.notifications(order_no))
    at_psp = {each["order_no"] for each in lookalike.newest_charges(EVERYTHING)}
    assert at_psp <= known, "I3: a charge that Midas does not know"


async def stored(database_url: str, order_no: str) -> Order:
    """The order as it is on disk."""
    async with await open_store(database_url) as store:
        return await store.load(order_no)


def _check_order(order: Order, lookalike: Lookalike) -> None:
    numbers = [each.out_trade_no for each in order.charges]
    at_psp = [charge for number in numbers for charge in lookalike.charges_of(number)]
    check_charges(at_psp, order, lookalike.now())
    for charge in order.charges:
        if charge.charge_id is not None:
            check_refunds(lookalike.refunds_of(charge.charge_id), order, charge)
