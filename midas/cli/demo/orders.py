"""The order service of the demo: its process, and its own record of notifications."""

from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

from midas.cli.demo.fetch import control
from midas.cli.demo.launch import Launched
from midas.cli.demo.process import Process

FILE = "orders.sqlite3"


@dataclass(frozen=True, slots=True)
class ReceivedNotification:
    """One notification that had an effect."""

    order_no: str
    sequence: int
    call: str
    """`PayOrderSuccess`, …"""
    refund_no: str
    found_by: str
    """How Midas had learnt of it: `webhook`, `query`, …"""
    duplicate_payment: bool

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Self:
        """Read an entry of the order service's record."""
        request = entry["request"]
        return cls(
            entry["order_no"],
            entry["sequence"],
            entry["kind"].title().replace("_", ""),
            request.get("refund", {}).get("refund_no", ""),
            request.get("observed_by", "").removeprefix("OBSERVED_BY_").lower(),
            request.get("duplicate_payment", False),
        )

    def __str__(self) -> str:
        """The notification in words, such as `#2 RefundSuccess R7-1`."""
        duplicate = "duplicate_payment" if self.duplicate_payment else ""
        return " ".join(filter(None, (f"#{self.sequence}", self.call, self.refund_no, duplicate)))


class OrderService:
    """The sample order service as a process that can go away and come back on its file."""

    def __init__(self, processes: Launched) -> None:
        """Let the process that was launched for it be the order service. Raises Failed."""
        self._processes = processes
        self._process = processes.orders
        self.target, self._control_url = "", ""
        self._begin("0")

    def received(self, order_no: str | None = None) -> list[ReceivedNotification]:
        """What it wrote down, of this order or of all, in the order of arrival."""
        query = "" if order_no is None else f"?{urlencode({'order_no': order_no})}"
        entries = control("GET", f"{self._control_url}/received{query}")["received"]
        return [ReceivedNotification.of(each) for each in entries]

    def order(self, order_no: str) -> dict[str, Any]:
        """The order and the effects on it; `midas orders --show` prints the same."""
        known = control("GET", f"{self._control_url}/order?{urlencode({'order_no': order_no})}")
        return dict(known)

    def go_away(self) -> Process:
        """End the process. Return the one that is to come back, which gets ready meanwhile."""
        self._process.stop()
        return self._processes.another_orders()

    def come_back(self, process: Process) -> None:
        """Be the order service again, on the same port and file. Raises Failed."""
        self._process = process
        self._begin(self.target.rpartition(":")[2])

    def _begin(self, port: str) -> None:
        file = str(self._processes.folder / FILE)
        ports = ["--port", port, "--control-port", "0"]
        self._process.run(["orders", "--json", "--file", file, *ports])
        ready = self._process.wait_ready()
        self.target, self._control_url = ready["target"], ready["control"]
