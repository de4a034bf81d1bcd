"""HTTP as the demo speaks it: to pages, to Ping++'s API and to control APIs."""

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 20.0
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer over HTTP."""

    status: int
    body: bytes
    signature: str
    location: str

    def shows(self, text: str) -> bool:
        """Whether the text is on the page, however it is marked up."""
        return self.status == HTTPStatus.OK and text.encode() in _TAG.sub(b"", self.body)


_TAG = re.compile(rb"<[^>]*>")


class ControlRefused(Exception):
    """A process did not do what it was asked."""


def fetch(
    method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Page:
    """One request and its answer. Follows no redirect."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        signature = answer.getheader("X-Pingplusplus-Signature", "")
        location = answer.getheader("Location", "")
        return Page(answer.status, answer.read(), signature, location)
    finally:
        connection.close()


def control(method: str, url: str, sent: Any = None) -> Any:
    """What a control API answers. Raises ControlRefused with its sentence."""
    body = None if sent is None else json.dumps(sent).encode()
    answer = fetch(method, url, body, {"Content-Type": JSON})
    content = json.loads(answer.body)
    if answer.status != HTTPStatus.OK:
        raise ControlRefused(str(content.get("error", answer.status)))
    return content
