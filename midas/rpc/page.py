"""Pages of lists: opaque tokens that hold the place and fit only the list they came from.

A token is base64url of `version ‖ digest ‖ created_at ‖ key`. The digest covers all the rest and
the filters. So a token that was altered, or is used with other filters, is refused. The digest has
no secret: a token shows nobody more than the list call does.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from midas import limits
from midas.errors import FieldViolation
from midas.ports import Listing
from midas.rpc.conversion import moment, refuse
from midas.v1.payment_service_pb2 import ListChargesRequest, ListRefundsRequest

TOKEN_VERSION = b"\x01"
TOKEN_CHARACTERS = 256
PAGE_BYTES = 3 * 1024 * 1024
"""A page ends here even if it has fewer rows than asked for: gRPC clients accept 4 MiB."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGEST_BYTES = 12


@dataclass(frozen=True, slots=True)
class Page:
    """What a list call asks for. `listing` has one row more than `size`, to find a next page.

    `filters` is what the next page's token is bound to.
    """

    size: int
    listing: Listing
    filters: bytes

    def token(self, created_at: datetime, key: str) -> str:
        """The token of the page that follows this row."""
        place = _encode(created_at, key)
        return _text(TOKEN_VERSION + _digest(self.filters, place) + place)


def page(request: ListChargesRequest | ListRefundsRequest) -> Page:
    """The page that is asked for. Raises InvalidRequest."""
    wrong: list[FieldViolation] = []
    if not 0 <= request.page_size <= limits.PAGE_SIZE_MAX:
        rule = f"give 1 to {limits.PAGE_SIZE_MAX}, or 0 for {limits.PAGE_SIZE_DEFAULT}"
        wrong.append(FieldViolation("page_size", rule))
    first = before = None
    if request.HasField("created_from"):
        first = moment(request.created_from, "created_from", wrong)
    if request.HasField("created_before"):
        before = moment(request.created_before, "created_before", wrong)
    if first is not None and before is not None and before <= first:
        wrong.append(FieldViolation("created_before", "must be later than created_from"))
    filters = repr((request.DESCRIPTOR.name, int(request.state), first, before)).encode()
    after = _read(request.page_token, filters, wrong) if request.page_token else None
    refuse(wrong)
    size = request.page_size or limits.PAGE_SIZE_DEFAULT
    return Page(size, Listing(size + 1, first, before, after), filters)


def _read(token: str, filters: bytes, wrong: list[FieldViolation]) -> tuple[datetime, str] | None:
    try:
        return _place(token, filters)
    except (ValueError, OverflowError, binascii.Error):
        rule = "give next_page_token of the page before, with the other fields unchanged"
        wrong.append(FieldViolation("page_token", rule))
        return None


def _place(token: str, filters: bytes) -> tuple[datetime, str]:
    if len(token) > TOKEN_CHARACTERS or not token.isascii():
        raise ValueError
    whole = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    digest, place = whole[1 : 1 + _DIGEST_BYTES], whole[1 + _DIGEST_BYTES :]
    if whole[:1] != TOKEN_VERSION or digest != _digest(filters, place) or token != _text(whole):
        raise ValueError
    microseconds = int.from_bytes(place[:8], "big", signed=True)
    if not place[8:].decode().isprintable():
        raise ValueError
    return _EPOCH + timedelta(microseconds=microseconds), place[8:].decode()


def _text(whole: bytes) -> str:
    return base64.urlsafe_b64encode(whole).decode().rstrip("=")


def _encode(created_at: datetime, key: str) -> bytes:
    microseconds = (created_at - _EPOCH) // timedelta(microseconds=1)
    return microseconds.to_bytes(8, "big", signed=True) + key.encode()


def _digest(filters: bytes, place: bytes) -> bytes:
    data = TOKEN_VERSION + len(filters).to_bytes(4, "big") + filters + place
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, person=b"midas.page").digest()
