"""A sandbox whose time passes only when a test advances it, and a receiver of its webhooks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from midas.sandbox.app import SandboxOptions, SandboxServer
from midas.sandbox.webhook_sends import Delivery, Match
from tests.sandbox.shop import terms
from tests.sandbox.webhook_receiver import Received, Receiver

STANDS_STILL = 1e-3
"""A time scale at which tests, however slow the machine, see only the time that they let pass."""

Json = dict[str, Any]


@dataclass
class Stage:
    """Both sides of the webhooks."""

    server: SandboxServer
    receiver: Receiver

    def charge(self, order_no: str = "ORDER0000001", channel: str = "wx", **changed: Any) -> Json:
        """A new charge."""
        return self._post("/v1/charges", terms(order_no, channel, **changed))

    def pay(self, order_no: str = "ORDER0000001", channel: str = "wx", **changed: Any) -> Json:
        """A new charge that is paid at once."""
        return self.server.lookalike.pay(self.charge(order_no, channel, **changed)["id"])

    def refund(self, charge: Json, **sent: Any) -> Json:
        """A new refund."""
        return self._post(f"/v1/charges/{charge['id']}/refunds", {"description": "d", **sent})

    def fault(self, kind: str, *, count: int | None = 1, **parameters: Any) -> None:
        """A fault of webhooks; members of `match` go into `match=`."""
        match = parameters.pop("match", {})
        action = {"kind": kind, **parameters}
        self.server.faults.add({"match": match, "count": count, "action": action})

    async def until(self, count: int = 1, **match: Any) -> list[Delivery]:
        """Wait until so many deliveries fit."""
        return await self.server.webhooks.log.until(Match(**match), count)

    async def accepted(self, count: int = 1) -> list[Received]:
        """Everything received, once so many deliveries were accepted and nothing is due."""
        await self.until(count, outcome="accepted")
        await self.server.webhooks.quiet()
        return self.receiver.received

    def genuine(self, received: Received) -> bool:
        """Whether the sandbox signed exactly this with the key in use."""
        return received.verifies(self.server.public_key_pem)

    def _post(self, path: str, sent: Json) -> Json:
        status, answer = self.server.lookalike.handle("POST", path, (), json.dumps(sent).encode())
        assert status == 200, answer
        return answer


@asynccontextmanager
async def staged(private_key: str, **options: Any) -> AsyncIterator[Stage]:
    """A sandbox that sends its webhooks to a receiver."""
    async with Receiver() as receiver:
        given = {"time_scale": STANDS_STILL, "webhook_urls": (receiver.url,), **options}
        async with SandboxServer(SandboxOptions(signing_private_key=private_key, **given)) as one:
            yield Stage(one, receiver)
