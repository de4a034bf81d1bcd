"""The rule for callers about an error, in every place where they may look for it."""

import re
from pathlib import Path

import pytest

from midas import limits
from midas.rpc import server

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos" / "midas"


def words(text: str) -> str:
    """Without comment marks, emphasis and line breaks."""
    return " ".join(re.sub(r"^\s*//|[*`]", "", text, flags=re.MULTILINE).split())


README = (ROOT / "README.md").read_text()
PLACES = {
    "README, for callers": README.partition("## Use it from")[2].partition("\n## ")[0],
    "README, for the order service": README.partition("## Implement the")[2].partition("\n## ")[0],
    "payment_service.proto": (PROTOS / "v1/payment_service.proto").read_text(),
    "event_service.proto": (PROTOS / "v1/event_service.proto").read_text(),
    "errors.proto": (PROTOS / "v1/errors.proto").read_text(),
    "order_payment_service.proto": (PROTOS / "order/v1/order_payment_service.proto").read_text(),
    "rpc/errors.py": (ROOT / "midas/rpc/errors.py").read_text(),
}
SMALLEST_PING_S = server.KEEPALIVE_FROM_CLIENTS.total_seconds()
AGE_MIN = server.CONNECTION_AGE.total_seconds() / 60
GRACE_MIN = server.CONNECTION_AGE_GRACE.total_seconds() / 60


@pytest.mark.parametrize("place", PLACES)
def test_without_details_the_outcome_is_unknown(place: str) -> None:
    """One rule, in the same words, with what to do; nowhere does a code alone prove anything."""
    text = words(PLACES[place]).replace(", whatever its code,", "")
    rule = r"status without PaymentErrorDetail .*?means that the outcome is unknown.{0,150}same key"
    assert re.search(rule, text), place
    assert "UNAVAILABLE is used only where" not in text


@pytest.mark.parametrize(
    "place", ["README, for callers", "payment_service.proto", "event_service.proto"]
)
def test_how_large_a_request_may_be_is_documented(place: str) -> None:
    """Both sizes: who is far above the bound gets no details."""
    text = words(PLACES[place])
    most, read = limits.REQUEST_BYTES >> 10, limits.REQUEST_BYTES_READ >> 10
    assert re.search(rf"REQUEST_TOO_LARGE.{{0,90}}bove {read} KiB.{{0,100}}without", text)
    assert f" {most} KiB" in text


@pytest.mark.parametrize("place", ["README, for callers", "payment_service.proto"])
def test_what_ends_connections_is_documented(place: str) -> None:
    """The numbers that the server really has."""
    text = words(PLACES[place])
    assert f"ping (gRPC keepalive) every {SMALLEST_PING_S:.0f} seconds" in text
    assert f"after about {AGE_MIN:.0f} minutes" in text
    assert f" {GRACE_MIN:.0f} minutes more" in text
