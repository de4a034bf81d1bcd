"""The control API of webhooks, answered like the rest of it (`midas.sandbox.control`).

| request                        | body or query                                                   |
|--------------------------------|-----------------------------------------------------------------|
| GET, POST /_sandbox/webhooks   | urls: [...], instead of those before                            |
| GET  /_sandbox/deliveries      | ?event_id=&type=&order_no=&url=&outcome=&sends=                 |
|                                | &count=&wait_s=: first wait until so many fit                   |
| POST /_sandbox/webhooks/resend | event_id; how, times                                            |
| POST /_sandbox/webhooks/send   | event (a whole one) or sample (a type), object, livemode;       |
|                                | how, times                                                      |
| POST /_sandbox/next-key        | the public half of the key to come, and its file                |
| POST /_sandbox/rotate-key      | sign with it from now on                                        |

To change the key, call `next-key`, give the receiver both public keys, and call `rotate-key`.
`send` and `resend` send at once, to every URL, and never repeat it. `how` forges it
(`midas.sandbox.forgery`), `times` sends copies at once, and `object` replaces members of the
sample's charge or refund. Both answer with what the receivers answered. Faults of webhooks are
added at /_sandbox/faults (`midas.sandbox.webhook_faults`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from aiohttp import web

from midas.sandbox.control import Controlled, add_route
from midas.sandbox.errors import ControlError, Json
from midas.sandbox.posting import Reply
from midas.sandbox.samples import sample_event
from midas.sandbox.webhook_sends import Match, Outcome

WAIT_MOST_S = 60.0


def add_routes(application: web.Application, server: Controlled) -> None:
    """Serve the control API of this sandbox's webhooks."""
    controls = _Controls(server)
    for method, path, handler in (
        ("GET", "/webhooks", controls.webhooks),
        ("POST", "/webhooks", controls.set_urls),
        ("GET", "/deliveries", controls.deliveries),
        ("POST", "/webhooks/resend", controls.resend),
        ("POST", "/webhooks/send", controls.send),
        ("POST", "/next-key", controls.next_key),
        ("POST", "/rotate-key", controls.rotate_key),
    ):
        add_route(application, method, path, handler)


class _Controls:
    def __init__(self, server: Controlled) -> None:
        self._webhooks = server.webhooks
        self._keys = server.keys

    def webhooks(self, _: web.Request, __: Json) -> Json:
        return {"urls": list(self._webhooks.urls), **self._webhooks.log.totals()}

    def set_urls(self, request: web.Request, sent: Json) -> Json:
        urls = sent["urls"]
        if not isinstance(urls, list):
            raise ControlError("urls is a list of URLs")
        self._webhooks.urls = tuple(urls)
        return self.webhooks(request, sent)

    async def deliveries(self, request: web.Request, _: Json) -> Json:
        asked = dict(request.query)
        count, wait_s = int(asked.pop("count", "1")), float(asked.pop("wait_s", "0"))
        match = _match(asked)
        if not 0 <= wait_s <= WAIT_MOST_S:
            raise ControlError(f"wait_s is at most {WAIT_MOST_S:g}")
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._webhooks.log.until(match, count)
        found = self._webhooks.log.matching(match)
        return {"count": len(found), "deliveries": [one.to_json() for one in found]}

    async def resend(self, _: web.Request, sent: Json) -> Json:
        asked = dict(sent)
        return _replies_json(await self._webhooks.resend(asked.pop("event_id", ""), **asked))

    async def send(self, _: web.Request, sent: Json) -> Json:
        event = dict(sent["event"]) if "event" in sent else _sample(sent)
        asked = {name: sent[name] for name in ("how", "times") if name in sent}
        return {"event": event, **_replies_json(await self._webhooks.send(event, **asked))}

    def next_key(self, _: web.Request, __: Json) -> Json:
        return _key_json(*self._keys.prepare())

    def rotate_key(self, _: web.Request, __: Json) -> Json:
        return _key_json(*self._keys.rotate())


def _sample(sent: Json) -> Json:
    event = sample_event(str(sent["sample"]), livemode=bool(sent.get("livemode", True)))
    event["data"]["object"].update(sent.get("object", {}))
    return event


def _match(asked: dict[str, str]) -> Match:
    unknown = set(asked) - {"event_id", "type", "order_no", "url", "outcome", "sends"}
    if unknown:
        raise ControlError(f"deliveries do not know {', '.join(sorted(unknown))}")
    outcomes: tuple[Outcome, ...] = get_args(Outcome)
    if asked.get("outcome", "pending") not in outcomes:
        raise ControlError(f"outcome must be one of {', '.join(outcomes)}")
    return Match(
        event_id=asked.get("event_id"),
        type=asked.get("type"),
        order_no=asked.get("order_no"),
        url=asked.get("url"),
        outcome=next((one for one in outcomes if one == asked.get("outcome")), None),
        sends=int(asked.get("sends", "0")),
    )


def _replies_json(replies: list[Reply]) -> Json:
    return {"replies": [asdict(reply) for reply in replies]}


def _key_json(public_pem: str, path: Path | None) -> Json:
    return {"public_key": public_pem, "path": str(path) if path is not None else None}
