"""What is sent to the order service, and which promise each of its answers is about."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from midas.cli.contract_kit.kit import Kit, NotTakenError
from midas.cli.contract_kit.notices import (
    CLOSED,
    METHODS,
    NOT_REFUNDED,
    REFUNDED,
    SUCCESS,
    notice,
    of_a_newer_contract,
)
from midas.cli.contract_kit.restarts import RESTART_JUDGES, killed, restart
from midas.cli.contract_kit.target import PARKS

LAST_OF_EACH_KIND = ((SUCCESS,), (CLOSED,), (SUCCESS, REFUNDED), (SUCCESS, NOT_REFUNDED))
"""One story for each call: it ends with that call and begins with what has to come before it."""
FIRST_EPOCH, LAST_EPOCH = 1 << 20, 2**53 - (1 << 20)
COPIES = 8
CROWD = 50
"""How many calls of one order are under way while another order gets a notification."""
GIVEN_UP_AFTER_S = (0.001, 0.005, 0.02)


class Scenario(NamedTuple):
    """One story."""

    play: Callable[[Kit], Awaitable[None]]
    judges: tuple[str, ...]
    """The promises that cannot be judged when the story cannot be played."""
    calls: tuple[str, ...] = METHODS
    """The calls that it is made of. It is not played if the order service refuses one of them."""


async def run_all(kit: Kit) -> None:
    """Play all scenarios, one after the other."""
    await every_kind(kit)
    for scenario in SCENARIOS:
        if scenario in AFTER_RESTART and kit.probes.restart is None:
            continue
        refused = ", ".join(sorted(kit.refused.intersection(scenario.calls)))
        try:
            if not refused:
                await scenario.play(kit)
        except NotTakenError as error:
            refused = str(error)
        for promise in scenario.judges if refused else ():
            kit.findings.miss(promise, f"what comes before was not taken: {refused}")


async def every_kind(kit: Kit) -> None:
    """Each of the four calls, once, each on an order of its own."""
    for methods in LAST_OF_EACH_KIND:
        order_no = await kit.order()
        try:
            await kit.given(order_no, *methods)
        except NotTakenError as error:
            kit.refused.add(error.method)
        else:
            wanted = dict.fromkeys(methods, 1)
            await kit.expect_effects("applies-once", order_no, **wanted)


async def repeats(kit: Kit) -> None:
    """Each call comes again right after it was acknowledged, and once more."""
    for methods in LAST_OF_EACH_KIND:
        order_no = await kit.order()
        await kit.given(order_no, *methods)
        for _ in range(2):
            answer = await kit.again(order_no, len(methods))
            what = f"{methods[-1]} of {order_no}/{len(methods)} again"
            kit.expect("acknowledges-repeats", answer, what)
        await kit.expect_effects("ignores-repeats", order_no, **dict.fromkeys(methods, 1))


async def copies_at_once(kit: Kit) -> None:
    """Several senders at the same time, none of whom knows of the others."""
    for methods in LAST_OF_EACH_KIND:
        order_no, sequence = await kit.order(), len(methods)
        await kit.given(order_no, *methods[:-1])
        request = kit.made(order_no, methods[-1], sequence)
        calls = (kit.target.call(methods[-1], request) for _ in range(COPIES))
        answers = await asyncio.gather(*calls)
        codes = sorted({answer.code for answer in answers})
        fine = "OK" in codes and not PARKS & set(codes)
        what = f"{COPIES} copies of {methods[-1]} {order_no}/{sequence} at once: {', '.join(codes)}"
        kit.findings.record("acknowledges-copies-at-once", fine, what)
        last = await kit.again_until_taken(order_no, sequence)
        kit.expect("acknowledges-copies-at-once", last, f"{order_no}/{sequence} after its copies")
        await kit.expect_effects("ignores-copies-at-once", order_no, **dict.fromkeys(methods, 1))


async def older(kit: Kit) -> None:
    """A sender that was paused goes on and sends old notifications."""
    order_no = await kit.order()
    await kit.given(order_no, SUCCESS, REFUNDED, NOT_REFUNDED, REFUNDED)
    for sequence in (2, 1, 3):
        answer = await kit.again(order_no, sequence)
        kit.expect("acknowledges-older", answer, f"{order_no}/{sequence} after {order_no}/4")
    wanted = {SUCCESS: 1, REFUNDED: 2, NOT_REFUNDED: 1}
    await kit.expect_effects("ignores-older", order_no, **wanted)


async def gaps(kit: Kit) -> None:
    """The first notification has a sequence above 1, and later one below the highest arrives."""
    order_no = await kit.order()
    for method, sequence in ((SUCCESS, 3), (REFUNDED, 7)):
        answer = await kit.send(order_no, method, sequence)
        kit.expect("takes-gaps", answer, f"{method} of {order_no}/{sequence} after a gap")
        if not answer.ok:
            return
    answer = await kit.send(order_no, REFUNDED, 5)
    kit.expect("acknowledges-older", answer, f"{order_no}/5 after {order_no}/7")
    await kit.expect_effects("ignores-older", order_no, **{SUCCESS: 1, REFUNDED: 1})


async def new_epochs(kit: Kit) -> None:
    """Midas goes on in a later epoch, far above, as after lost commits. What is below is old."""
    order_no = await kit.order()
    await kit.given(order_no, SUCCESS)
    for sequence in (FIRST_EPOCH + 1, FIRST_EPOCH + 2, LAST_EPOCH + 1):
        answer = await kit.send(order_no, REFUNDED, sequence)
        kit.expect("takes-new-epochs", answer, f"{REFUNDED} of {order_no}/{sequence}")
        if not answer.ok:
            return
    for sequence in (1, FIRST_EPOCH + 2):
        answer = await kit.again(order_no, sequence)
        kit.expect("acknowledges-older", answer, f"{order_no}/{sequence} in a later epoch")
    await kit.expect_effects("ignores-older", order_no, **{SUCCESS: 1, REFUNDED: 3})


async def announced_again(kit: Kit) -> None:
    """One payment and one refund under three sequences each; Midas does not know of the last."""
    order_no = await kit.order()
    await kit.given(order_no, SUCCESS, REFUNDED)
    for epoch, known in ((FIRST_EPOCH, True), (2 * FIRST_EPOCH, False)):
        for number, method in enumerate((SUCCESS, REFUNDED), 1):
            sequence = epoch + number
            answer = await kit.send(order_no, method, sequence, about=number, told_again=known)
            kit.expect("takes-new-epochs", answer, f"{method} of {order_no}/{sequence}, once more")
            if not answer.ok:
                kit.findings.miss("counts-money-once", f"{order_no}/{sequence} was not taken")
                return
    await kit.expect_effects("counts-money-once", order_no, **{SUCCESS: 1, REFUNDED: 1})


async def used_sequences(kit: Kit) -> None:
    """The highest sequence once more, with another id and another refund: no repeat."""
    order_no = await kit.order()
    await kit.given(order_no, SUCCESS, REFUNDED)
    other = notice(REFUNDED, order_no, 2, kit.amount, about=9, commit="c2")
    answer = await kit.target.call(REFUNDED, other)
    what = f"{order_no}/2 with another notification_id: answered {answer}"
    kit.findings.record("notices-used-sequences", answer.reused_below == 2, what)
    again = await kit.again(order_no, 2)
    kit.expect("acknowledges-repeats", again, f"{order_no}/2 again, with its own id")
    await kit.expect_effects("ignores-repeats", order_no, **{SUCCESS: 1, REFUNDED: 1})


async def late_money(kit: Kit) -> None:
    """Money for an order that was closed, and then once more."""
    order_no = await kit.order()
    await kit.given(order_no, CLOSED)
    late = await kit.send(order_no, SUCCESS, 2, late=True)
    kit.expect("takes-late-money", late, f"{order_no}/2, late")
    twice = await kit.send(order_no, SUCCESS, 3, duplicate_payment=True)
    kit.expect("takes-late-money", twice, f"{order_no}/3, duplicate_payment")
    if late.ok and twice.ok:
        await kit.expect_effects("applies-once", order_no, **{CLOSED: 1, SUCCESS: 2})


async def refunds_made_elsewhere(kit: Kit) -> None:
    """Somebody refunded in Ping++'s dashboard, and it is announced like any other refund."""
    order_no = await kit.order()
    await kit.given(order_no, SUCCESS)
    request = notice(REFUNDED, order_no, 2, kit.amount, elsewhere=True)
    what = f"{order_no}/2, a refund whose refund_no begins with re_"
    for promise, text in (
        ("takes-refunds-made-elsewhere", what),
        ("acknowledges-repeats", f"{what}, again"),
    ):
        answer = await kit.target.call(REFUNDED, request)
        kit.expect(promise, answer, text)
        if not answer.ok:
            return
    await kit.expect_effects("ignores-repeats", order_no, **{SUCCESS: 1, REFUNDED: 1})


async def what_is_new(kit: Kit) -> None:
    """A Midas with a newer contract sends fields and enum values that are not known yet."""
    for methods in ((SUCCESS, REFUNDED, NOT_REFUNDED), (CLOSED,)):
        order_no = await kit.order()
        for sequence, method in enumerate(methods, 1):
            request = of_a_newer_contract(kit.made(order_no, method, sequence))
            answer = await kit.target.call(method, request)
            what = f"{method} of {order_no}/{sequence} with new fields and enum values"
            kit.expect("takes-what-is-new", answer, what)


async def callers_that_go_away(kit: Kit) -> None:
    """The deadline passes or the connection is lost while the call is being handled."""
    for patience_s in GIVEN_UP_AFTER_S:
        order_no = await kit.order()
        await kit.given(order_no, SUCCESS)
        request = kit.made(order_no, REFUNDED, 2)
        await kit.target.call(REFUNDED, request, patience_s)
        answer = await kit.again_until_taken(order_no, 2)
        what = f"{order_no}/2 again, after its caller left within {patience_s * 1000:g} ms"
        kit.expect("survives-callers-that-go-away", answer, what)
        if answer.ok:
            await kit.expect_effects("ignores-repeats", order_no, **{SUCCESS: 1, REFUNDED: 1})


async def orders_apart(kit: Kit) -> None:
    """A crowd at one order must not hold up another."""
    busy, other = await kit.order(), await kit.order()
    await kit.given(busy, SUCCESS)
    request = kit.made(busy, REFUNDED, 2)
    crowd = [asyncio.create_task(kit.target.call(REFUNDED, request)) for _ in range(CROWD)]
    await asyncio.sleep(0)
    answer = await kit.send(other, SUCCESS, 1)
    what = f"{other}/1 while {CROWD} calls of {busy} were under way"
    kit.expect("keeps-orders-apart", answer, what)
    await asyncio.gather(*crowd)


_PLAIN = (
    Scenario(repeats, ("acknowledges-repeats", "ignores-repeats")),
    Scenario(copies_at_once, ("acknowledges-copies-at-once", "ignores-copies-at-once")),
    Scenario(older, ("acknowledges-older", "ignores-older"), (SUCCESS, REFUNDED, NOT_REFUNDED)),
    Scenario(gaps, ("takes-gaps",), (SUCCESS, REFUNDED)),
    Scenario(new_epochs, ("takes-new-epochs",), (SUCCESS, REFUNDED)),
    Scenario(announced_again, ("counts-money-once",), (SUCCESS, REFUNDED)),
    Scenario(used_sequences, ("notices-used-sequences",), (SUCCESS, REFUNDED)),
    Scenario(late_money, ("takes-late-money",), (SUCCESS, CLOSED)),
    Scenario(refunds_made_elsewhere, ("takes-refunds-made-elsewhere",), (SUCCESS, REFUNDED)),
    Scenario(what_is_new, ("takes-what-is-new",)),
    Scenario(callers_that_go_away, ("survives-callers-that-go-away",), (SUCCESS, REFUNDED)),
    Scenario(orders_apart, ("keeps-orders-apart",), (SUCCESS, REFUNDED)),
)
AFTER_RESTART = (
    Scenario(restart, RESTART_JUDGES, (SUCCESS, REFUNDED, NOT_REFUNDED)),
    Scenario(killed, ("durable-before-ok",), (SUCCESS, NOT_REFUNDED)),
)
SCENARIOS = (*_PLAIN, *AFTER_RESTART)
"""All scenarios in the order in which they are played, after `every_kind`.

Those that restart the order service come last.
"""
