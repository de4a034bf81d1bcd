"""The whole way of an outcome: webhook → gateway → Midas → relay → order service.

Each order is charged beforehand, so that its webhook has something to change; every round has
orders of its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.plan import CALLERS, GENTLE_PER_S, SENDERS
from tests.benchmarks.processes import THIS, Checkout, Child, await_idle
from tests.benchmarks.stage import Stage


class Chain:
    """The gateway, Midas and a stub of the order service, each a process of its own.

    With `profiles` the first two write theirs into this folder. They may be another checkout's.
    """

    def __init__(
        self,
        stage: Stage,
        database_url: str,
        profiles: Path | None = None,
        checkout: Checkout = THIS,
    ) -> None:
        self._stage = stage
        self._load = stage.webhook_load
        self.orders = stage.talker("order_stub")
        order_target = f"127.0.0.1:{self.orders.port}"
        of_midas = profiles and profiles / "midas.prof"
        of_gateway = profiles and profiles / "gateway.prof"
        self.midas, self._target = stage.midas(database_url, stage.stub, of_midas, checkout)
        self.gateway, self._port = stage.gateway(self._target, order_target, of_gateway, checkout)
        self._prefix = ""

    @property
    def servers(self) -> tuple[Child, Child]:
        """The processes whose CPU an event costs."""
        return self.gateway, self.midas

    def prepare(self, count: int) -> str:
        """Charge so many orders and sign their webhooks; the prefix under which they are kept."""
        self._prefix = self._stage.prefix()
        self._load.ask(
            do="prepare", target=self._target, prefix=self._prefix, callers=CALLERS, count=count
        )
        await_idle(*self.servers)
        return self._prefix

    def deliver(self, count: int) -> Mapping[str, Any]:
        """Send what was prepared; return when the order service knows of all and nothing is left.

        The time ends with the last notification, the CPU with its settlement.
        """
        sent = send(self._stage, self._port, self._prefix, count)
        arrived = self.orders.ask(prefix=self._prefix, count=count)
        await_idle(*self.servers)
        return {"elapsed_s": arrived["last_at"] - sent["began_at"]}

    def delays_ms(self, count: int) -> dict[str, list[float]]:
        """From each webhook to its answer, and to the call of the order service, each sorted.

        Little else goes on: GENTLE_PER_S of them a second.
        """
        self.prepare(count)
        sent = self._load.ask(
            do="drip",
            port=self._port,
            prefix=self._prefix,
            count=count,
            senders=SENDERS,
            per_s=GENTLE_PER_S,
        )
        paid_at = self.orders.ask(prefix=self._prefix, count=count)["paid_at"]
        written = sent["written"]
        return {
            name: sorted(1000 * (at - written[order_no]) for order_no, at in moments.items())
            for name, moments in (("answered", sent["answered"]), ("delivered", paid_at))
        }


def send(stage: Stage, port: int, prefix: str, count: int) -> Mapping[str, Any]:
    """Webhooks that were prepared, as fast as this receiver takes them."""
    return stage.webhook_load.ask(do="send", port=port, prefix=prefix, count=count, senders=SENDERS)
