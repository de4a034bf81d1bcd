"""The other side of the demo: the payer, the merchant's staff, and the sandbox's own books."""

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urljoin

from midas.cli.demo.fetch import Page, control, fetch
from midas.psp.signing import Signer, Verifier

FORM = "application/x-www-form-urlencoded"
WEBHOOK_PATIENCE_S = 15
"""How long the sandbox may take to send a webhook, which it does at once."""


@dataclass(frozen=True, slots=True)
class Lookalike:
    """A sandbox at `url`, operated from outside."""

    url: str
    api_key: str
    signer: Signer
    verifier: Verifier

    # The payer, and the shop's staff --------------------------------------------------------

    def open(self, url: str) -> Page:
        """Somebody opens a page."""
        return fetch("GET", url)

    def press(self, url: str, button: str) -> Page:
        """Somebody presses `confirm`, `cancel` or `refuse` on a page, and sees what comes next."""
        decision = urlencode({"decision": button}).encode()
        answer = fetch("POST", url, decision, {"Content-Type": FORM})
        if answer.status == HTTPStatus.SEE_OTHER:
            return fetch("GET", urljoin(url, answer.location))
        return answer

    def approve(self, out_trade_no: str) -> None:
        """The channel pays the pending refund of this charge back."""
        self._control("POST", "approve", {"order_no": out_trade_no})

    # What is to happen ----------------------------------------------------------------------

    def send_webhooks_to(self, url: str) -> None:
        """Let the sandbox send every event to this URL from now on."""
        self._control("POST", "webhooks", {"urls": [url]})

    def plan_refund(self, out_trade_no: str, outcome: str) -> None:
        """Decide what becomes of the next refund of this charge."""
        self._control("POST", "plan_refund", {"outcome": outcome, "order_no": out_trade_no})

    def add_fault(self, fault: dict[str, Any]) -> None:
        """Let something go wrong; `midas.sandbox.faults` lists what can."""
        self._control("POST", "faults", fault)

    # Its own books --------------------------------------------------------------------------

    def as_sent(self, charge_id: str) -> Page:
        """The charge as Ping++ sends it: the bytes and their signature."""
        path = f"/v1/charges/{quote(charge_id)}"
        now = str(int(time.time()))
        headers = {
            "Authorization": f"Bearer {self.api_key}",
            "Pingplusplus-Request-Timestamp": now,
            "Pingplusplus-Signature": self.signer.sign((path + now).encode()).decode(),
        }
        return fetch("GET", self.url + path, headers=headers)

    def signed(self, page: Page, content: str) -> bool:
        """Whether the page's signature is the sandbox's, over exactly this content."""
        return self.verifier.accepts(page.signature, content.encode())

    def charges(self, out_trade_no: str) -> list[dict[str, Any]]:
        """Every charge that the sandbox has under Midas's number, with its refunds."""
        answer = self._control("GET", f"charge?order_no={out_trade_no}")
        found: list[dict[str, Any]] = answer["charges"]
        return found

    def moved(self, out_trade_no: str, kind: str) -> list[int]:
        """The amounts of each entry of this kind in the ledger of money, such as `charge_paid`."""
        entries = self._control("GET", f"ledger?money=true&order_no={out_trade_no}")["entries"]
        return [entry["amount"] for entry in entries if entry["kind"] == kind]

    def requests(self, out_trade_no: str) -> list[str]:
        """What reached the sandbox about this number, in order, such as `POST /v1/charges`."""
        return [what for what, _ in self._recorded(out_trade_no)]

    def answers(self, out_trade_no: str, request: str) -> list[str]:
        """The SHA-256 of each answer to this request about this number."""
        return [digest for what, digest in self._recorded(out_trade_no) if what == request]

    # Webhooks -------------------------------------------------------------------------------

    def sent(self, out_trade_no: str, kind: str, count: int) -> list[dict[str, Any]]:
        """The webhooks of this kind, with receiver and answer, once `count` of them were sent.

        Returns fewer if not so many go out within WEBHOOK_PATIENCE_S.
        """
        asked = {"order_no": out_trade_no, "type": kind, "count": count, "sends": 1}
        query = urlencode({**asked, "wait_s": WEBHOOK_PATIENCE_S})
        found: list[dict[str, Any]] = self._control("GET", f"deliveries?{query}")["deliveries"]
        return found

    def event(self, event_id: str) -> dict[str, Any]:
        """An event as it was first sent."""
        events = self._control("GET", "events")["events"]
        return next(each for each in events if each["id"] == event_id)

    def post_webhook(
        self, event: dict[str, Any], how: str | None = None, times: int = 1
    ) -> list[int]:
        """Send this event `times` times at once and return each answer's status, 0 for no answer.

        It is signed as Ping++ signs it, or forged as `midas.sandbox.forgery` describes under `how`.
        """
        sent = {"event": event, "times": times} | ({} if how is None else {"how": how})
        replies = self._control("POST", "webhooks/send", sent)["replies"]
        return [reply["status"] or 0 for reply in replies]

    def _recorded(self, out_trade_no: str) -> list[tuple[str, str]]:
        requests = self._control("GET", f"requests?order_no={out_trade_no}")["requests"]
        return [
            (f"{each['method']} {_general(each['path'])}", each["answer_sha256"] or "")
            for each in requests
        ]

    def _control(self, method: str, path: str, sent: dict[str, Any] | None = None) -> Any:
        return control(method, f"{self.url}/_sandbox/{path}", sent)


def _general(path: str) -> str:
    """The path with ids left out, so that it can be compared."""
    parts = path.split("/")
    return "/".join("{id}" if part.startswith(("ch_", "re_")) else part for part in parts)
