"""The limit: a charge over grpc.aio, uvloop, pooled aiohttp and a signature by OpenSSL.

Nothing is checked and nothing is stored: no Python service that signs its requests can be cheaper.
"""

import base64
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import uvloop
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from google.protobuf.json_format import MessageToDict
from yarl import URL

from midas.v1 import charge_pb2
from midas.v1 import payment_service_pb2 as pb
from tests.benchmarks.child import only, serve_at

_PATH = "/v1/charges"


class BareService:
    """Charge, and nothing else."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        key = load_pem_private_key(Path(os.environ["PINGPP_PRIVATE_KEY_PATH"]).read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self._key = key
        self._session = session
        self._url = URL(os.environ["PINGPP_API_BASE"] + _PATH)
        self._app_id = os.environ["PINGPP_APP_ID"]
        self._authorization = f"Bearer {os.environ['PINGPP_API_KEY']}"

    async def charge(self, request: pb.ChargeRequest, _: object) -> pb.ChargeResponse:
        """Post the charge and hand on the answer."""
        body = json.dumps(self._asked(request), ensure_ascii=False).encode()
        async with self._session.post(self._url, data=body, headers=self._headers(body)) as answer:
            text = (await answer.read()).decode()
        answer = json.loads(text)
        charge = charge_pb2.Charge(
            out_trade_no=answer["order_no"],
            charge_id=answer["id"],
            order_no=request.order_no,
            state=charge_pb2.CHARGE_STATE_PENDING,
            channel=answer["channel"],
            amount=answer["amount"],
            currency=answer["currency"],
        )
        return pb.ChargeResponse(charge=charge, charge_json=text)

    def _asked(self, request: pb.ChargeRequest) -> dict[str, Any]:
        return {
            "order_no": secrets.token_hex(10),
            "app": {"id": self._app_id},
            "channel": request.channel,
            "amount": request.amount,
            "currency": request.currency,
            "client_ip": request.client_ip,
            "subject": request.subject,
            "body": request.body,
            "extra": MessageToDict(request.extra),
            "metadata": dict(request.metadata),
        }

    def _headers(self, body: bytes) -> dict[str, str]:
        now = str(int(time.time()))
        signed = self._key.sign(body + _PATH.encode() + now.encode(), padding.PKCS1v15(), SHA256())
        return {
            "Authorization": self._authorization,
            "Content-Type": "application/json; charset=UTF-8",
            "Pingplusplus-Request-Timestamp": now,
            "Pingplusplus-Signature": base64.b64encode(signed).decode(),
        }


async def _main() -> None:
    connector = aiohttp.TCPConnector(limit=256)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        server = grpc.aio.server()
        charge = BareService(session).charge
        server.add_generic_rpc_handlers((only("Charge", pb.ChargeRequest, charge),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await serve_at(port)
        await server.stop(None)


if __name__ == "__main__":
    uvloop.run(_main())
