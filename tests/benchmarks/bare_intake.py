"""The limits of taking webhooks in: aiohttp, uvloop and OpenSSL, nothing checked beyond.

`read` answers once the body is there, `verified` checks its signature and parses it, `recorded`
makes one call over grpc.aio with it besides.
"""

import argparse
import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Any

import grpc
import uvloop
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from midas.v1 import event_service_pb2 as events
from midas.v1.event_service_pb2_grpc import EventServiceStub
from tests.benchmarks.child import serve_at
from tests.benchmarks.webhooks import SIGNATURE


class BareIntake:
    """One handler for each limit."""

    def __init__(self, target: str) -> None:
        key = load_pem_public_key(Path(os.environ["PINGPP_PUBLIC_KEY_PATHS"]).read_bytes())
        assert isinstance(key, rsa.RSAPublicKey)
        self._key = key
        self._channel = grpc.aio.insecure_channel(target)
        self._record: Any = EventServiceStub(self._channel).RecordEvent

    async def read(self, request: web.BaseRequest) -> web.StreamResponse:
        """Read the body and answer."""
        await request.read()
        return web.Response(body=b"ok\n")

    async def verified(self, request: web.BaseRequest) -> web.StreamResponse:
        """Check the signature and the JSON, too."""
        self._check(await request.read(), request)
        return web.Response(body=b"ok\n")

    async def recorded(self, request: web.BaseRequest) -> web.StreamResponse:
        """Make one call, too."""
        body = await request.read()
        self._check(body, request)
        await self._record(events.RecordEventRequest(body=body))
        return web.Response(body=b"ok\n")

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    def _check(self, body: bytes, request: web.BaseRequest) -> None:
        signature = base64.b64decode(request.headers[SIGNATURE])
        self._key.verify(signature, body, padding.PKCS1v15(), SHA256())
        json.loads(body)


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("limit", choices=("read", "verified", "recorded"))
    parser.add_argument("target")
    options = parser.parse_args()
    bare = BareIntake(options.target)
    server = web.Server(getattr(bare, options.limit), access_log=None)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, backlog=512)
    await serve_at(listening.sockets[0].getsockname()[1])
    await bare.close()


if __name__ == "__main__":
    uvloop.run(_main())
