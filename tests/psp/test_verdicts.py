"""What an answer proves. Unknown is not failure (I5), and no class or code is without a verdict."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

import pytest

from midas.charge import ChargeFacts
from midas.ports import Done, NotDone, Refusal, Unknown, Verdict
from midas.psp import facts, sdk, verdicts
from midas.psp.codes import MEANINGS, Meaning
from midas.psp.signing import Verifier
from midas.psp.transport import Answer, Lost, NotSent
from midas.psp.verdicts import Health, health, judge
from tests.psp import made

REQUESTOR = sdk.Requestor(made.API_KEY, "https://api.pingxx.com", None)
GOOD = made.text(made.charge_data()).encode()


def judged(status: int, body: bytes, *, pays: bool = False) -> Verdict[ChargeFacts]:
    """What this answer proves to one who asked for a charge."""
    answer = Answer(status, body, "")
    return judge(answer, facts.read_charge, REQUESTOR, Verifier([]), pays_at_create=pays)


def test_every_class_of_the_sdk_has_a_verdict() -> None:
    """A class that a new version of the SDK brings cannot go unnoticed."""
    classes = {
        value
        for _, value in inspect.getmembers(sdk.errors, inspect.isclass)
        if issubclass(value, Exception)
    }
    assert classes == set(verdicts.VERDICTS)


def envelope(code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The parsed answer that the SDK hands on with an error."""
    body: dict[str, Any] = json.loads(made.error_body(code, param))
    return body


def invalid(status: int, code: str | None = None, param: str | None = None) -> Exception:
    """As the SDK makes it of a 400 or a 404."""
    body = envelope(code, param)
    return sdk.errors.InvalidRequestError("不行", param, code, "", status, body)  # type: ignore[no-any-return]


def channel(code: str | None = None) -> Exception:
    """As the SDK makes it of a 402."""
    return sdk.errors.ChannelError("不行", None, code, "", 402, envelope(code))  # type: ignore[no-any-return]


def other(kind: str, status: int | None, code: str | None = None) -> Exception:
    """One of those classes that hold nothing of their own."""
    return getattr(sdk.errors, kind)("不行", "", status, envelope(code))  # type: ignore[no-any-return]


def refused(refusal: Refusal, code: str = "", param: str = "") -> NotDone:
    """Proven not done, in the words of the envelope."""
    return NotDone(refusal, code=code, param=param, message="不行")


def declined(code: str) -> Unknown:
    """A bar code that the channel declined, which its payer may still confirm."""
    return Unknown(f"code_{code}", declined=refused(Refusal.REFUSED, code))


ROWS: list[tuple[Exception, bool, NotDone | Unknown]] = [
    # the error, whether the create call takes the money, and what is proven
    (invalid(400, param="amount"), False, refused(Refusal.REFUSED, param="amount")),
    (invalid(400, param="amount"), True, refused(Refusal.REFUSED, param="amount")),
    (invalid(400, param="id"), False, refused(Refusal.REFUSED, param="id")),
    (invalid(400), False, refused(Refusal.REFUSED)),
    (invalid(400, "brand_new"), False, refused(Refusal.REFUSED, "brand_new")),
    (invalid(400, "charge_closed"), True, refused(Refusal.REFUSED, "charge_closed")),
    (invalid(400, "charge_order_no_used"), False, Unknown("code_charge_order_no_used")),
    (invalid(400, "refund_pending"), True, Unknown("code_refund_pending")),
    (invalid(404, param="id"), False, refused(Refusal.NOT_FOUND, param="id")),
    (invalid(404, param="id"), True, refused(Refusal.NOT_FOUND, param="id")),
    (invalid(404, param="app"), False, refused(Refusal.REFUSED, param="app")),
    (invalid(404), False, refused(Refusal.REFUSED)),
    (invalid(404, "refund_not_found", "id"), False, Unknown("code_refund_not_found")),
    (other("AuthenticationError", 401), False, refused(Refusal.MIDAS_REJECTED)),
    (other("AuthenticationError", 401), True, refused(Refusal.MIDAS_REJECTED)),
    (other("AuthenticationError", 401, "x"), False, refused(Refusal.MIDAS_REJECTED, "x")),
    (channel("channel_request_error"), False, refused(Refusal.REFUSED, "channel_request_error")),
    (channel("channel_request_error"), True, declined("channel_request_error")),
    (channel("refund_refused_msg"), False, refused(Refusal.REFUSED, "refund_refused_msg")),
    (channel("channel_unexpected_error"), False, Unknown("code_channel_unexpected_error")),
    (channel("channel_connection_error"), True, Unknown("code_channel_connection_error")),
    (channel("brand_new"), False, Unknown("code_unlisted")),
    (channel("brand_new"), True, Unknown("code_unlisted")),
    (channel(), False, Unknown("code_unlisted")),
    (other("RateLimitError", 403), False, refused(Refusal.THROTTLED)),
    (other("RateLimitError", 403), True, refused(Refusal.THROTTLED)),
    (other("APIError", 500), False, Unknown("status_500")),
    (other("APIError", 200, "charge_closed"), True, Unknown("status_200")),
    (other("APIConnectionError", None), False, Unknown("status_None")),
    (other("APIConnectionError", 502), True, Unknown("status_502")),
    (other("PingppError", None), False, Unknown("status_None")),
    (other("PingppError", 418), True, Unknown("status_418")),
]


class Raising(sdk.Requestor):
    """Raises this error for each answer, as the SDK's own reading would."""

    def __init__(self, error: Exception) -> None:
        super().__init__(made.API_KEY, "https://api.pingxx.com", None)
        self._error = error

    def interpret_response(self, rbody: bytes, rcode: int, rheaders: Mapping[str, str]) -> str:
        """Raise it for any answer."""
        raise self._error


@pytest.mark.parametrize(("error", "pays", "verdict"), ROWS)
def test_every_row_is_executed(error: Exception, pays: bool, verdict: NotDone | Unknown) -> None:
    """From an error of the SDK to exactly this verdict, and no other word of it is believed."""
    proven = judge(
        Answer(200, b"", ""), facts.read_charge, Raising(error), Verifier([]), pays_at_create=pays
    )
    assert proven == verdict


def test_no_class_is_without_an_executed_row() -> None:
    """Each class that has a row in the product is played above."""
    assert {type(error) for error, _, _ in ROWS} == set(verdicts.VERDICTS)


@pytest.mark.parametrize(
    ("status", "body", "refusal"),
    [
        (400, made.error_body(param="amount"), Refusal.REFUSED),
        (400, made.error_body("charge_request_invalid"), Refusal.REFUSED),
        (400, made.error_body("a_new_code"), Refusal.REFUSED),
        (401, made.error_body(), Refusal.MIDAS_REJECTED),
        (402, made.error_body("channel_request_error"), Refusal.REFUSED),
        (403, made.error_body(), Refusal.THROTTLED),
        (404, made.error_body(param="id"), Refusal.NOT_FOUND),
        (404, made.error_body(), Refusal.REFUSED),
    ],
)
def test_what_proves_that_nothing_was_done(status: int, body: bytes, refusal: Refusal) -> None:
    """A whole envelope with a status that refuses; 404 is absence only where it names the id."""
    verdict = judged(status, body)
    assert isinstance(verdict, NotDone)
    assert verdict.refusal is refusal
    assert verdict.message == "不行"
    assert health(verdict, hurried=False) is Health.GOOD


NO_ENVELOPES = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"<html>502</html>",
    b'{"error": null}',
    b'{"error": "not found"}',
    b'{"error": []}',
    b'{"error": {}}',
    b'{"error": {"message": null, "type": "x"}}',
    b'{"error": {"message": "gone"}}',
    b'{"error": {"message": "gone", "code": 404}}',
    b'{"error": {"message": "gone", "type": "x", "param": 1}}',
    b'{"error": {"message": "gone", "type": "x"',
    b'{"error": {"message": "gone", "type": "x", "type": "y"}}',
    b'\xff{"error": {"message": "gone", "type": "x"}}',
    "订单不存在".encode("gbk"),
    b"[" * 100_000,
    GOOD,
]


@pytest.mark.parametrize("body", NO_ENVELOPES)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
def test_a_refusing_status_alone_proves_nothing(status: int, body: bytes) -> None:
    """A proxy's page, half an envelope or another shape may hide a charge that was made."""
    verdict = judged(status, body)
    assert verdict == Unknown("unreadable_answer")
    assert health(verdict, hurried=False) is Health.BAD


@pytest.mark.parametrize("status", [100, 202, 204, 301, 302, 307, 405, 408, 409, 410, 418, 422])
@pytest.mark.parametrize("body", [GOOD, made.error_body("refund_refused"), b""])
def test_other_statuses_prove_nothing(status: int, body: bytes) -> None:
    """With any body."""
    assert judged(status, body) == Unknown(f"status_{status}")


@pytest.mark.parametrize("status", [429, 500, 501, 502, 503, 504, 520])
@pytest.mark.parametrize("body", [GOOD, made.error_body("refund_refused"), b"<html>"])
def test_troubled_statuses_prove_nothing(status: int, body: bytes) -> None:
    """5xx is bad health; a limit of calls is an answer."""
    verdict = judged(status, body)
    assert verdict == Unknown(f"status_{status}")
    assert health(verdict, hurried=False) is (Health.GOOD if status == 429 else Health.BAD)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{",
        GOOD[:-20],
        b"{}",
        b"null",
        made.text(made.refund_data()).encode(),
        made.error_body("refund_refused"),
        made.text(made.charge_data(amount="100")).encode(),
        made.text(made.charge_data(object="order")).encode(),
        GOOD.replace(b'"paid"', b'"paid": true, "paid"'),
        GOOD.replace("订单".encode(), "订单".encode("gbk")),
    ],
)
def test_200_alone_proves_nothing(body: bytes) -> None:
    """A 2xx that cannot be read as the thing asked for leaves the outcome open."""
    assert judged(200, body) == Unknown("unreadable_answer")


@pytest.mark.parametrize(("code", "meaning"), sorted(MEANINGS.items()))
def test_a_channel_error_is_decided_by_its_code(code: str, meaning: Meaning) -> None:
    """With HTTP 402 a code proves "not done" or nothing, by its row."""
    verdict = judged(402, made.error_body(code, kind="channel_error"))
    if meaning is Meaning.NOT_DONE:
        assert verdict == NotDone(Refusal.REFUSED, code=code, message="不行")
    else:
        assert verdict == Unknown(f"code_{code}")
    assert health(verdict, hurried=False) is Health.GOOD


@pytest.mark.parametrize(("code", "meaning"), sorted(MEANINGS.items()))
def test_a_bar_code_that_was_refused_may_still_be_paid(code: str, meaning: Meaning) -> None:
    """Where the create call takes the money, no word of the channel is proof (P5).

    With a code that means "not done" the verdict has the decline all the same.
    """
    verdict = judged(402, made.error_body(code), pays=True)
    if meaning is Meaning.NOT_DONE:
        assert verdict == declined(code)
    else:
        assert verdict == Unknown(f"code_{code}", declined=None)


def test_only_a_402_declines_a_bar_code() -> None:
    """With 400 the channel was not asked, and any other status proves nothing."""
    body = made.error_body("channel_request_error")
    assert judged(400, body, pays=True) == refused(Refusal.REFUSED, "channel_request_error")
    assert judged(500, body, pays=True) == Unknown("status_500", declined=None)


def test_unlisted_codes() -> None:
    """With 402 the channel was asked: unknown, and not repeated. With 400 it was not: refused."""
    assert judged(402, made.error_body("brand_new")) == Unknown("code_unlisted")
    assert judged(402, made.error_body()) == Unknown("code_unlisted")
    assert isinstance(judged(400, made.error_body("brand_new")), NotDone)


@pytest.mark.parametrize(
    "code",
    ["charge_order_no_used", "refund_pending", "refund_wait_operation", "channel_connection_error"],
)
def test_codes_of_open_outcomes_count_with_400_too(code: str) -> None:
    """They mean "ask later" with every status."""
    assert judged(400, made.error_body(code)) == Unknown(f"code_{code}")


def test_with_keys_only_signed_answers_are_believed() -> None:
    """Neither success nor refusal counts unsigned, signed by another, or altered."""
    verifier = Verifier([made.public_pem("pingpp")])

    def with_keys(status: int, body: bytes, signature: str) -> Any:
        return judge(Answer(status, body, signature), facts.read_charge, REQUESTOR, verifier)

    refusal = made.error_body("refund_refused")
    assert isinstance(with_keys(200, GOOD, made.signature(GOOD)), Done)
    assert isinstance(with_keys(402, refusal, made.signature(refusal)), NotDone)
    for status, body in ((200, GOOD), (402, refusal), (404, made.error_body(param="id"))):
        for wrong in ("", "AAAA", made.signature(body, "other"), made.signature(body + b"\n")):
            assert with_keys(status, body, wrong) == Unknown("bad_answer_signature")
    assert health(Unknown("bad_answer_signature"), hurried=True) is Health.BAD


def test_transport_outcomes() -> None:
    """Never sent may be sent again; lost may have been done."""
    verifier = Verifier([])
    unsent = judge(NotSent("connect_failed"), facts.read_charge, REQUESTOR, verifier)
    lost = judge(Lost("timeout"), facts.read_charge, REQUESTOR, verifier)
    assert unsent == NotDone(Refusal.NOT_SENT, message="connect_failed")
    assert lost == Unknown("timeout")
    assert [health(each, hurried=False) for each in (unsent, lost)] == [Health.BAD, Health.BAD]
    assert [health(each, hurried=True) for each in (unsent, lost)] == [Health.BAD, Health.NEITHER]


def test_words_of_ping_are_made_harmless() -> None:
    """Control characters and lone surrogates are gone, and no text is endless."""
    body = b'{"error": {"type": "x", "message": "a\\u0000\\ud800\\n' + b"b" * 5000 + b'"}}'
    verdict = judged(400, body)
    assert isinstance(verdict, NotDone)
    assert verdict.message.startswith("a   bbb")
    assert len(verdict.message) == 1000
    verdict.message.encode()


def test_a_callers_short_time_does_not_count_against_ping() -> None:
    """Neither before the request was sent nor after; the end of the full time counts."""
    for reason in ("timeout", "no_time_left"):
        for verdict in (NotDone(Refusal.NOT_SENT, message=reason), Unknown(reason)):
            assert health(verdict, hurried=True) is Health.NEITHER
            assert health(verdict, hurried=False) is Health.BAD


def test_created_is_believed_as_much_as_ok() -> None:
    """201 with a whole charge in it is an answer."""
    assert isinstance(judged(201, GOOD), Done)


@pytest.mark.parametrize("code", [["charge_closed"], {"charge_closed": 1}, 402, True])
@pytest.mark.parametrize("pays", [False, True])
def test_a_code_that_is_no_text_is_no_code(code: object, pays: bool) -> None:
    """Any other kind of value proves nothing, and does not end in an error of Midas."""
    body = {"error": {"type": "x", "message": "不行", "code": code}}
    of_channel = sdk.errors.ChannelError("不行", None, code, "", 402, body)
    of_request = sdk.errors.InvalidRequestError("不行", None, code, "", 400, body)
    proven = [
        judge(
            Answer(200, b"", ""),
            facts.read_charge,
            Raising(error),
            Verifier([]),
            pays_at_create=pays,
        )
        for error in (of_channel, of_request)
    ]
    assert proven == [Unknown("code_unlisted"), refused(Refusal.REFUSED)]


def test_codes_and_parameters_are_cut() -> None:
    """They go into the journal and into log lines."""
    verdict = judged(400, made.error_body("c" * 5000, "p" * 5000))
    assert isinstance(verdict, NotDone)
    assert (len(verdict.code), len(verdict.param)) == (100, 100)
