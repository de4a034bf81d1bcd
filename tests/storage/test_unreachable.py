"""A person who starts Midas reads why PostgreSQL cannot be used, and what to do about it."""

import asyncio
import errno
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from midas.errors import SettingsError
from midas.storage import migrate, open_store
from midas.storage.engine import SESSION_SETTINGS
from midas.storage.unreachable import unreachable
from tests.postgres import PostgresServer

SECRET = "s3cr3t"
URL_OF_THEM = make_url("postgresql://somebody@db.internal/payments")
_TLS_WANTED = 80_877_103
"""What a client sends for a version when it asks for TLS."""


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def refusal(state: str, sentence: str) -> bytes:
    """PostgreSQL's ErrorResponse to a connection."""
    fields = {"S": "FATAL", "V": "FATAL", "C": state, "M": sentence, "D": "more", "H": "a hint"}
    encoded = b"".join(key.encode() + value.encode() + b"\0" for key, value in fields.items())
    return _message(b"E", encoded + b"\0")


STANDBY = (
    _message(b"R", struct.pack("!i", 0))
    + _message(b"S", b"server_version\x0018.0\0")
    + _message(b"S", b"in_hot_standby\0on\0")
    + _message(b"Z", b"I")
)
"""A session has begun, on a server that replays another one's log."""


@asynccontextmanager
async def answering(answer: bytes, to_tls: bytes = b"N") -> AsyncIterator[str]:
    """The DATABASE_URL of a server that answers each client the same, and ends the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size, version = struct.unpack("!ii", await reader.readexactly(8))
        if version == _TLS_WANTED:
            writer.write(to_tls)
            if to_tls == b"N":
                size, _ = struct.unpack("!ii", await reader.readexactly(8))
        if version != _TLS_WANTED or to_tls == b"N":
            await reader.readexactly(size - 8)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://midas:{SECRET}@127.0.0.1:{port}/midas"


async def shown_sentence(url: str) -> str:
    """The sentence, which opening and migrating have in common."""
    sentences = set()
    for use in (open_store, migrate):
        with pytest.raises(SettingsError) as raised:
            await use(url)
        sentences.add(str(raised.value))
    (sentence,) = sentences
    assert SECRET not in sentence
    assert "DATABASE_URL" in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize(
    ("state", "sentence", "todo"),
    [
        ("28P01", 'password authentication failed for user "midas"', "user or password"),
        (
            "28000",
            'no pg_hba.conf entry for host "10.0.0.1", user "midas", no encryption',
            "pg_hba.conf",
        ),
        ("3D000", 'database "midas" does not exist', "database's name"),
        ("53300", "sorry, too many clients already", "takes up to 10 connections"),
        ("57P03", "the database system is starting up", "Wait until"),
        ("57P03", "the database system is not yet accepting connections", "Wait until"),
        ("08P01", "unsupported startup parameter: statement_timeout", "ignore_startup_parameters"),
        ("08P01", "no such database: midas", "Put that right"),
        ("XX000", "could not open file", "Put that right"),
        ("58P01", "could not open directory", "Put that right"),
        ("ZZ999", "something new", "Put that right"),
    ],
)
async def test_the_servers_answer_is_shown(state: str, sentence: str, todo: str) -> None:
    """The sentence has its own words, its SQLSTATE and what to do; never that it is out of reach.

    It lacks what the server has from the URL: a password may be in the place of a name there.
    """
    async with answering(refusal(state, sentence)) as url:
        shown = await shown_sentence(url)
    assert f'"{sentence.replace("midas", "…")}" ({state})' in shown
    assert todo in shown
    assert "cannot be reached" not in shown
    assert "correct the host and port" not in shown


async def test_all_settings_that_a_pooler_must_ignore_are_named() -> None:
    """PgBouncer names the first one alone; to add them one by one takes a start for each."""
    async with answering(refusal("08P01", "unsupported startup parameter: jit")) as url:
        shown = await shown_sentence(url)
    for name in set(SESSION_SETTINGS) - {"application_name", "timezone"}:
        assert name in shown
    assert "pool_mode = session" in shown


async def test_a_long_answer_of_many_lines_becomes_a_short_one() -> None:
    """It is a line of a terminal and of a log."""
    async with answering(refusal("XX000", "one\n\x1b[31mtwo " + "x" * 1000)) as url:
        shown = await shown_sentence(url)
    assert '"one [31mtwo xxx' in shown
    assert len(shown) < 500
    assert shown.isprintable()


async def test_a_standby_is_refused() -> None:
    """Its connections work; its answer would come with the first write only."""
    async with answering(STANDBY) as url:
        with pytest.raises(SettingsError, match="Name the primary") as raised:
            await open_store(url)
    assert "does not take writes" in str(raised.value)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["end", "http"])
async def test_a_server_that_is_no_postgres_is_named(answer: bytes) -> None:
    """Another program listens there."""
    async with answering(answer) as url:
        shown = await shown_sentence(url)
    assert "ended the connection, or is no PostgreSQL" in shown


async def test_missing_tls_is_named(postgres: PostgresServer) -> None:
    """A real server without it, and one that breaks off."""
    shown = await shown_sentence(f"{postgres.url()}?sslmode=require")
    assert "offers no TLS" in shown
    async with answering(b"", to_tls=b"S") as url:
        assert "cannot be" in await shown_sentence(f"{url}?sslmode=require")


async def test_a_closed_port_is_named() -> None:
    """Nothing listens: the address is the first thing to look at."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for host in ("127.0.0.1", "localhost"):
            shown = await shown_sentence(
                f"postgresql://u:{SECRET}@{host}:{closed.getsockname()[1]}/d"
            )
            assert "nobody listens" in shown


async def test_a_role_that_may_not_log_in_is_named(postgres: PostgresServer) -> None:
    """By a real server: it is unknown, may not log in, or has too many sessions."""
    postgres.sql("CREATE ROLE outside NOLOGIN; CREATE ROLE crowd LOGIN CONNECTION LIMIT 0")
    answers = {}
    for role in ("nobody", "outside", "crowd"):
        answers[role] = await shown_sentence(
            postgres.url().replace("postgres@", f"{role}:{SECRET}@")
        )
    assert '"role "…" does not exist" (28000)' in answers["nobody"]
    assert '"role "…" is not permitted to log in" (28000)' in answers["outside"]
    assert '"too many connections for role "…"" (53300)' in answers["crowd"]
    postgres.sql("DROP ROLE outside; DROP ROLE crowd")


async def test_missing_rights_are_named(postgres: PostgresServer, postgres_url: str) -> None:
    """By a real server, when the first table is read."""
    role = f"guest_{postgres_url.rpartition('_')[2]}"
    postgres.sql(f"CREATE ROLE {role} LOGIN")
    shown = await shown_sentence(postgres_url.replace("postgres@", f"{role}:{SECRET}@"))
    assert "permission denied" in shown
    assert "grant it the right" in shown
    postgres.sql(f"DROP ROLE {role}")


async def test_a_read_only_server_is_refused(
    postgres: PostgresServer, blank_postgres_url: str
) -> None:
    """By a real server, when the schema is to be written."""
    name = blank_postgres_url.rpartition("/")[2]
    postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(SettingsError, match="Name the primary") as raised:
        await migrate(blank_postgres_url)
    assert "in a read-only transaction" in str(raised.value)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConnectionRefusedError("no"), "nobody listens"),
        (OSError(f"Multiple exceptions: [Errno {errno.ECONNREFUSED}] a, b"), "nobody listens"),
        (socket.gaierror(-2, "Name or service not known"), "host's name has no address"),
        (TimeoutError(), "no answer within 3 seconds"),
        (ConnectionResetError("reset"), "ended the connection"),
        (asyncpg.InternalClientError("protocol"), "ended the connection"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "TLS handshake"),
        (OSError("something else"), "cannot be used (OSError)"),
        (OperationalError("SELECT", {}, TimeoutError()), "no answer within 3 seconds"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_each_way_not_to_reach_a_server_has_its_sentence(error: Exception, sentence: str) -> None:
    """Each kind by its own sentence."""
    assert sentence in unreachable(error, URL_OF_THEM)


def test_the_reason_of_an_untrusted_certificate_is_shown() -> None:
    """With OpenSSL's reason."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    shown = unreachable(error, URL_OF_THEM)
    assert "self-signed certificate" in shown
    assert "sslrootcert" in shown


def test_nothing_of_the_url_comes_back_in_the_words_of_the_server() -> None:
    """With any two parts swapped; also where the server cuts one to its longest name."""
    long = SECRET + "x" * 80
    for url in (
        f"postgresql://{SECRET}@h/{long}",
        f"postgresql://u:{SECRET}@h/{long}",
        f"postgresql://u@{SECRET}/{long}",
        f"postgresql://u@h/d?user={SECRET}&database={long}",
    ):
        words = f'no entry for "{SECRET}", database "{long[:63]}", »{long}«'
        error = asyncpg.InvalidAuthorizationSpecificationError(words)
        error.message = words
        shown = unreachable(error, make_url(url))
        assert SECRET not in shown
        assert "no entry for" in shown
