"""Asks the config server, which speaks as Spring Cloud Config does, once and within a bound.

No message repeats a part of its URL, not even the host: if a password holds a `/`, `#` or `?` that
is not escaped, a part of the password stands where a URL has its host.
"""

import base64
import json
import threading
from collections.abc import Callable
from http.client import HTTPException
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from typing import Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from midas.errors import SettingsError

DEADLINE_S = 10.0
"""How long the whole answer may take, from looking up the host's address to the last byte."""
ANSWER_BYTES = 1024 * 1024

_SERVER = "CONFIG_URL: the config server"


def fetch(base: str, env: str, *, password_in_the_clear: bool = True) -> dict[str, Any]:
    """Every property of `GET {base}/midas/{env}`, by its `plain` name.

    If several property sources have a name, the first one counts. A number or a truth value comes
    as the text that the environment would hold, so that both are read alike.

    Raises SettingsError when the URL is not valid, when a password would leave this machine
    unencrypted and that is not allowed, when the server cannot be reached or does not finish within
    DEADLINE_S, and when it answers with an error or not as Spring Cloud Config does.
    """
    request = _request(base, env, password_in_the_clear)
    text = _within_deadline(lambda: _answer(request))
    if len(text) > ANSWER_BYTES:
        raise SettingsError(f"{_SERVER} answered with more than {ANSWER_BYTES} bytes")
    try:
        sources = [dict(each["source"]) for each in json.loads(text)["propertySources"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SettingsError(f"{_SERVER} did not answer as Spring Cloud Config does") from None
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        merged |= {plain(str(name)): _as_text(value) for name, value in source.items()}
    return merged


def encrypted(value: Any) -> bool:
    """Whether the config server leaves it to its clients to decrypt this. Midas does not do it."""
    return str(value).startswith("{cipher}")


def plain(name: str) -> str:
    """`PINGPP_API_KEY`, `pingpp.api-key`, `pingpp.api.key` and `pingpp.apiKey` are one name."""
    return "".join(each for each in name if each.isalnum()).lower()


def is_this_machine(host: str) -> bool:
    """Whether what is sent to this host stays on this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _within_deadline(ask: Callable[[], bytes]) -> bytes:
    """What `ask` returns or raises. Raises SettingsError after DEADLINE_S.

    `ask` runs in a thread of its own: a timeout of sockets starts anew with every byte, and looking
    up a host's address has none at all. A thread that is too late goes on, and ends with the
    process.
    """
    outcomes: SimpleQueue[bytes | SettingsError] = SimpleQueue()

    def run() -> None:
        try:
            outcomes.put(ask())
        except SettingsError as error:
            outcomes.put(error)

    threading.Thread(target=run, name="config-server", daemon=True).start()
    try:
        outcome = outcomes.get(timeout=DEADLINE_S)
    except Empty:
        late = f"{_SERVER} did not finish its answer within {DEADLINE_S:g} seconds"
        raise SettingsError(late) from None
    if isinstance(outcome, SettingsError):
        raise outcome
    return outcome


def _answer(request: Request) -> bytes:
    try:
        with _DIRECT.open(request, timeout=DEADLINE_S) as answer:
            text: bytes = answer.read(ANSWER_BYTES + 1)
            return text
    except HTTPError as error:
        error.close()
        raise SettingsError(f"{_SERVER} answered with status {error.code}") from None
    except (HTTPException, OSError, ValueError):
        raise SettingsError(f"{_SERVER} cannot be reached; start it, or unset it") from None


def _request(base: str, env: str, password_in_the_clear: bool) -> Request:
    parts = _parts(base)
    host = parts.netloc.rpartition("@")[2]
    path = f"{parts.path.rstrip('/')}/midas/{quote(env, safe='', errors='replace')}"
    request = Request(urlunsplit((parts.scheme, host, path, "", "")))  # noqa: S310 - checked above
    request.add_header("Accept", "application/json")
    if parts.username is not None:
        is_open = parts.scheme == "http" and not is_this_machine(parts.hostname or "")
        if is_open and not password_in_the_clear:
            raise SettingsError(
                "CONFIG_URL holds a password and begins with http://: production sends it over "
                "https:// only, or with TLS_BY_MESH=true in the environment where a mesh encrypts"
            )
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        encoded = base64.b64encode(pair.encode(errors="surrogateescape")).decode()
        request.add_header("Authorization", f"Basic {encoded}")
    return request


def _parts(base: str) -> SplitResult:
    """The parts of a URL that leaves no doubt where its host begins and ends."""
    try:
        parts = urlsplit(base)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    # urlsplit drops line breaks and takes the rest
    if not is_url or not base.isprintable() or not base.isascii() or " " in base:
        raise SettingsError(f"CONFIG_URL cannot be read: {_WANTED}")
    if parts.query or parts.fragment or "@" in parts.path or set("?#") & set(base):
        raise SettingsError(f"CONFIG_URL has more than a host and a path: {_WANTED}")
    return parts


_WANTED = (
    "give a URL such as http://config:8888 or https://user:password@config, with each of / ? # @ "
    "in the password escaped: %2F %3F %23 %40"
)


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: a password is for the server that was named, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


_DIRECT = build_opener(ProxyHandler({}), _NoRedirects)
