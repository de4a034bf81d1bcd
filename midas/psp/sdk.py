"""The `pingpp` SDK as the authority on the wire format. Nothing else imports it.

It decides what a request looks like (URLs, body, headers, the string to sign) and which error class
an answer is. It never sends anything, and its module-global key and settings are not used.
"""

import importlib
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from midas.immutable import record
from midas.psp import strict_json


def _use_maintained_six() -> None:
    """Replace the six 1.11 inside pingpp 2.7.2: Python 3.12 and later cannot import it."""
    if "pingpp" in sys.modules:
        return
    for name in ("", ".moves", ".moves.urllib", ".moves.urllib.parse"):
        sys.modules[f"pingpp.six{name}"] = importlib.import_module(f"six{name}")


def _stop_logging(sdk_util: Any, sdk_logger: logging.Logger) -> None:
    """Stop the SDK's logging and printing: it shows bodies and the string to sign.

    See pingpp.md section 11, item 14.
    """
    sdk_util.log_debug = sdk_util.log_info = lambda _message, **_fields: None
    sdk_logger.disabled = True


_use_maintained_six()

import pingpp  # noqa: E402
from pingpp import util as _util  # noqa: E402
from pingpp.six.moves.urllib.parse import quote_plus  # noqa: E402

_stop_logging(_util, logging.getLogger("pingpp"))
# Switch off the SDK's own repetition of a POST after a 502 (pingpp.md section 11, item 6).
pingpp.bad_gateway_match = False
pingpp.max_network_retries = 0

errors = pingpp.error
"""The SDK's error classes."""

DEFAULT_API_BASE: str = pingpp.api_base

Sign = Callable[[bytes], bytes]
"""Makes the base64 signature of the string to sign."""


@record(frozen=True, slots=True)
class Prepared:
    """A request, signed and encoded: exactly what has to be sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


class Requestor(pingpp.APIRequestor):  # type: ignore[misc]
    """The SDK's requestor for one account, without its transport."""

    def __init__(self, api_key: str, api_base: str, sign: Sign | None) -> None:
        super().__init__(key=api_key, client=_NoTransport(), api_base=api_base)
        self._sign = sign
        self._constant_headers = self._account_headers(api_key)

    def prepare(self, method: str, path: str, params: Mapping[str, Any]) -> Prepared:
        """Encode and sign a request. Raises TypeError or ValueError if it cannot be encoded.

        Booleans of a query are sent in lower case, which the SDK gets wrong (pingpp.md section 1).
        """
        if method == "get":
            params = _lower_case_booleans(params)
        prepared: Prepared = self.request_raw(method, path, params)[0]
        return prepared

    def interpret_response(self, rbody: bytes, rcode: int, rheaders: Mapping[str, str]) -> str:
        """The text of a 2xx answer; raises the SDK's error class for any other.

        Raises strict_json.Unreadable if the answer is not UTF-8, or an error is not the envelope of
        pingpp.md section 6 (which the SDK's own reading trips over).
        """
        text = strict_json.decode(rbody)
        if not 200 <= rcode < 300:
            envelope = strict_json.parse_object(text)
            _require_envelope(envelope)
            self.handle_error_response(text, rcode, envelope, rheaders)
        return text

    def request_headers(self, _api_key: str, _method: str) -> dict[str, str]:
        """The account's headers. They are kept: the SDK asks the operating system each time."""
        return self._constant_headers.copy()

    def execute_request_with_retry(
        self, method: str, abs_url: str, headers: Mapping[str, str], post_data: bytes | None
    ) -> tuple[Prepared, int, dict[str, str]]:
        """Hand the request back instead of sending it, as the SDK would here."""
        return Prepared(method.upper(), abs_url, headers, post_data), 0, {}

    def get_private_key(self) -> Sign | None:
        """The account's own key, not the SDK's module-global one."""
        return self._sign

    def rsa_sign(self, private_key: Sign, data: str) -> str:
        """The same signature as the SDK's, without parsing the key each time."""
        return private_key(data.encode()).decode("ascii")

    def _account_headers(self, api_key: str) -> dict[str, str]:
        headers = super().request_headers(api_key, "post")
        del headers["X-Pingpp-Client-User-Agent"]  # it has the host's name and kernel
        headers["Accept-Encoding"] = "identity"  # signatures cover the bytes as they are
        return {name: value for name, value in headers.items() if value is not None}


def charges_path() -> str:
    """The path to create and list charges."""
    return str(pingpp.Charge.class_url())


def charge_path(charge_id: str) -> str:
    """The path to retrieve a charge."""
    return f"{_CHARGES}/{quote_plus(charge_id)}"


def reverse_path(charge_id: str) -> str:
    """The path to close a charge."""
    return f"{charge_path(charge_id)}/reverse"


def refunds_path(charge_id: str) -> str:
    """The path to create and list the refunds of a charge."""
    return f"{charge_path(charge_id)}/refunds"


def refund_path(charge_id: str, refund_id: str) -> str:
    """The path to retrieve a refund."""
    return f"{refunds_path(charge_id)}/{quote_plus(refund_id)}"


_CHARGES = charges_path()


class _NoTransport:
    name = "none"


def _lower_case_booleans(params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: str(value).lower()
        if isinstance(value, bool)
        else _lower_case_booleans(value)
        if isinstance(value, dict)
        else value
        for name, value in params.items()
    }


def _require_envelope(envelope: Mapping[str, Any]) -> None:
    """Require `message`, and at least one of `type`, `code`, `param`, all of them texts.

    The JSON error of a proxy, with a numeric code for example, must not pass for Ping++'s answer.
    """
    error = envelope.get("error")
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        raise strict_json.Unreadable("error_envelope")
    named = [error.get(name) for name in ("type", "code", "param")]
    if not any(named) or any(not isinstance(each, str | None) for each in named):
        raise strict_json.Unreadable("error_envelope")
