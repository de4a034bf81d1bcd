"""The management port: whether the process lives, whether it takes webhooks, and its numbers.

A gateway stays ready while Midas is down: it answers 503 by itself, which tells Ping++ as much as
an error of the load balancer, counts what it could not take, and is back the moment Midas is.
/readyz says beside it what Midas says of itself (`midas_health.py`).
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from webhook_gateway.metrics import Metrics

KEEPALIVE_S = 30.0
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Management:
    """Answers /healthz, /readyz and /metrics."""

    def __init__(self, midas_state: Callable[[], Awaitable[str]], metrics: Metrics) -> None:
        self.ready = False
        """Whether webhooks are taken: keys loaded, port open, not draining."""
        self._midas_state = midas_state
        self._metrics = metrics

    def runner(self) -> web.AppRunner:
        """It as aiohttp serves it."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._exposition),
            ]
        )
        return web.AppRunner(app, access_log=None, keepalive_timeout=KEEPALIVE_S)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        told = {"ready": self.ready, "midas": await self._midas_state()}
        return web.json_response(told, status=200 if self.ready else 503)

    async def _exposition(self, _request: web.Request) -> web.Response:
        body = self._metrics.exposition()
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})
