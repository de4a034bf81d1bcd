"""What the pages show, read as HTML; `test_browser.py` looks at them in a browser."""

import re
from html import unescape

import aiohttp
import pytest

from midas.sandbox.app import SandboxServer
from tests.sandbox.shop import Shop


@pytest.fixture
def shop(server: SandboxServer) -> Shop:
    """A merchant of the served look-alike."""
    return Shop(server.lookalike)


async def text_of(http: aiohttp.ClientSession, path: str) -> str:
    """The words of a page, in their order."""
    async with http.get(path) as response:
        page = (await response.text()).partition("</head>")[2]
    return " ".join(unescape(re.sub("<[^>]*>", " ", page)).split())


async def test_the_list_shows_subject_and_amount_first(
    http: aiohttp.ClientSession, shop: Shop
) -> None:
    """What a person knows an order by; its number and channel are below."""
    shop.charge("ORDER0000001", subject="Green tea & cups", amount=1990)
    assert ("Green tea & cups ORDER0000001 · wx 19.90 CNY waiting for payment") in await text_of(
        http, "/"
    )
    async with http.get("/") as response:
        row = (await response.text()).partition("<table>")[2]
    assert row.index("Green tea") < row.index("ORDER0000001")


@pytest.mark.parametrize(
    ("refunded", "state", "shown"),
    [(0, "paid", ""), (1, "partly refunded", "Refunded 0.01 CNY"),
     (1989, "partly refunded", "Refunded 19.89 CNY"), (1990, "refunded", "Refunded 19.90 CNY")],
)  # fmt: skip
async def test_a_partial_refund_is_shown_as_such(
    http: aiohttp.ClientSession, shop: Shop, refunded: int, state: str, shown: str
) -> None:
    """In the list, and on the page of the payment with how much."""
    charge = shop.paid(amount=1990)
    if refunded:
        assert shop.refund(charge, amount=refunded)[0] == 200
    assert (await text_of(http, "/")).endswith(f"19.90 CNY {state}")
    page = await text_of(http, f"/pay/{charge['id']}")
    assert f"19.90 CNY {state}" in page
    assert shown in page
    assert ("Refunded" in page) == bool(shown)


async def test_the_digits_of_an_amount_stay_together(
    http: aiohttp.ClientSession, shop: Shop
) -> None:
    """To the last cent, also where a number of this size has no exact float."""
    largest = 100_000_000_000 - 1
    charge = shop.charge("ORDER0000001", amount=largest)
    for path in ("/", f"/pay/{charge['id']}"):
        async with http.get(path) as response:
            page = await response.text()
        assert '<span class="money">999999999.99</span> CNY' in page
        assert ".money{white-space:nowrap}" in page
