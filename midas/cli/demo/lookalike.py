"""The other side of the demo: the payer, the merchant's staff, and the sandbox's own books."""

import http.client
import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from midas.psp.signing import Signer, Verifier

TIMEOUT_S = 10.0
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of the sandbox."""

    status: int
    body: bytes
    signature: str
    location: str

    def shows(self, text: str) -> bool:
        """Whether the text is on the page."""
        return self.status == HTTPStatus.OK and text.encode() in self.body


@dataclass(frozen=True, slots=True)
class Lookalike:
    """A sandbox at `url`, operated from outside."""

    url: str
    api_key: str
    signer: Signer
    verifier: Verifier

    def open(self, url: str) -> Page:
        """Somebody opens a page."""
        return self._http("GET", url)

    def press(self, url: str, button: str) -> Page:
        """Somebody presses `confirm`, `cancel` or `refuse` on a page, and sees what comes next."""
        answer = self._http("POST", url, urlencode({"decision": button}).encode(), FORM)
        if answer.status == HTTPStatus.SEE_OTHER:
            return self._http("GET", urljoin(url, answer.location))
        return answer

    def as_sent(self, charge_id: str) -> Page:
        """The charge as Ping++ sends it: the bytes and their signature."""
        path = f"/v1/charges/{quote(charge_id)}"
        now = str(int(time.time()))
        headers = {
            "Authorization": f"Bearer {self.api_key}",
            "Pingplusplus-Request-Timestamp": now,
            "Pingplusplus-Signature": self.signer.sign((path + now).encode()).decode(),
        }
        return self._http("GET", self.url + path, headers=headers)

    def signed(self, page: Page, content: str) -> bool:
        """Whether the page's signature is the sandbox's, over exactly this content."""
        return self.verifier.accepts(page.signature, content.encode())

    def charges(self, out_trade_no: str) -> list[dict[str, Any]]:
        """Every charge that the sandbox has under Midas's number, with its refunds."""
        told: list[dict[str, Any]] = self._control("GET", f"charge?order_no={out_trade_no}")[
            "charges"
        ]
        return told

    def moved(self, out_trade_no: str, kind: str) -> list[int]:
        """The amounts of each entry of this kind in the ledger of money, such as `charge_paid`."""
        entries = self._control("GET", f"ledger?money=true&order_no={out_trade_no}")["entries"]
        return [entry["amount"] for entry in entries if entry["kind"] == kind]

    def requests(self, out_trade_no: str) -> list[str]:
        """What reached the sandbox about this number, in order, such as `POST /v1/charges`."""
        return [what for what, _ in self._seen(out_trade_no)]

    def answers(self, out_trade_no: str, request: str) -> list[str]:
        """The SHA-256 of each answer to this request about this number."""
        return [digest for what, digest in self._seen(out_trade_no) if what == request]

    def _seen(self, out_trade_no: str) -> list[tuple[str, str]]:
        seen = self._control("GET", f"requests?order_no={out_trade_no}")["requests"]
        return [
            (f"{each['method']} {_general(each['path'])}", each["answer_sha256"] or "")
            for each in seen
        ]

    def plan_refund(self, out_trade_no: str, outcome: str) -> None:
        """Decide what becomes of the next refund of this charge."""
        self._control("POST", "plan_refund", {"outcome": outcome, "order_no": out_trade_no})

    def approve(self, out_trade_no: str) -> None:
        """The channel pays the pending refund of this charge back."""
        self._control("POST", "approve", {"order_no": out_trade_no})

    def add_fault(self, fault: dict[str, Any]) -> None:
        """Let something go wrong; `midas.sandbox.faults` lists what can."""
        self._control("POST", "faults", fault)

    def _control(self, method: str, path: str, sent: dict[str, Any] | None = None) -> Any:
        body = None if sent is None else json.dumps(sent).encode()
        answer = self._http(method, f"{self.url}/_sandbox/{path}", body, JSON)
        told = json.loads(answer.body)
        if answer.status != HTTPStatus.OK:
            raise ControlRefused(str(told.get("error", answer.status)))
        return told

    def _http(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        content_type: str = "",
        headers: dict[str, str] | None = None,
    ) -> Page:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        sent = dict(headers or {}, **({"Content-Type": content_type} if content_type else {}))
        try:
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            signature = answer.getheader("X-Pingplusplus-Signature", "")
            location = answer.getheader("Location", "")
            return Page(answer.status, answer.read(), signature, location)
        finally:
            connection.close()


class ControlRefused(Exception):
    """The sandbox did not do what it was asked."""


def _general(path: str) -> str:
    """The path with ids left out, so that it can be compared."""
    parts = path.split("/")
    return "/".join("{id}" if part.startswith(("ch_", "re_")) else part for part in parts)
