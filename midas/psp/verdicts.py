"""Judges an answer: it proves that the call was done, that it was not done, or nothing (unknown).

One table over the SDK's error classes (reliability.md P10). HTTP 200 is not success by itself: the
answer must be readable, of the right kind and, where keys are configured, signed.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

from midas.ports import Done, NotDone, Refusal, Unknown, Verdict
from midas.psp.codes import MEANINGS, Meaning
from midas.psp.facts import Reader
from midas.psp.sdk import Requestor, errors
from midas.psp.signing import Verifier
from midas.psp.strict_json import Unreadable
from midas.psp.transport import NO_TIME_LEFT, TIMEOUT, Answer, Lost, NotSent, Sent

_Read = TypeVar("_Read")

_WORD_CHARACTERS = 100
_MESSAGE_CHARACTERS = 1000


class Health(Enum):
    """What a verdict means for the health of Ping++ itself; the circuit breaker counts it."""

    GOOD = "GOOD"
    BAD = "BAD"
    NEITHER = "NEITHER"


def judge(
    sent: Sent,
    read: Reader[_Read],
    requestor: Requestor,
    verifier: Verifier,
    *,
    pays_at_create: bool = False,
) -> Verdict[_Read]:
    """What is proven. `pays_at_create`: the channel was asked for the money by this very call."""
    match sent:
        case NotSent(reason):
            return NotDone(Refusal.NOT_SENT, message=reason)
        case Lost(reason):
            return Unknown(reason)
        case Answer():
            return _judge_answer(sent, read, requestor, verifier, pays_at_create)


def health(verdict: Verdict[Any], *, hurried: bool) -> Health:
    """Every answer that can be read is a good sign; so are limits and refusals.

    `hurried`: the caller gave less time than a connection may take; its end proves nothing.
    """
    match verdict:
        case NotDone(Refusal.NOT_SENT, message=reason):
            return Health.NEITHER if _ran_out(reason, hurried) else Health.BAD
        case Unknown(reason) if not reason.startswith(_ANSWERED):
            return Health.NEITHER if _ran_out(reason, hurried) else Health.BAD
    return Health.GOOD


def _ran_out(reason: str, hurried: bool) -> bool:
    return hurried and reason in (TIMEOUT, NO_TIME_LEFT)


_CODE = "code_"
_THROTTLED = "status_429"
_ANSWERED = (_CODE, _THROTTLED)


def _judge_answer(
    answer: Answer,
    read: Reader[_Read],
    requestor: Requestor,
    verifier: Verifier,
    pays_at_create: bool,
) -> Verdict[_Read]:
    if answer.status not in _BELIEVED:
        return Unknown(f"status_{answer.status}")
    if verifier and not verifier.accepts(answer.signature, answer.body):
        return Unknown("bad_answer_signature")
    try:
        return Done(read(requestor.interpret_response(answer.body, answer.status, {})))
    except Unreadable:
        return Unknown("unreadable_answer")
    except errors.PingppError as error:
        return _judge_error(error, pays_at_create)


_BELIEVED = frozenset({200, 201, 400, 401, 402, 403, 404})
"""The statuses whose content decides. Any other proves nothing (429 and all 5xx among them)."""


def _judge_error(error: errors.PingppError, pays_at_create: bool) -> NotDone | Unknown:
    details = error.json_body["error"]  # str(error) may raise (pingpp.md section 11, item 8)
    return VERDICTS[type(error)](error.http_status, details, pays_at_create)


def _invalid_request(status: int, details: Mapping[str, Any], _pays: bool) -> NotDone | Unknown:
    code = details.get("code")
    if isinstance(code, str) and MEANINGS.get(code) is Meaning.UNKNOWN:
        return Unknown(f"{_CODE}{code}")
    absent = status == 404 and details.get("param") == "id"
    return _not_done(Refusal.NOT_FOUND if absent else Refusal.REFUSED, details)


def _channel_error(_status: int, details: Mapping[str, Any], pays: bool) -> NotDone | Unknown:
    """The verdict on a 402. If the create call pays, a declined payment may still be under way."""
    code = details.get("code")
    meaning = MEANINGS.get(code) if isinstance(code, str) else None
    if meaning is None:
        return Unknown(f"{_CODE}unlisted")
    if meaning is Meaning.UNKNOWN:
        return Unknown(f"{_CODE}{code}")
    refused = _not_done(Refusal.REFUSED, details)
    return Unknown(f"{_CODE}{code}", declined=refused) if pays else refused


def _rejected(_status: int, details: Mapping[str, Any], _pays: bool) -> NotDone | Unknown:
    return _not_done(Refusal.MIDAS_REJECTED, details)


def _throttled(_status: int, details: Mapping[str, Any], _pays: bool) -> NotDone | Unknown:
    return _not_done(Refusal.THROTTLED, details)


def _unknown(status: int | None, _details: Mapping[str, Any], _pays: bool) -> NotDone | Unknown:
    return Unknown(f"status_{status}")


VERDICTS: Mapping[type, Callable[[int, Mapping[str, Any], bool], NotDone | Unknown]] = {
    errors.InvalidRequestError: _invalid_request,  # 400, 404
    errors.AuthenticationError: _rejected,  # 401
    errors.ChannelError: _channel_error,  # 402: decided by its code
    errors.RateLimitError: _throttled,  # 403
    errors.APIError: _unknown,  # every other answer
    errors.APIConnectionError: _unknown,  # only the SDK's own transport raises it; it is not used
    errors.PingppError: _unknown,  # the root of all
}
"""Every class in `pingpp.error`; a test walks that namespace."""


def _not_done(refusal: Refusal, details: Mapping[str, Any]) -> NotDone:
    return NotDone(
        refusal,
        code=_word(details.get("code")),
        param=_word(details.get("param")),
        message=_clean(details.get("message"))[:_MESSAGE_CHARACTERS],
    )


def _word(value: Any) -> str:
    return _clean(value)[:_WORD_CHARACTERS]


def _clean(value: Any) -> str:
    """The text without what no database or terminal takes: control characters, lone surrogates."""
    text = value if isinstance(value, str) else ""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
