"""The management port: whether the process lives, whether it takes webhooks, and its numbers.

A gateway stays ready while Midas is down. It answers 503 by itself, which means the same to Ping++
as an error of the load balancer. It counts what it could not take, and takes webhooks again as soon
as Midas is back. /readyz also has what Midas answers about itself (`midas_health.py`).
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from webhook_gateway.metrics import Metrics

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Management:
    """Answers /healthz, /readyz and /metrics."""

    def __init__(self, midas_state: Callable[[], Awaitable[str]], metrics: Metrics) -> None:
        self.ready = False
        """Whether webhooks are taken: keys loaded, port open, not draining."""
        self._midas_state = midas_state
        self._metrics = metrics
        self._answers = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._exposition,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        answer = self._answers.get(request.path)
        if answer is None:
            return web.Response(status=404)
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        return await answer()

    async def _healthz(self) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self) -> web.Response:
        state = {"ready": self.ready, "midas": await self._midas_state()}
        return web.json_response(state, status=200 if self.ready else 503)

    async def _exposition(self) -> web.Response:
        body = self._metrics.exposition()
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})
