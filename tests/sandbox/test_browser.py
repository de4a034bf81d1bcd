"""The pages in a real browser: what a payer sees, presses and reloads."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from midas.sandbox.app import SandboxServer
from tests.sandbox.shop import Json, Shop

PAGE_TIMEOUT_S = 60
pytestmark = pytest.mark.long
PHONE = {"width": 320, "height": 568, "deviceScaleFactor": 2, "mobile": True}
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
PAGE_READY = "return document.readyState === 'complete' ? performance.timeOrigin : null"
MARKUP = '<script>document.title="x"</script><img src=//no.invalid/>'


class Browser:
    """A Chromium with one window, driven from beside the event loop that the server needs."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    async def open(self, url: str) -> None:
        """Type an address."""
        await asyncio.to_thread(self.driver.get, url)

    async def reload(self) -> None:
        """Press F5."""
        await asyncio.to_thread(self.driver.refresh)

    async def press(self, label: str) -> None:
        """Press a button, and wait for the page that follows.

        The two pages differ in when they began. The usual question, whether the button is stale,
        may fall into the moment at which Chromium swaps the documents. Then it is an error ("Node
        with given id does not belong to the document") instead of an answer.
        """

        def click() -> None:
            left = self.driver.execute_script(PAGE_READY)
            self.driver.find_element(By.XPATH, f"//button[text()='{label}']").click()
            WebDriverWait(
                self.driver, PAGE_TIMEOUT_S, ignored_exceptions=[WebDriverException]
            ).until(lambda driver: driver.execute_script(PAGE_READY) not in (None, left))

        await asyncio.to_thread(click)

    async def read(self, selector: str) -> list[str]:
        """The visible text of each of these elements."""

        def texts() -> list[str]:
            return [each.text for each in self.driver.find_elements(By.CSS_SELECTOR, selector)]

        return await asyncio.to_thread(texts)

    async def asked(self) -> set[str]:
        """The hosts that were asked for something since this was last called."""
        entries = await asyncio.to_thread(self.driver.get_log, "performance")
        messages = [json.loads(each["message"])["message"] for each in entries]
        urls = [
            urlsplit(each["params"]["request"]["url"])
            for each in messages
            if each["method"] == "Network.requestWillBeSent"
        ]
        return {url.netloc for url in urls if url.scheme != "data"}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A headless Chromium with an empty profile."""
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        absent = "chromium and chromedriver are not both installed"
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    options = webdriver.ChromeOptions()
    options.binary_location = str(paths[0])
    profile: Path = tmp_path_factory.mktemp("chromium")
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, Service(str(paths[1])))
    try:
        driver.set_page_load_timeout(PAGE_TIMEOUT_S)
        yield driver
    finally:
        driver.quit()


@pytest.fixture
async def browser(chromium: webdriver.Chrome, server: SandboxServer) -> AsyncIterator[Browser]:
    """The browser; every test also proves that nothing was loaded from another host."""
    browser = Browser(chromium)
    await browser.open("about:blank")
    await browser.asked()
    yield browser
    assert await browser.asked() == {urlsplit(server.url).netloc}


@pytest.fixture
def phone(chromium: webdriver.Chrome) -> Iterator[None]:
    """The browser has the screen of a small phone."""
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    yield
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def shop(server: SandboxServer) -> Shop:
    """A merchant of the served look-alike."""
    return Shop(server.lookalike)


def payment_link(shop: Shop, **terms: Any) -> tuple[Json, str]:
    """An unpaid charge and the link that its payer gets."""
    charge = shop.charge(channel="wx_pub_qr", **terms)
    return charge, charge["credential"]["wx_pub_qr"]


def approval_link(shop: Shop) -> tuple[Json, str]:
    """An Alipay refund that waits for a person, and the link for that person."""
    shop.lookalike.plan_refund("alipay_link")
    _, refund = shop.refund(shop.paid(channel="alipay"), description="凉了")
    return refund, refund["failure_msg"][refund["failure_msg"].index("http") :]


async def test_a_payer_cancels_then_pays_once(
    browser: Browser, server: SandboxServer, shop: Shop
) -> None:
    """Cancel moves no money, Confirm moves it once, and loading the page again moves no more."""
    charge, link = payment_link(shop)
    await browser.open(link)
    assert await browser.read(".subject, .amount, .state") == [
        "测试订单",
        "1.00 CNY",
        "waiting for payment",
    ]
    await browser.press("Cancel")
    assert await browser.read(".state") == ["waiting for payment"]
    assert payments(server, charge) == []
    await browser.press("Confirm")
    assert await browser.read(".state, button") == ["paid"]
    await browser.reload()
    assert await browser.read(".state, button") == ["paid"]
    assert payments(server, charge) == [100]


async def test_a_payer_with_two_windows_pays_once(
    browser: Browser, server: SandboxServer, shop: Shop
) -> None:
    """Confirm on a page from before the payment says paid and moves nothing."""
    charge, link = payment_link(shop)
    await browser.open(link)
    shop.lookalike.pay(charge["id"])
    await browser.press("Confirm")
    assert await browser.read(".state, button") == ["paid"]
    assert payments(server, charge) == [100]


async def test_an_expired_charge_offers_no_confirm(
    browser: Browser, server: SandboxServer, shop: Shop
) -> None:
    """Once expired, the page has no buttons, and a page from before cannot pay either."""
    charge, link = payment_link(shop)
    await browser.open(link)
    server.clock.advance(7200)
    await browser.press("Confirm")
    assert await browser.read("h1, button") == ["Not possible"]
    await browser.open(link)
    assert await browser.read(".state, button") == ["expired"]
    assert payments(server, charge) == []


@pytest.mark.parametrize(
    ("label", "status", "given_back"),
    [("Approve refund", "succeeded", 100), ("Refuse", "failed", 0)],
)
async def test_a_person_decides_a_refund(
    browser: Browser, server: SandboxServer, shop: Shop, label: str, status: str, given_back: int
) -> None:
    """The link of an Alipay refund leads to a page on which a person approves or refuses it."""
    refund, link = approval_link(shop)
    await browser.open(link)
    assert await browser.read(".subject, .amount, .state") == ["凉了", "1.00 CNY", "pending"]
    await browser.press(label)
    assert await browser.read(".state, button") == [status]
    await browser.reload()
    assert await browser.read(".state, button") == [status]
    assert server.lookalike.refund(refund["id"])["status"] == status
    assert server.lookalike.ledger.refunded(refund["charge"]) == given_back


async def test_what_the_merchant_wrote_is_text(browser: Browser, shop: Shop) -> None:
    """Markup in a subject is shown as it was written: no script runs, no image is asked for."""
    _, link = payment_link(shop, subject=MARKUP[:32])
    await browser.open(link)
    assert await browser.read(".subject") == [MARKUP[:32]]
    _, link = payment_link(shop, order_no="ORDER0000002", subject=MARKUP[-32:])
    await browser.open(link)
    assert await browser.read(".subject") == [MARKUP[-32:]]
    assert browser.driver.title == "Payment"


@pytest.mark.usefixtures("phone")
async def test_every_page_fits_a_phone(browser: Browser, server: SandboxServer, shop: Shop) -> None:
    """On a narrow screen nothing is wider than the screen, also with the longest words."""
    largest = 100_000_000_000 - 1
    _, paying = payment_link(shop, order_no="O" * 32, subject="W" * 32, amount=largest)
    _, approving = approval_link(shop)
    script = "return document.documentElement.scrollWidth"
    lines = "return [...document.querySelectorAll('.money')].map(e => e.getClientRects().length)"
    for url in (paying, approving, f"{server.url}/", f"{server.url}/pay/ch_unknown"):
        await browser.open(url)
        width = await asyncio.to_thread(browser.driver.execute_script, script)
        assert width == PHONE["width"], url
        broken = await asyncio.to_thread(browser.driver.execute_script, lines)
        assert set(broken) <= {1}, url


def payments(server: SandboxServer, charge: Json) -> list[int]:
    """The amounts of each payment of this charge in the ledger of money."""
    return [
        entry.amount
        for entry in server.lookalike.ledger.entries
        if entry.kind == "charge_paid" and entry.order_no == charge["order_no"]
    ]
