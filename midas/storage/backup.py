"""A copy of the SQLite file beside it, made before its schema is changed.

The copy is for a person: Midas never reads it. It lacks the payments that were made after it, so
it is no way back from a migration. The way back is the old code on the new schema.
"""

import itertools
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from midas.errors import SettingsError

_OUR_OWN = frozenset({"alembic_version", "schema_compatibility", "sequence_epochs"})
"""Tables that have a row in a database in which nothing has happened yet."""


def back_up(path: Path, revision: str) -> Path | None:
    """Copy the file, which its caller has locked for writing; None if it has no rows to keep.

    `midas.sqlite3` with schema 0004 becomes `midas.sqlite3.schema-0004.20261128T120000Z.backup`. A
    file that is there already stays as it is. Raises SettingsError; there is no copy then.
    """
    unfinished = path.with_name(f"{path.name}.backup-unfinished")
    try:
        with closing(sqlite3.connect(path)) as source:
            if not _has_rows(source):
                return None
            _copy(source, path, unfinished)
        return unfinished.rename(_free_name(path, revision))
    except (OSError, sqlite3.Error) as error:
        unfinished.unlink(missing_ok=True)
        raise SettingsError(
            "DATABASE_URL: the file cannot be copied before its schema is changed"
            f" ({getattr(error, 'strerror', None) or error}). Make room on the disk and let Midas"
            " write the folder; nothing was changed."
        ) from error


def _has_rows(source: sqlite3.Connection) -> bool:
    tables = source.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return any(
        source.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()  # noqa: S608 - names of tables
        for (name,) in tables
        if name not in _OUR_OWN
    )


def _copy(source: sqlite3.Connection, path: Path, target: Path) -> None:
    target.unlink(missing_ok=True)  # what an earlier attempt left behind
    target.touch(mode=0o600)
    with closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    shutil.copymode(path, target)


def _free_name(path: Path, revision: str) -> Path:
    stem = f"{path.name}.schema-{revision or 'none'}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    names = itertools.chain((stem,), (f"{stem}-{n}" for n in itertools.count(2)))
    return next(each for name in names if not (each := path.with_name(f"{name}.backup")).exists())
