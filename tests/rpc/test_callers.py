"""Names in client certificates: which of them is whose, and who may call what."""

from ipaddress import ip_address

import pytest
from cryptography import x509

from midas.rpc.callers import CERTIFICATE, Callers, is_name, missing_kind, names
from tests.rpc.certificates import Authority

METHOD = "midas.v1.PaymentService/Charge"
AUTHORITY = Authority()
EVERY_KIND = AUTHORITY.issue_with(
    "order-service",
    x509.DNSName("orders.internal"),
    x509.UniformResourceIdentifier("spiffe://shop/orders"),
    x509.RFC822Name("orders@shop.example"),
    x509.IPAddress(ip_address("192.0.2.7")),
).certificate
OF_EVERY_KIND = (
    "CN:order-service",
    "DNS:orders.internal",
    "URI:spiffe://shop/orders",
    "EMAIL:orders@shop.example",
    "IP:192.0.2.7",
)


def permits(written: str, pem: bytes) -> bool:
    """Whether a list with this name alone lets the certificate in."""
    callers = Callers({written: frozenset({METHOD})})
    caller = callers.permitted({CERTIFICATE: [pem]}, METHOD)
    assert caller in (None, written)
    return caller is not None


def test_every_name_has_its_kind() -> None:
    """All of them are read, the common name first."""
    assert names({CERTIFICATE: [EVERY_KIND]}) == OF_EVERY_KIND
    assert names({}) == ()


@pytest.mark.parametrize("name", OF_EVERY_KIND)
def test_a_name_with_its_kind_is_that_name_alone(name: str) -> None:
    """The same text as another kind is another name."""
    assert permits(name, EVERY_KIND)
    kind, _, text = name.partition(":")
    for other in {"CN", "DNS", "URI", "EMAIL", "IP"} - {kind}:
        assert not permits(f"{other}:{text}", EVERY_KIND)


def test_a_name_without_a_kind_is_a_common_name_or_a_dns_name() -> None:
    """Older lists have such names; no URI and no e-mail address passes for one."""
    assert permits("order-service", EVERY_KIND)
    assert permits("orders.internal", EVERY_KIND)
    for name in ("spiffe://shop/orders", "orders@shop.example", "192.0.2.7"):
        assert not permits(name, EVERY_KIND)
    for disguised in (
        x509.UniformResourceIdentifier("order-service"),
        x509.RFC822Name("order-service"),
    ):
        assert not permits("order-service", AUTHORITY.issue_with("x", disguised).certificate)


def test_a_common_name_cannot_pretend_to_be_of_another_kind() -> None:
    """With any content it stays a common name."""
    pem = AUTHORITY.issue_with("DNS:orders.internal").certificate
    assert not permits("DNS:orders.internal", pem)
    assert permits("CN:DNS:orders.internal", pem)


@pytest.mark.parametrize("end", ["\0.evil", "\0", " ", "\n"])
def test_a_name_is_read_to_its_end(end: str) -> None:
    """Grpc's own fields end at the first NUL; then `order-service` and more is `order-service`."""
    pem = AUTHORITY.issue_with(f"order-service{end}").certificate
    assert not permits("order-service", pem)
    assert names({CERTIFICATE: [pem]}) == (f"CN:order-service{end}",)


def test_a_certificate_that_cannot_be_read_may_do_nothing() -> None:
    """It is no error either."""
    assert not permits("order-service", b"-----BEGIN CERTIFICATE-----\nAAAA\n")


def test_what_may_stand_in_a_list() -> None:
    """A colon belongs to a kind; everything else is a mistake that stops the start."""
    assert all(is_name(each) for each in (*OF_EVERY_KIND, "order-service", "IP:2001:db8::7"))
    never = ("IP:orders.internal", "IP:2001:DB8::7", "IP:192.0.2.07", "EMAIL:orders", "IP:")
    assert not any(is_name(each) for each in ("", " ", "cn:x", "spiffe://x", "DNS:", ":x", *never))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("orders@shop.example", "EMAIL"),
        ("192.0.2.7", "IP"),
        ("2001:db8::7", "IP"),
        ("spiffe://shop/orders", "URI"),
        ("https://u@shop/orders", "URI"),
        *((each, "") for each in OF_EVERY_KIND),
        ("order-service", ""),
        ("orders.internal", ""),
        ("CN:orders@shop.example", ""),
        ("CN:192.0.2.7", ""),
        ("1.2.3", ""),
    ],
)
def test_a_name_that_needs_its_kind(name: str, kind: str) -> None:
    """Without it the entry would permit nobody, and nobody would notice."""
    assert missing_kind(name) == kind
