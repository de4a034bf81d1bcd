"""Makes an engine of `DATABASE_URL`; its errors say what is wrong with the URL or the place."""

import glob
import os
import sqlite3
import stat
from contextlib import closing, suppress
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from midas.errors import SettingsError
from midas.storage.sqlite import READERS

CONNECT_TIMEOUT = timedelta(seconds=3)
STATEMENT_TIMEOUT = timedelta(seconds=10)
"""PostgreSQL ends a statement that takes longer. One that was given up must not run for ever."""
POOL_TIMEOUT = timedelta(seconds=3)
POSTGRES_CONNECTIONS = 10
BUSY_TIMEOUT = timedelta(seconds=2)
"""How long SQLite waits for another process's transaction before the commit is tried again."""
SQLITE_CACHE_KIB = 32 * 1024
SQLITE_OLDEST = (3, 35, 0)

ACCEPTED = (
    "DATABASE_URL must be sqlite:///relative/path, sqlite:////absolute/path or"
    " postgresql://user:password@host:5432/database"
)

_SQLITE = ("sqlite", "sqlite+aiosqlite")
_POSTGRES = ("postgresql", "postgresql+asyncpg")


def parse(url: str) -> URL:
    """The URL, its driver filled in. Raises SettingsError, which never repeats the URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise SettingsError(f"DATABASE_URL cannot be read. {ACCEPTED}.") from None
    if parsed.drivername in _SQLITE:
        if parsed.database in (None, "", ":memory:"):
            raise SettingsError(f"DATABASE_URL names no SQLite file. {ACCEPTED}.")
        return parsed.set(drivername="sqlite")
    if parsed.drivername in _POSTGRES:
        if not parsed.database:
            raise SettingsError(f"DATABASE_URL names no database. {ACCEPTED}.")
        return _connectable(_with_asyncpg_names(parsed.set(drivername="postgresql+asyncpg")))
    raise SettingsError(f"DATABASE_URL starts with an unknown scheme. {ACCEPTED}.")


def _with_asyncpg_names(url: URL) -> URL:
    """The URL with `ssl` for `sslmode`: asyncpg alone calls the option so."""
    if "sslmode" not in url.query:
        return url
    query = dict(url.query)
    return url.set(query={**query, "ssl": query.pop("sslmode")}).difference_update_query(
        ["sslmode"]
    )


def _connectable(url: URL) -> URL:
    """The URL, if its hosts and ports go together. Raises SettingsError if they do not."""
    try:
        url.get_dialect()().create_connect_args(url)
    except (ArgumentError, ValueError):
        raise SettingsError(f"DATABASE_URL cannot be read. {ACCEPTED}.") from None
    return url


def is_sqlite(url: URL) -> bool:
    """Whether a parsed URL is one of SQLite."""
    return url.drivername == "sqlite"


def is_in_the_clear(url: URL) -> bool:
    """Whether what is sent to the database may leave this machine unencrypted."""
    if is_sqlite(url) or url.query.get("ssl") in _ENCRYPTING:
        return False
    named = url.query.get("host") or url.host or ""  # in SQLAlchemy's order
    hosts = (named,) if isinstance(named, str) else named
    return not all(_is_local(each) for each in hosts)


_ENCRYPTING = frozenset({"require", "verify-ca", "verify-full"})
"""The values of sslmode with which no session begins in the clear."""


def _is_local(host: str) -> bool:
    """Whether it is this machine: a socket's folder, or a loopback address, also with a port."""
    if host.startswith("/") or host.partition(":")[0] == "localhost":
        return True
    for address in (host, host.rpartition(":")[0]):
        with suppress(ValueError):
            return ip_address(address.strip("[]")).is_loopback
    return False


def sqlite_engine(url: URL) -> Engine:
    """An engine on the file, in autocommit mode.

    WAL lets readers go on beside the writer; `synchronous=FULL` has every commit on the disk.
    """
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        poolclass=QueuePool,
        pool_size=READERS + 1,
        max_overflow=0,
        connect_args={
            "check_same_thread": False,
            "cached_statements": 256,
            "timeout": BUSY_TIMEOUT.total_seconds(),
        },
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


_PRAGMAS = (
    f"busy_timeout = {int(BUSY_TIMEOUT.total_seconds() * 1000)}",
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    f"cache_size = -{SQLITE_CACHE_KIB}",
)


def check_file(url: URL, *, make: bool = True) -> None:
    """Raise SettingsError, with what to do, unless the file can be written, or made.

    If `make`, a missing file is made, and only its owner may read it. SQLite gives the files beside
    it the same rights.
    """
    path = Path(url.database or "").absolute()
    if sqlite3.sqlite_version_info < SQLITE_OLDEST:
        raise SettingsError(
            f"This Python has SQLite {sqlite3.sqlite_version}; Midas needs 3.35 or newer."
            " Install a newer one or set DATABASE_URL to a PostgreSQL database."
        )
    try:
        if path.is_dir():
            raise SettingsError("DATABASE_URL names a folder. Name a file in it.")
        is_there, has_folder = path.exists(), path.parent.is_dir()
    except (OSError, ValueError):
        raise SettingsError(f"DATABASE_URL names no file. {ACCEPTED}.") from None
    if not has_folder:
        raise SettingsError(
            "DATABASE_URL: the folder of the file does not exist. Create it and let Midas write"
            f" there.{_from_here(url)}"
        )
    if is_there or make:
        _try_to_write(path)
    else:
        _try_to_make_a_file(path.parent)


def _from_here(url: URL) -> str:
    """Which folder a relative path is taken from."""
    is_relative = not Path(url.database or "").is_absolute()
    return f" The path is relative to {Path.cwd()}." if is_relative else ""


def close_to_others(url: URL) -> bool:
    """Take the rights of all others from the files of this database. True: there were any.

    A group keeps its rights. Files that another user owns stay as they are.
    """
    path = Path(url.database or "").absolute()
    file = path.resolve()  # SQLite keeps the others beside it
    beside = (file.with_name(file.name + ending) for ending in ("-wal", "-shm", "-journal"))
    copies = path.parent.glob(f"{glob.escape(path.name)}.schema-*.backup")
    found = False
    for each in (file, *beside, *copies):
        with suppress(OSError):
            mode = each.stat().st_mode
            if mode & stat.S_IRWXO:
                each.chmod(stat.S_IMODE(mode) & ~stat.S_IRWXO)
                found = True
    return found


def _try_to_make_a_file(folder: Path) -> None:
    try:
        with TemporaryFile(dir=folder):
            return
    except OSError:
        raise SettingsError(_NOT_WRITABLE) from None


def _try_to_write(path: Path) -> None:
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT.total_seconds())) as connection:
            connection.execute("BEGIN IMMEDIATE")
            # To begin succeeds even on a file that is open for reading only, so write something.
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {version}")
            connection.rollback()
    except OSError:
        raise SettingsError(_NOT_WRITABLE) from None
    except sqlite3.Error as error:
        raise SettingsError(_file_trouble(error)) from error


def _file_trouble(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return "DATABASE_URL names a file that is no SQLite database. Name another, or remove it."
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "DATABASE_URL: another program holds the file locked. Stop it, then start again."
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return _NOT_WRITABLE
    return f"DATABASE_URL: the file cannot be used ({error}). Check the disk and the file."


_NOT_WRITABLE = (
    "DATABASE_URL: the file cannot be opened for writing. Let the user that Midas runs as write the"
    " file and its folder."
)


def postgres_engine(url: URL) -> AsyncEngine:
    """An engine in autocommit mode; it connects when it is used first."""
    return create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=POSTGRES_CONNECTIONS,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT.total_seconds(),
        connect_args={
            "timeout": CONNECT_TIMEOUT.total_seconds(),
            "target_session_attrs": "primary",
            "server_settings": SESSION_SETTINGS,
        },
    )


SESSION_SETTINGS = {
    "application_name": "midas",
    "statement_timeout": str(int(STATEMENT_TIMEOUT.total_seconds() * 1000)),
    "timezone": "UTC",
    "jit": "off",
    # Every statement looks up a few rows by an index, however many rows there are; a plan made
    # while the tables were small must not read all of them once they are large.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
