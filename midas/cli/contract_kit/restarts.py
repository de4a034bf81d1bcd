"""What is judged by killing the order service: --restart-command kills it and starts it again."""

import asyncio

from midas.cli.contract_kit.kit import Kit
from midas.cli.contract_kit.notices import NOT_REFUNDED, REFUNDED, SUCCESS

KILLS = 3
STREAMS = 2
"""How many orders get notifications while the order service is killed."""
STREAM_LEAST = 50
"""How many notifications of each order are acknowledged before the kill. If an order service
answers before it writes, that shows only where it was killed right after an answer."""
STREAM_MOST = 20_000
STREAM_PAUSE_S = 0.002
STREAM_RETRY_S = 0.05
COLLECT_S = 60.0
"""How long a slow order service may take for STREAM_LEAST notifications. Then fewer are enough."""
NOT_RESTARTED = (
    "its connection did not end: --restart-command must kill it, and --target must be the order "
    "service itself, without a proxy that keeps the connection"
)

RESTART_JUDGES = ("remembers-over-a-restart", "ignores-repeats-after-a-restart")


async def restart(kit: Kit) -> None:
    """Notifications from before a restart come again after it, in the wrong order; more follow."""
    order_no = await kit.order()
    await kit.given(order_no, SUCCESS, REFUNDED)
    if not await kit.restart():
        for promise in RESTART_JUDGES:
            kit.findings.miss(promise, NOT_RESTARTED)
    there = await _is_there(kit, order_no, SUCCESS, REFUNDED)
    for sequence in (2, 1):
        answer = await kit.again_until_taken(order_no, sequence)
        what = f"{order_no}/{sequence} again after the restart"
        kit.expect("remembers-over-a-restart", answer, what)
    answer = await kit.send(order_no, NOT_REFUNDED, 3)
    kit.expect("remembers-over-a-restart", answer, f"{order_no}/3 after the restart")
    if there:
        wanted = {SUCCESS: 1, REFUNDED: 1, NOT_REFUNDED: int(answer.ok)}
        await kit.expect_effects("ignores-repeats-after-a-restart", order_no, **wanted)
    else:
        reason = "what it had acknowledged before the restart was gone"
        kit.findings.miss("ignores-repeats-after-a-restart", reason)


async def _is_there(kit: Kit, order_no: str, *methods: str) -> bool:
    """Whether what was acknowledged before the restart has its effect after it."""
    found = await kit.effects(order_no)
    lost = [method for method in methods if found is not None and not found[method]]
    if found is not None:
        what = f"{order_no}: answered OK before the restart, gone after it: {', '.join(lost)}"
        kit.findings.record("durable-before-ok", not lost, what)
    return not lost


async def killed(kit: Kit) -> None:
    """The order service is killed several times while notifications arrive.

    Every notification that it answered OK to must be there.
    """
    if kit.probes.effects is None:
        return
    for _ in range(KILLS):
        streams = [_Stream(kit, await kit.order()) for _ in range(STREAMS)]
        for stream in streams:
            await kit.given(stream.order_no, SUCCESS)
        if not await _killed_amid(kit, streams):
            kit.findings.miss("durable-before-ok", NOT_RESTARTED)
        for stream in streams:
            await stream.judge()


async def _killed_amid(kit: Kit, streams: "list[_Stream]") -> bool:
    """Restart it when each stream has enough acknowledgements. Returns whether it went away."""
    sending = [asyncio.create_task(stream.send_on()) for stream in streams]
    try:
        enough = [asyncio.create_task(stream.enough.wait()) for stream in streams]
        await asyncio.wait(enough, timeout=COLLECT_S)
        for stream in streams:
            stream.may_end = True
        return await kit.restart()
    finally:
        for stream in streams:
            stream.over = True
        await asyncio.gather(*sending)
        for each in enough:
            each.cancel()


class _Stream:
    """Sends one notification after the other of one order, until the order service is gone."""

    def __init__(self, kit: Kit, order_no: str) -> None:
        self.order_no = order_no
        self.acknowledged = 0
        self.enough = asyncio.Event()
        self.may_end = False
        """Whether a failure ends the stream. Until then a failed one is sent again, as by Midas."""
        self.over = False
        self._kit = kit

    async def send_on(self) -> None:
        """Send until one fails after `may_end` is set, or until `over` is set."""
        target = self._kit.target
        while not self.over and self.acknowledged < STREAM_MOST:
            request = self._kit.made(self.order_no, NOT_REFUNDED, self.acknowledged + 2)
            if (await target.call(NOT_REFUNDED, request)).ok:
                self.acknowledged += 1
            elif self.may_end:
                return
            else:
                await asyncio.sleep(STREAM_RETRY_S)
            if self.acknowledged >= STREAM_LEAST:
                self.enough.set()
            await asyncio.sleep(STREAM_PAUSE_S)

    async def judge(self) -> None:
        """Record whether what was acknowledged is there, and no more than was sent."""
        findings = self._kit.findings
        found = await self._kit.effects(self.order_no)
        if found is None:
            return
        count, answered = found[NOT_REFUNDED], self.acknowledged
        if not answered:
            what = f"{self.order_no}: it was killed before it had answered OK to any call"
            findings.miss("durable-before-ok", what)
        # the call that was under way at the kill may be there or not
        there = answered <= count <= answered + 1
        what = (
            f"{self.order_no}: {answered} calls were answered OK before it was killed, "
            f"{count} are there"
        )
        findings.record("durable-before-ok", there, what)
