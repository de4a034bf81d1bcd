"""Why PostgreSQL could not be used, as a sentence for the person who starts Midas.

The server's answer is repeated in its own words, without the parts of the URL: a password at a
wrong place of the URL is a user or a database to the server.
"""

import errno
import re
import socket
import ssl
from collections.abc import Iterator

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import URL

from midas.storage.engine import CONNECT_TIMEOUT, POSTGRES_CONNECTIONS, SESSION_SETTINGS
from midas.storage.postgres_faults import cause_of

SENTENCE_CHARACTERS = 300
NAME_BYTES = 63
"""The longest name of PostgreSQL."""

_POOLED = ", ".join(
    name for name in SESSION_SETTINGS if name not in ("application_name", "timezone")
)
_POOLER = (
    "A pooler stands in between that does not pass on Midas's session settings. Connect to"
    " PostgreSQL itself; or have PgBouncer pool whole sessions (pool_mode = session), name"
    f" {_POOLED} in its ignore_startup_parameters, and set them for the user by ALTER ROLE … SET."
)
_PRIMARY = (
    "It is a standby, or set to read only. Name the primary in DATABASE_URL, or all servers"
    " (host1,host2), of which Midas takes the primary."
)
_USER = (
    "Correct the user in DATABASE_URL (or sslmode, if the server wants TLS), or let the server take"
    " it: see pg_hba.conf and the role."
)
_WAIT = "Wait until it takes connections, then start again."
_RIGHTS = "Let the user in DATABASE_URL own the tables, or grant it the right."
_CONNECTIONS = (
    f"Raise its limit, or run fewer clients: each Midas takes up to {POSTGRES_CONNECTIONS}"
    " connections."
)
_ANYTHING = "Put that right at the server, or correct DATABASE_URL, then start again."

_STATES = {
    "28P01": "Correct the user or password in DATABASE_URL.",
    "28000": _USER,
    "3D000": "Correct the database's name in DATABASE_URL, or create that database.",
    "25006": _PRIMARY,
    "42501": _RIGHTS,
    "42704": "Midas needs PostgreSQL 12 or newer.",
    "53300": _CONNECTIONS,
    "57P03": _WAIT,
}
"""What to do about an answer, by its SQLSTATE."""


def unreachable(error: BaseException, url: URL) -> str:
    """Why PostgreSQL could not be used, and what to do. Repeats nothing of the URL."""
    cause = cause_of(error)
    if isinstance(cause, asyncpg.PostgresError) and getattr(cause, "message", None):
        return _answered(cause, url)
    if isinstance(cause, asyncpg.TargetServerAttributeNotMatched):
        return f"The server in DATABASE_URL does not take writes. {_PRIMARY}"
    if isinstance(cause, ssl.SSLError):
        reason = getattr(cause, "verify_message", "") or cause.strerror or type(cause).__name__
        return (
            "The TLS handshake with the server in DATABASE_URL failed:"
            f" {_printable(_redacted(str(reason), url))}."
            " Correct its certificate, or sslmode and sslrootcert in DATABASE_URL."
        )
    if isinstance(cause, TypeError | ValueError):
        return "DATABASE_URL has an option that asyncpg does not know, or a wrong value. Remove it."
    return _not_answered(cause)


def _answered(error: asyncpg.PostgresError, url: URL) -> str:
    """The sentence if the server was reached, and answered why not."""
    sentence, state = _printable(_redacted(str(error.message), url)), error.sqlstate or ""
    todo = _STATES.get(state, _ANYTHING)
    if "startup parameter" in sentence:  # PgBouncer has no SQLSTATE of its own for it
        todo = _POOLER
    return f'PostgreSQL answered "{sentence}" ({state}) to what DATABASE_URL names. {todo}'


def _redacted(sentence: str, url: URL) -> str:
    """The sentence without what stands in the URL, the longest first."""
    for part in sorted(_url_parts(url), key=len, reverse=True):
        sentence = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", "…", sentence)
    return sentence


def _url_parts(url: URL) -> Iterator[str]:
    options = (value for values in url.normalized_query.values() for value in values)
    for part in (url.username, url.password, url.host, url.database, *options):
        if part:
            yield part
            # PostgreSQL cuts long names.
            yield part.encode()[:NAME_BYTES].decode(errors="ignore")


def _not_answered(cause: BaseException) -> str:
    """The sentence if no PostgreSQL answered there."""
    for kinds, words, what, todo in _NO_ANSWERS:
        if isinstance(cause, kinds) or (words and words in str(cause)):
            return f"PostgreSQL cannot be reached at the address in DATABASE_URL: {what}. {todo}"
    return (
        f"The database in DATABASE_URL cannot be used ({type(cause).__name__})."
        " Start it, or correct the host and port."
    )


_Kinds = tuple[type[BaseException], ...]
_NO_ANSWERS: tuple[tuple[_Kinds, str, str, str], ...] = (
    (
        (ConnectionRefusedError,),
        f"[Errno {errno.ECONNREFUSED}]",  # in the error about several addresses
        "nobody listens at that host and port",
        "Start it, or correct the host and port.",
    ),
    (
        (socket.gaierror,),
        "",
        "the host's name has no address",
        "Correct the host, or the name service of this machine.",
    ),
    (
        (TimeoutError,),
        "",
        f"no answer within {CONNECT_TIMEOUT.total_seconds():.0f} seconds",
        "Start it, correct the host and port, or let a firewall in between pass.",
    ),
    (
        (),
        "rejected SSL upgrade",
        "it offers no TLS, which sslmode demands",
        "Turn ssl on in PostgreSQL, or leave sslmode out if the network is your own.",
    ),
    (
        (ConnectionError, asyncpg.ConnectionDoesNotExistError, asyncpg.InternalClientError),
        "",
        "what listens there ended the connection, or is no PostgreSQL",
        "Correct the host and port, or see the server's log.",
    ),
)
"""Each row: the driver's errors, or words in them; what happened, and what to do."""


def _printable(sentence: str) -> str:
    """The sentence on one line, and not too long."""
    words = " ".join("".join(c if c.isprintable() else " " for c in sentence).split())
    return words[:SENTENCE_CHARACTERS]
