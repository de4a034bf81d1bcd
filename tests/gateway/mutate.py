"""Seeded changes of a webhook's body, signature and head."""

import base64
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.gateway.account import Account, event_body, genuine_webhooks
from tests.gateway.intake_stage import PATH, request
from webhook_gateway.signature import HEADER, Key

Chance = random.Random
Text = TypeVar("Text", bytes, str)


@dataclass(frozen=True)
class Signed:
    """A body with its valid signature and the key that verifies it."""

    body: bytes
    signature: str
    key: Key


def recorded_webhooks() -> list[Signed]:
    """All that Ping++ itself signed; none where they are absent."""
    return [Signed(each.body, each.signature, each.key) for each in genuine_webhooks()]


def made_webhooks() -> list[Signed]:
    """Some that are signed now, of other kinds and with a longer key."""
    accounts = [Account("one"), Account("two", bits=3072)]
    bodies = [
        event_body(),
        event_body(kind="refund.succeeded", note="退款 😀", many=list(range(50))),
        event_body(kind="coupon.invented", note="x" * 3000),
    ]
    return [Signed(b, a.sign(b), a.key) for a in accounts for b in bodies]


def changed_body(chance: Chance, webhook: Signed) -> bytes:
    """A request with the genuine signature over another body."""
    body = webhook.body
    while body == webhook.body:
        body = _changed(chance, _BODY_CHANGES, body)
    return request(body, webhook.signature)


def changed_signature(chance: Chance, webhook: Signed) -> bytes:
    """A request with the genuine body under another signature."""
    text = webhook.signature
    while text.strip(" \t") == webhook.signature:
        text = _changed(chance, _SIGNATURE_CHANGES, text)
    return request(webhook.body, text)


def changed_head(chance: Chance, raw: bytes) -> bytes:
    """The same body under another head, from one changed byte to chaos."""
    head, _, body = raw.partition(b"\r\n\r\n")
    changed = head
    while changed == head:
        changed = _changed(chance, _HEAD_CHANGES, head)
    return changed + b"\r\n\r\n" + body


def changed_request(chance: Chance, webhook: Signed) -> bytes:
    """A validly signed request whose changed head means something else than the signed one."""
    raw = request(webhook.body, webhook.signature)
    changed = raw
    while is_intact(changed, webhook):
        changed = changed_head(chance, raw)
    return changed


def is_intact(raw: bytes, webhook: Signed) -> bool:
    """Whether method, path, signature and body are those of the webhook; the rest may differ."""
    head, _, rest = raw.lstrip(b"\r\n").partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    fields = [_field(each) for each in lines]
    lengths = [value.lstrip(b"0") for name, value in fields if name == b"content-length"]
    return (
        _FIRST_LINE.fullmatch(first) is not None
        and [value for name, value in fields if name == _SIGNATURE] == [webhook.signature.encode()]
        and lengths == [b"%d" % len(webhook.body)]
        and not {name for name, _ in fields} & _OTHER_BODY
        and rest == webhook.body
    )


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")


_FIRST_LINE = re.compile(
    rb"POST (?:\w+://[^/?#]*)?%s(?:[?#].*)? HTTP/1\.[01]" % re.escape(PATH.encode()), re.DOTALL
)
_SIGNATURE = HEADER.lower().encode()
_OTHER_BODY = {b"transfer-encoding", b"content-encoding"}
"""Headers under which the same bytes are another body."""


def _changed(chance: Chance, changes: Sequence[Callable[[Chance, Text], Text]], text: Text) -> Text:
    """After one to three of these changes."""
    for _ in range(chance.randint(1, 3)):
        text = chance.choice(changes)(chance, text)
    return text


def _flip(chance: Chance, body: bytes) -> bytes:
    at = chance.randrange(len(body))
    return body[:at] + bytes([body[at] ^ (1 << chance.randrange(8))]) + body[at + 1 :]


def _insert(chance: Chance, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    return body[:at] + chance.randbytes(chance.randint(1, 8)) + body[at:]


def _remove(chance: Chance, body: bytes) -> bytes:
    at = chance.randrange(len(body))
    return body[:at] + body[at + chance.randint(1, 16) :]


def _double(chance: Chance, body: bytes) -> bytes:
    start, end = sorted(chance.choices(range(len(body) + 1), k=2))
    return body[:end] + body[start:end] + body[end:]


def _swap(chance: Chance, body: bytes) -> bytes:
    a, b = sorted(chance.choices(range(len(body) + 1), k=2))
    return body[b:] + body[a:b] + body[:a]


def _token(chance: Chance, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    return body[:at] + chance.choice(_BODY_TOKENS) + body[at:]


def _amount(chance: Chance, body: bytes) -> bytes:
    return body.replace(b'"amount":', b'"amount":%d' % chance.randint(1, 9), 1)


_BODY_TOKENS = (
    b"\n", b" ", b"\0", b"\xef\xbb\xbf", b"{", b"}", b"[[", b'"', b"\\u0000", b"\\ud800", b"NaN",
    b"1e400", b'"paid":true,', b"\xff", b"\r\n\r\n",
)  # fmt: skip
_BODY_CHANGES: tuple[Callable[[Chance, bytes], bytes], ...] = (
    _flip, _flip, _insert, _remove, _double, _swap, _token, _amount,
)  # fmt: skip


def _character(chance: Chance, text: str) -> str:
    at = chance.randrange(len(text) or 1)
    return text[:at] + chance.choice(_CHARACTERS) + text[at + 1 :]


def _cut(chance: Chance, text: str) -> str:
    return text[: chance.randrange(len(text) or 1)]


def _longer(chance: Chance, text: str) -> str:
    return text + "".join(chance.choices(_CHARACTERS, k=chance.randint(1, 40)))


def _other_bytes(chance: Chance, text: str) -> str:
    plain = _NO_BASE64.sub("", text)
    raw = bytearray(base64.b64decode(plain[: len(plain) // 4 * 4]) or b"\0")
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return base64.b64encode(raw).decode()


def _respelled(chance: Chance, text: str) -> str:
    return chance.choice(
        [text.rstrip("="), text + "=", text.lower(), text[::-1], f'"{text}"', f"{text},{text}"]
    )


_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_ ,;\t\udcff\udc80"
_SIGNATURE_CHANGES: tuple[Callable[[Chance, str], str], ...] = (
    _character, _character, _cut, _longer, _other_bytes, _respelled,
)  # fmt: skip


def _line(chance: Chance, head: bytes) -> bytes:
    lines = head.split(b"\r\n")
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(_LINES))
    return b"\r\n".join(lines)


def _without_line(chance: Chance, head: bytes) -> bytes:
    lines = head.split(b"\r\n")
    del lines[chance.randrange(len(lines))]
    return b"\r\n".join(lines)


def _line_ends(chance: Chance, head: bytes) -> bytes:
    return head.replace(b"\r\n", chance.choice([b"\n", b"\r", b"\r\n ", b"\r\n\t"]), 1)


def _first_line(chance: Chance, head: bytes) -> bytes:
    _, _, rest = head.partition(b"\r\n")
    return chance.choice(_FIRST_LINES) + b"\r\n" + rest


_LINES = (
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Content-Length: 0",
    b"Content-Length: 5", b"Content-Length: +5", b"Content-Length: 99999999999999999999",
    b"Content-Encoding: gzip", b"Content-Encoding: br", b"Expect: 100-continue", b"Expect: fire",
    b"Upgrade: websocket\r\nConnection: Upgrade", b"Connection: keep-alive", b"Host: other",
    HEADER.encode() + b": x", HEADER.encode() + b":", b"X_Pingplusplus_Signature: x", b": empty",
    b"NoColon", b"Space : x", b" folded: x", b"Nul: \0", b"High: \xff\xfe", b"Big: " + b"x" * 9000,
    b"Sec-WebSocket-Key1: x", b"Trailer: " + HEADER.encode(), b"",
)  # fmt: skip
_FIRST_LINES = (
    b"GET " + PATH.encode() + b" HTTP/1.1", b"HEAD " + PATH.encode() + b" HTTP/1.1",
    b"POST " + PATH.encode() + b" HTTP/1.0", b"POST " + PATH.encode() + b" HTTP/2.0",
    b"POST " + PATH.encode() + b" HTTP/0.9", b"POST " + PATH.encode(), b"POST  HTTP/1.1",
    b"post " + PATH.encode() + b" HTTP/1.1", b"POST http://[::1 HTTP/1.1",
    b"POST http://shop.example:99999" + PATH.encode() + b" HTTP/1.1",
    b"POST http://" + b"a" * 300 + PATH.encode() + b" HTTP/1.1",
    b"POST //evil" + PATH.encode() + b" HTTP/1.1", b"POST " + PATH.encode() + b"/../x HTTP/1.1",
    b"POST " + PATH.encode() + b"?a=%00 HTTP/1.1", b"POST /%ff%fe HTTP/1.1",
    b"CONNECT shop.example:443 HTTP/1.1", b"OPTIONS * HTTP/1.1", b"PRI * HTTP/2.0",
    b"POST /" + b"x" * 5000 + b" HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
)  # fmt: skip
_HEAD_CHANGES: tuple[Callable[[Chance, bytes], bytes], ...] = (
    _flip, _flip, _insert, _remove, _double, _line, _line, _without_line, _line_ends, _first_line,
)  # fmt: skip
