"""Answers that Ping++ itself made are read, and their signatures verify."""

import re
from pathlib import Path

import pytest

from midas.charge import ChargeFacts
from midas.ports import Done, NotDone, RefundPage, Refusal, Unknown, Verdict
from midas.psp import facts
from midas.psp.sdk import Requestor
from midas.psp.signing import Verifier
from midas.psp.transport import Answer
from midas.psp.verdicts import judge
from midas.refund import RefundReport
from tests.psp import made

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
pytestmark = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="the recorded answers are not beside the repository"
)

REQUESTOR = Requestor(made.API_KEY, "https://api.pingxx.com", None)
RESPONSES = ["FetchRefundListSuccess", "RefundFromChannelFailure", "RefundAlreadyRefundedFailure"]


def recorded(name: str) -> Answer:
    """A recorded answer as the transport would hand it on."""
    head = (FIXTURES / "responses" / f"{name}.headers.txt").read_text()
    body = (FIXTURES / "responses" / f"{name}.body.json").read_bytes()
    status = re.match(r"HTTP/1.1 (\d+)", head)
    signature = re.search(r"(?mi)^X-Pingplusplus-Signature: (\S+)", head)
    assert status is not None
    assert signature is not None
    return Answer(int(status[1]), body, signature[1])


def keys(name: str) -> Verifier:
    """The recorded public key of this name."""
    return Verifier([(FIXTURES / "keys" / name).read_text()])


def judged(answer: Answer, verifier: Verifier) -> Verdict[RefundPage]:
    """What the answer proves to one who asked for a list of refunds."""
    return judge(answer, facts.read_refund_page, REQUESTOR, verifier)


@pytest.mark.parametrize("name", RESPONSES)
def test_recorded_signatures_verify(name: str) -> None:
    """With the account's key yes; with another account's key no."""
    answer = recorded(name)
    assert keys("omnipay-2016-recovered.pem").accepts(answer.signature, answer.body)
    assert not keys("ffzx-2017.pem").accepts(answer.signature, answer.body)


@pytest.mark.parametrize("name", RESPONSES)
def test_a_changed_byte_anywhere_spoils_the_signature(name: str) -> None:
    """Each byte of the body is covered; so are its length and its layout."""
    answer = recorded(name)
    verifier = keys("omnipay-2016-recovered.pem")
    for at in range(0, len(answer.body), 7):
        changed = bytearray(answer.body)
        changed[at] ^= 1
        assert not verifier.accepts(answer.signature, bytes(changed))
    assert not verifier.accepts(answer.signature, answer.body + b"\n")
    assert not verifier.accepts(answer.signature, answer.body.replace(b"    ", b" "))


def test_the_recorded_list_of_refunds() -> None:
    """One refund, done, with a foreign order's metadata and no transaction number."""
    verdict = judged(recorded("FetchRefundListSuccess"), keys("omnipay-2016-recovered.pem"))
    assert isinstance(verdict, Done)
    (refund,) = verdict.answer.refunds
    assert not verdict.answer.more
    assert (refund.refund_id, refund.amount) == ("re_LWn5y1mfXbj50ej1q5ar1GOC", 10)
    assert refund.report is RefundReport.DONE
    assert (refund.refund_no, refund.transaction_no, refund.currency) == ("", "", "")


def test_the_recorded_refund_that_failed_with_200() -> None:
    """HTTP 200 with status failed is an answer, and its report is failed (P8)."""
    answer = recorded("RefundFromChannelFailure")
    verdict = judge(answer, facts.read_refund, REQUESTOR, keys("omnipay-2016-recovered.pem"))
    assert isinstance(verdict, Done)
    assert verdict.answer.report is RefundReport.FAILED
    assert verdict.answer.failure_code == "refund_refused_msg"


def test_the_recorded_refusal() -> None:
    """Already refunded in full: refused, with the text for people; unsigned it proves nothing."""
    answer = recorded("RefundAlreadyRefundedFailure")
    verdict = judged(answer, keys("omnipay-2016-recovered.pem"))
    assert isinstance(verdict, NotDone)
    assert verdict.refusal is Refusal.REFUSED
    assert "已经全额退款" in verdict.message
    assert judged(answer, keys("ffzx-2017.pem")) == Unknown("bad_answer_signature")


def test_the_recorded_channel_error() -> None:
    """The channel answered something that Ping++ could not read: unknown."""
    body = (FIXTURES / "observed/error-402-channel_parse_error-alipay_wap-2015.json").read_bytes()
    assert judged(Answer(402, body, ""), Verifier([])) == Unknown("code_channel_parse_error")


@pytest.mark.parametrize(
    "path", sorted(FIXTURES.glob("observed/charge-create-*.json")), ids=lambda path: path.stem
)
def test_recorded_charges_are_read(path: Path) -> None:
    """Every create answer gives its facts, its credential and its own text."""
    text = path.read_text("utf-8")
    charge: ChargeFacts = facts.read_charge(text)
    assert charge.raw == text
    assert charge.has_credential
    assert not charge.paid
    assert charge.expires_at is not None
    assert charge.expires_at > charge.created_at
    assert charge.refunds_complete


def test_the_recorded_alipay_link_is_found() -> None:
    """The link of a pending Alipay refund is taken from the first "http" on."""
    message = (FIXTURES / "observed/alipay-refund-failure-msg-2016.txt").read_text("utf-8")
    data = made.refund_data(failure_code="refund_wait_operation", failure_msg=message)
    refund = facts.refund_facts(data)
    assert refund.report is RefundReport.WORKING
    assert refund.action_url == message[message.index("http") :].strip()
