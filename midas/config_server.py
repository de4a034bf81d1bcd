"""Asks the config server, which speaks as Spring Cloud Config does, once and within a bound."""

import base64
import json
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from midas.errors import SettingsError

TIMEOUT_S = 5.0
ANSWER_BYTES = 1024 * 1024


def fetch(base: str, env: str) -> dict[str, Any]:
    """Every property of `GET {base}/midas/{env}`, by its `plain` name.

    Of several property sources the first that has a name wins. Raises SettingsError when the server
    cannot be reached, answers with an error, or answers with something else.
    """
    request, host = _request(base, env)
    problem = f"CONFIG_URL: the config server at {host}"
    try:
        with _DIRECT.open(request, timeout=TIMEOUT_S) as answer:
            text = answer.read(ANSWER_BYTES + 1)
    except HTTPError as error:
        error.close()
        raise SettingsError(f"{problem} answered with status {error.code}") from None
    except (HTTPException, OSError):
        raise SettingsError(f"{problem} cannot be reached; start it, or unset it") from None
    if len(text) > ANSWER_BYTES:
        raise SettingsError(f"{problem} answered with more than {ANSWER_BYTES} bytes")
    try:
        sources = [dict(each["source"]) for each in json.loads(text)["propertySources"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SettingsError(f"{problem} did not answer as Spring Cloud Config does") from None
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        merged |= {plain(str(name)): value for name, value in source.items()}
    return merged


def encrypted(value: Any) -> bool:
    """Whether the config server left it to its clients to decrypt this, which Midas does not."""
    return str(value).startswith("{cipher}")


def plain(name: str) -> str:
    """`PINGPP_API_KEY`, `pingpp.api-key`, `pingpp.api.key` and `pingpp.apiKey` are one name."""
    return "".join(each for each in name if each.isalnum()).lower()


def _request(base: str, env: str) -> tuple[Request, str]:
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError("CONFIG_URL: give a URL such as http://config:8888")
    host = parts.netloc.rpartition("@")[2]
    path = f"{parts.path.rstrip('/')}/midas/{quote(env, safe='')}"
    request = Request(urlunsplit((parts.scheme, host, path, "", "")))  # noqa: S310 - checked above
    request.add_header("Accept", "application/json")
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return request, host


class _NoRedirects(HTTPRedirectHandler):
    """A password is for the server that was named, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


_DIRECT = build_opener(ProxyHandler({}), _NoRedirects)
