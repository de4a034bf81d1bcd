"""Whoever starts Midas reads why PostgreSQL cannot be used, and what to do about it."""

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
    told = b"".join(key.encode() + value.encode() + b"\0" for key, value in fields.items())
    return _message(b"E", told + b"\0")


STANDBY = (
    _message(b"R", struct.pack("!i", 0))
    + _message(b"S", b"server_version\x0018.0\0")
    + _message(b"S", b"in_hot_standby\0on\0")
    + _message(b"Z", b"I")
)
"""A session has begun, on a server that replays another one's log."""


@asynccontextmanager
async def answering(answer: bytes, to_tls: bytes = b"N") -> AsyncIterator[str]:
    """The DATABASE_URL of a server that says the same to everybody, and ends the connection."""

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


async def told(url: str) -> str:
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
async def test_what_the_server_answers_is_told(state: str, sentence: str, todo: str) -> None:
    """In its own words, with its SQLSTATE and what to do; never that it cannot be reached.

    Without what it has from the URL: there a password may stand in the place of a name.
    """
    async with answering(refusal(state, sentence)) as url:
        said = await told(url)
    assert f'"{sentence.replace("midas", "…")}" ({state})' in said
    assert todo in said
    assert "cannot be reached" not in said
    assert "correct the host and port" not in said


async def test_a_pooler_is_told_all_the_settings_that_it_does_not_know() -> None:
    """PgBouncer names the first one alone; whoever adds one by one starts it again each time."""
    async with answering(refusal("08P01", "unsupported startup parameter: jit")) as url:
        said = await told(url)
    for name in set(SESSION_SETTINGS) - {"application_name", "timezone"}:
        assert name in said
    assert "pool_mode = session" in said


async def test_a_long_answer_of_many_lines_becomes_a_short_one() -> None:
    """It is a line of a terminal and of a log."""
    async with answering(refusal("XX000", "one\n\x1b[31mtwo " + "x" * 1000)) as url:
        said = await told(url)
    assert '"one [31mtwo xxx' in said
    assert len(said) < 500
    assert said.isprintable()


async def test_a_standby_is_told() -> None:
    """Its connections work; its answer would come with the first write only."""
    async with answering(STANDBY) as url:
        with pytest.raises(SettingsError, match="Name the primary") as raised:
            await open_store(url)
    assert "does not take writes" in str(raised.value)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["end", "http"])
async def test_what_is_no_postgres_is_told(answer: bytes) -> None:
    """Something listens there."""
    async with answering(answer) as url:
        said = await told(url)
    assert "ended the connection, or is no PostgreSQL" in said


async def test_no_tls_is_told(postgres: PostgresServer) -> None:
    """A real server without it, and one that breaks off."""
    said = await told(f"{postgres.url()}?sslmode=require")
    assert "offers no TLS" in said
    async with answering(b"", to_tls=b"S") as url:
        assert "cannot be" in await told(f"{url}?sslmode=require")


async def test_a_closed_port_is_told() -> None:
    """Nothing listens: the address is the first thing to look at."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for host in ("127.0.0.1", "localhost"):
            said = await told(f"postgresql://u:{SECRET}@{host}:{closed.getsockname()[1]}/d")
            assert "nobody listens" in said


async def test_a_role_that_may_not_log_in_is_told(postgres: PostgresServer) -> None:
    """By a real server: it is unknown, may not log in, or has too many sessions."""
    postgres.sql("CREATE ROLE outside NOLOGIN; CREATE ROLE crowd LOGIN CONNECTION LIMIT 0")
    answers = {}
    for role in ("nobody", "outside", "crowd"):
        answers[role] = await told(postgres.url().replace("postgres@", f"{role}:{SECRET}@"))
    assert '"role "…" does not exist" (28000)' in answers["nobody"]
    assert '"role "…" is not permitted to log in" (28000)' in answers["outside"]
    assert '"too many connections for role "…"" (53300)' in answers["crowd"]
    postgres.sql("DROP ROLE outside; DROP ROLE crowd")


async def test_missing_rights_are_told(postgres: PostgresServer, postgres_url: str) -> None:
    """By a real server, when the first table is read."""
    role = f"guest_{postgres_url.rpartition('_')[2]}"
    postgres.sql(f"CREATE ROLE {role} LOGIN")
    said = await told(postgres_url.replace("postgres@", f"{role}:{SECRET}@"))
    assert "permission denied" in said
    assert "grant it the right" in said
    postgres.sql(f"DROP ROLE {role}")


async def test_a_read_only_server_is_told(
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
def test_what_never_reached_a_server_is_told(error: Exception, sentence: str) -> None:
    """Each kind by its own sentence."""
    assert sentence in unreachable(error, URL_OF_THEM)


def test_a_certificate_that_is_not_trusted_is_told() -> None:
    """With OpenSSL's reason."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    said = unreachable(error, URL_OF_THEM)
    assert "self-signed certificate" in said
    assert "sslrootcert" in said


def test_nothing_of_the_url_comes_back_in_the_words_of_the_server() -> None:
    """Whatever is swapped in it; also where the server cuts it to the longest name that it has."""
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
        said = unreachable(error, make_url(url))
        assert SECRET not in said
        assert "no entry for" in said
