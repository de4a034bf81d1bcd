"""`midas charge`: what it sends and what it prints."""

import json
import time
from collections.abc import Iterator

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from midas.v1 import charge_pb2
from midas.v1.charge_pb2 import Charge
from midas.v1.payment_service_pb2 import ChargeResponse
from tests.cli.double import answered, run, run_alone

ORDER = ["charge", "--order-no", "A1", "--channel", "wx_pub_qr", "--amount", "1234"]
TEA = [*ORDER, "--subject", "Tea"]
SECRET = '{\n    "id": "ch_1",\n    "credential": "weixin://once"\n}'
OPEN = ChargeResponse(
    charge=Charge(
        order_no="A1",
        out_trade_no="N" * 20,
        charge_id="ch_1",
        state=charge_pb2.CHARGE_STATE_PENDING,
        channel="wx_pub_qr",
        amount=1234,
        currency="cny",
        subject="Tea [bold]",
        created_at=Timestamp(seconds=1_700_000_000),
        observed_by=charge_pb2.OBSERVED_BY_CREATE,
    ),
    charge_json=SECRET,
)


def test_every_option_reaches_its_field() -> None:
    """Each option of the command is a field of the request, and defaults are filled in."""
    more = ["--currency", "usd", "--body", "Two cups", "--client-ip", "10.0.0.1"]
    pairs = ["--metadata", "table=4", "--metadata", "note=a=b", "--expires-in", "1h30m"]
    extra = ["--extra", '{"product_id": "p", "limit": 1, "deep": {"list": [true, null]}}']
    ran = run("Charge", [*TEA, *more, *pairs, *extra], answered(OPEN))
    sent = MessageToDict(ran.request, preserving_proto_field_name=True)
    assert sent == {
        "order_no": "A1",
        "channel": "wx_pub_qr",
        "amount": "1234",
        "currency": "usd",
        "subject": "Tea",
        "body": "Two cups",
        "client_ip": "10.0.0.1",
        "extra": {"product_id": "p", "limit": 1.0, "deep": {"list": [True, None]}},
        "metadata": {"table": "4", "note": "a=b"},
        "expires_in": "5400s",
    }


def test_defaults() -> None:
    """Without options the body is the subject, and no extra and no expiry are sent."""
    request = run("Charge", TEA, answered(OPEN)).request
    assert (request.body, request.currency, request.client_ip) == ("Tea", "cny", "127.0.0.1")
    assert not request.HasField("extra")
    assert not request.HasField("expires_in")


@pytest.fixture
def in_shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Eight hours ahead of UTC."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "CST-8")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_shanghai")
def test_people_see_both_ways_of_writing_the_amount() -> None:
    """The human output has the state and the amount twice, and keeps markup as text.

    Times are those of the reader's clock, to the second.
    """
    ran = run("Charge", TEA, answered(OPEN))
    assert ran.status == 0
    assert "Charge 12.34 CNY (1234 fen): PENDING" in ran.result.stdout
    assert "Tea [bold]" in ran.result.stdout
    assert "no real money" in ran.result.stdout
    assert "  2023-11-15 06:13:20 " in ran.result.stdout


def test_the_credential_is_printed_only_on_request() -> None:
    """Human output leaves Ping++'s JSON out, unless --charge-json asks for it, byte for byte."""
    assert "weixin" not in run("Charge", TEA, answered(OPEN)).result.stdout
    assert SECRET in run("Charge", [*TEA, "--charge-json"], answered(OPEN)).result.stdout


def test_a_reused_charge_is_marked() -> None:
    """A charge that was open before is distinguished from a new one."""
    again = ChargeResponse()
    again.CopyFrom(OPEN)
    again.reused = True
    assert "open already" in run("Charge", TEA, answered(again)).result.stdout
    assert run("Charge", [*TEA, "--json"], answered(again)).data["reused"] is True


def test_json_has_every_field_in_minor_units() -> None:
    """--json gives one object: amounts as numbers, states without prefix, times in UTC."""
    ran = run("Charge", [*TEA, "--json"], answered(OPEN))
    assert ran.status == 0
    assert ran.data["ok"] is True
    assert ran.data["charge_json"] == SECRET
    charge = ran.data["charge"]
    assert set(charge) == {field.name for field in Charge.DESCRIPTOR.fields}
    assert (charge["amount"], charge["state"]) == (1234, "PENDING")
    assert (charge["observed_by"], charge["refunds"]) == ("CREATE", [])
    assert charge["created_at"] == "2023-11-14T22:13:20+00:00"
    assert charge["paid_at"] is None


def test_wrong_usage_sends_nothing() -> None:
    """What cannot be read ends with status 2 and shows how to write it, before any call."""
    for wrong, message in (
        (["--amount", "12.34"], "integer"),
        (["--amount", "19.90"], "write 1990 ["),
        (["--amount", "0.5"], "write 50 ["),
        (["--amount", "0"], "0"),
        (["--amount", str(2**63)], "range"),
        (["--extra", "[1]"], "JSON object"),
        (["--extra", '{"a": NaN}'], "JSON object"),
        (["--extra", "{" * 100_000], "JSON object"),
        (["--expires-in", "soon"], "30m"),
        (["--expires-in", ""], "30m"),
        (["--metadata", "table"], "name=value"),
        (["--metadata", "a=1", "--metadata", "a=2"], "twice"),
        (["--subject", "\ud800"], "valid text"),
        (["--timeout", "0"], "0"),
        (["--tls-cert", __file__], "--tls-key"),
        (["--tls-ca", "/nowhere/ca.pem"], "does not exist"),
    ):
        result = run_alone(*TEA, *wrong)
        assert result.exit_code == 2, wrong
        assert message in result.stderr, wrong
        assert "midas charge --help" in result.stderr
        assert result.stdout == ""


def test_wrong_usage_as_json() -> None:
    """With --json a usage error is one object on standard output too."""
    result = run_alone(*ORDER, "--json")
    printed = json.loads(result.stdout)
    assert result.exit_code == 2
    assert result.stderr == ""
    assert (printed["ok"], printed["error"]["reason"]) == (False, "USAGE")
    assert (printed["error"]["money_moved"], printed["error"]["retry"]) == ("NO", "NEVER")
