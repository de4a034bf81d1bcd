"""The faults P1, P2 and P8 to P13 of Ping++, each with the verdict that it must have.

The client is the real one, and what it talks to is a socket that does just that.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from midas.charge import ChargeObservation, ChargeReport, ObservedBy, mismatches, observe
from midas.ports import Done, NotDone, Refusal, Unknown
from midas.psp.client import PingppClient
from midas.refund import RefundFacts, RefundReport
from tests.psp import made, wire
from tests.psp.test_client import CALLS

BRIEF = (timedelta(seconds=0.3), timedelta(seconds=3), timedelta(seconds=30))
"""Times for an answer that does not come. The longer ones are for a machine so busy that the
connection alone takes all of the shorter ones."""

NOBODY = "NOBODY"
DEAF = "DEAF"


@dataclass(frozen=True)
class Facts:
    """The answer is a charge; `wrong` are the fields in which it is not the one asked for."""

    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """What Ping++ does, to which call, and what is proven by it; one of several if they race."""

    does: wire.Reply | str
    proven: Any
    call: str = "create_charge"
    stalls: bool = False


def answer(status: int, body: bytes | dict[str, Any], *headers: str) -> bytes:
    """A whole answer."""
    data = body if isinstance(body, bytes) else made.text(body).encode()
    return wire.response(status, data, *headers)


def always_answers(status: int, body: bytes | dict[str, Any]) -> wire.Reply:
    """It answers with this, every time."""
    return wire.always(answer(status, body))


def answers_in_turn(*answers: bytes) -> wire.Reply:
    """It answers with these, one after the other."""
    left = iter(answers)

    async def reply(_request: wire.Received, writer: asyncio.StreamWriter) -> None:
        writer.write(next(left))
        await writer.drain()

    return reply


async def slowly(_request: wire.Received, writer: asyncio.StreamWriter) -> None:
    """It works for a while before it answers."""
    await asyncio.sleep(0.2)
    writer.write(GOOD)
    await writer.drain()


CHARGE = made.charge_data()
GOOD = answer(200, CHARGE)
HEAD = GOOD.index(b"\r\n\r\n") + 4
HTML = b"<html>502 Bad Gateway</html>"
LINK = "需要登录支付宝确认: https://example.test/approve?id=1"

UNREADABLE = Unknown("unreadable_answer")
CUT = (Unknown("connection_lost"), Unknown("answer_cut_short"), Unknown("not_http"))

REFUND = RefundFacts(
    refund_id=made.REFUND_ID,
    charge_id=made.CHARGE_ID,
    amount=40,
    report=RefundReport.WORKING,
    created_at=made.NOW,
    refund_no="refund-1",
    description="不想要了",
)


def refused(refusal: Refusal, code: str = "", param: str = "") -> NotDone:
    """Proven not done, in the words of the envelope."""
    return NotDone(refusal, code=code, param=param, message="不行")


def refund(**changed: Any) -> wire.Reply:
    """It answers with HTTP 200 and this refund."""
    return always_answers(200, made.refund_data(created=int(made.NOW.timestamp()), **changed))


TABLE: dict[str, Case] = {
    "P1 refused": Case(NOBODY, NotDone(Refusal.NOT_SENT, message="connect_failed")),
    "P1 not accepted": Case(DEAF, NotDone(Refusal.NOT_SENT, message="connect_timeout")),
    "P2 request lost": Case(wire.never, Unknown("timeout"), stalls=True),
    "P2 request lost, refund": Case(wire.never, Unknown("timeout"), "create_refund", stalls=True),
    "P8 status failed": Case(
        refund(status="failed", failure_code="refund_failed", failure_msg="余额不足"),
        Done(
            replace(
                REFUND,
                report=RefundReport.FAILED,
                failure_code="refund_failed",
                failure_message="余额不足",
            )
        ),
        "create_refund",
    ),
    "P8 pending": Case(refund(), Done(REFUND), "create_refund"),
    "P8 pending with a link": Case(
        refund(failure_msg=LINK),
        Done(replace(REFUND, action_url="https://example.test/approve?id=1", failure_message=LINK)),
        "create_refund",
    ),
    "P9 502, then 200": Case(answers_in_turn(answer(502, HTML), GOOD), Unknown("status_502")),
    "P9 502, then 200, refund": Case(
        answers_in_turn(answer(502, HTML), answer(200, made.refund_data())),
        Unknown("status_502"),
        "create_refund",
    ),
    "P10 500": Case(always_answers(500, HTML), Unknown("status_500")),
    "P10 503": Case(always_answers(503, b""), Unknown("status_503")),
    "P10 504": Case(always_answers(504, HTML), Unknown("status_504")),
    "P10 500 with an envelope": Case(
        always_answers(500, made.error_body("channel_request_error")), Unknown("status_500")
    ),
    "P10 429": Case(always_answers(429, made.error_body()), Unknown("status_429")),
    "P10 403": Case(always_answers(403, made.error_body()), refused(Refusal.THROTTLED)),
    "P10 403 in HTML": Case(always_answers(403, HTML), UNREADABLE),
    "P10 400": Case(
        always_answers(400, made.error_body(param="amount")),
        refused(Refusal.REFUSED, param="amount"),
    ),
    "P10 400 in HTML": Case(always_answers(400, HTML), UNREADABLE),
    "P10 400, refunded in full": Case(
        always_answers(400, made.error_body(kind="invalid_request_error")),
        refused(Refusal.REFUSED),
        "create_refund",
    ),
    "P10 401": Case(always_answers(401, made.error_body()), refused(Refusal.MIDAS_REJECTED)),
    "P10 404": Case(
        always_answers(404, made.error_body(param="id")),
        refused(Refusal.NOT_FOUND, param="id"),
        "retrieve_charge",
    ),
    "P10 404 empty": Case(always_answers(404, b""), UNREADABLE, "retrieve_charge"),
    "P10 402 refused": Case(
        always_answers(402, made.error_body("channel_request_error")),
        refused(Refusal.REFUSED, "channel_request_error"),
    ),
    "P10 402 pending": Case(
        always_answers(402, made.error_body("refund_pending")),
        Unknown("code_refund_pending"),
        "create_refund",
    ),
    "P10 402 unexpected": Case(
        always_answers(402, made.error_body("channel_unexpected_error")),
        Unknown("code_channel_unexpected_error"),
    ),
    "P10 402 no connection": Case(
        always_answers(402, made.error_body("channel_connection_error")),
        Unknown("code_channel_connection_error"),
    ),
    "P10 402 unheard of": Case(
        always_answers(402, made.error_body("brand_new")), Unknown("code_unlisted")
    ),
    "P10 200 in HTML": Case(always_answers(200, HTML), UNREADABLE),
    "P10 200 empty": Case(always_answers(200, b""), UNREADABLE),
    "P10 200 truncated": Case(always_answers(200, made.text(CHARGE).encode()[:-20]), UNREADABLE),
    "P10 200 wrong shape": Case(always_answers(200, b'[{"object": "charge"}]'), UNREADABLE),
    "P10 200 wrong object": Case(always_answers(200, made.refund_data()), UNREADABLE),
    "P10 200 wrong object, refund": Case(always_answers(200, CHARGE), UNREADABLE, "create_refund"),
    "P10 200 other currency": Case(
        always_answers(200, CHARGE | {"currency": "usd"}), Facts(("currency",))
    ),
    "P11 amount": Case(always_answers(200, CHARGE | {"amount": 99}), Facts(("amount",))),
    "P11 app": Case(always_answers(200, CHARGE | {"app": "app_Other"}), Facts(("app",))),
    "P11 livemode": Case(always_answers(200, CHARGE | {"livemode": True}), Facts(("livemode",))),
    "P11 out_trade_no": Case(
        always_answers(200, CHARGE | {"order_no": "B2"}), Facts(("out_trade_no",))
    ),
    "P11 all as asked": Case(always_answers(200, CHARGE), Facts()),
    "P12 slow": Case(slowly, Facts()),
    "P12 too slow": Case(wire.never, Unknown("timeout"), "retrieve_charge", stalls=True),
    "P13 reset at once": Case(wire.cut(b""), Unknown("connection_lost")),
    "P13 reset in the head": Case(wire.cut(GOOD[:30]), CUT),
    "P13 reset after the head": Case(wire.cut(GOOD[:HEAD]), CUT),
    "P13 reset before the last byte": Case(wire.cut(GOOD[:-1]), CUT),
    "P13 closed at once": Case(wire.close(b""), Unknown("connection_lost")),
    "P13 closed in the body": Case(wire.close(GOOD[:-1]), Unknown("answer_cut_short")),
    "P13 half open": Case(wire.always(b""), Unknown("timeout"), stalls=True),
    "P13 half open in the head": Case(wire.always(GOOD[:30]), Unknown("timeout"), stalls=True),
    "P13 half open in the body": Case(wire.always(GOOD[:-1]), Unknown("timeout"), stalls=True),
}


def test_no_fault_is_left_out() -> None:
    """P3 to P7 are what flows make of a lost answer; what a verdict decides is here."""
    faults = {int(name.split()[0].removeprefix("P")) for name in TABLE}
    assert faults == {1, 2, *range(8, 14)}


@pytest.mark.parametrize("fault", TABLE)
async def test_each_fault_has_its_verdict(fault: str) -> None:
    """Exactly what the table says is proven, and one request has left at the most (I2, I5)."""
    case = TABLE[fault]
    verdict, requests = await _verdict(case)
    assert requests == (0 if isinstance(case.does, str) else 1)
    if isinstance(case.proven, Facts):
        assert isinstance(verdict, Done)
        _check_charge(verdict, case.proven.wrong)
    elif isinstance(case.proven, tuple):
        assert verdict in case.proven
    else:
        assert verdict == case.proven


async def _verdict(case: Case) -> tuple[Any, int]:
    """The client's verdict, and how many requests have arrived."""
    if isinstance(case.does, str):
        with wire.refusing() if case.does == NOBODY else wire.swallowing() as url:
            options = made.options(url, connect_timeout=BRIEF[0])
            async with PingppClient(options) as psp:
                return await CALLS[case.call](psp), 0
    for limit in BRIEF if case.stalls else (made.options().total_timeout,):
        async with wire.serving(case.does) as server:
            async with PingppClient(made.options(server.url, total_timeout=limit)) as psp:
                verdict = await CALLS[case.call](psp)
            if server.received:
                break
    return verdict, len(server.received)


def _check_charge(verdict: Done[Any], wrong: tuple[str, ...]) -> None:
    """What is not as it was asked for is quarantined and pays nothing (I4)."""
    asked = made.charge()
    assert mismatches(asked, verdict.answer) == wrong
    paid = replace(verdict.answer, paid=True)
    observation = ChargeObservation(ChargeReport.PAID, ObservedBy.CREATE, made.NOW, paid)
    event = observe(asked, observation, order_paid=False).event
    assert event == ("charge_quarantined" if wrong else "charge_succeeded")
