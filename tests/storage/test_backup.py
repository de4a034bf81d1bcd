"""The copy of a SQLite file that is made before its schema is changed."""

import logging
import re
import shutil
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from midas.errors import SettingsError
from midas.storage import backup, migrate, open_store
from midas.storage.schema import SCHEMA
from tests.records import intent
from tests.storage.newer import Newer, install


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Newer:
    """Makes this process one that has a migration more than the file."""
    made = Newer(tmp_path)
    made.add(
        "build_index('charges_of_later', 'charges', ['subject'], where='amount > 100')\n"
        "op.drop_table('refunds')"
    )
    install(made.folder, monkeypatch)
    return made


@pytest.fixture
async def path(sqlite_path: Path) -> Path:
    """A file with one order."""
    async with await open_store(f"sqlite:///{sqlite_path}") as store:
        assert await store.commit(intent("o1"))
    return sqlite_path


def backups(path: Path) -> list[Path]:
    """What lies beside the file."""
    return sorted(each for each in path.parent.glob("midas.db*") if "backup" in each.name)


def rows(path: Path, statement: str) -> list[Any]:
    """Of one statement."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


async def test_the_file_is_copied_before_it_is_changed(
    path: Path, newer: Newer, caplog: pytest.LogCaptureFixture
) -> None:
    """The copy is whole and as it was, has the file's own rights, and is logged."""
    path.chmod(0o640)  # noqa: ASYNC240
    caplog.set_level(logging.INFO, "midas")
    async with await open_store(f"sqlite:///{path}"):
        pass
    (copy,) = backups(path)
    assert re.fullmatch(rf"midas\.db\.schema-{SCHEMA}\.\d{{8}}T\d{{6}}Z\.backup", copy.name)
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert rows(copy, "SELECT order_no FROM orders") == [("o1",)]
    assert rows(copy, "SELECT version_num FROM alembic_version") == [(SCHEMA,)]
    assert rows(copy, "SELECT count(*) FROM refunds") == [(0,)]
    assert rows(path, "SELECT version_num FROM alembic_version") == [(newer.revision,)]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640
    lines = [(each.message, getattr(each, "file", "")) for each in caplog.records]
    assert lines == [("database_backed_up", copy.name), ("schema_migrated", "")]


async def test_a_copy_is_never_written_over(
    path: Path, newer: Newer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second copy of the same second gets another name."""

    class Noon(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Noon":
            return cls(2026, 11, 28, 12, tzinfo=UTC)

    monkeypatch.setattr(backup, "datetime", Noon)
    taken = path.with_name(f"midas.db.schema-{SCHEMA}.20261128T120000Z.backup")
    taken.write_text("an earlier one")
    await migrate(f"sqlite:///{path}")
    assert taken.read_text() == "an earlier one"
    assert [each.name for each in backups(path)] == [
        f"midas.db.schema-{SCHEMA}.20261128T120000Z-2.backup",
        taken.name,
    ]


async def test_there_is_none_without_rows_or_without_a_migration(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file that is new, one that is empty, and one that is up to date."""
    url = f"sqlite:///{sqlite_path}"
    async with await open_store(f"sqlite:///{tmp_path}/midas.db.new"):
        pass
    made = Newer(tmp_path)
    made.add("pass")
    with monkeypatch.context() as patch:
        install(made.folder, patch)
        assert await migrate(url) == (SCHEMA, made.revision)
        async with await open_store(url) as store:
            assert await store.commit(intent("o1"))
        await migrate(url)
    assert backups(sqlite_path) == []


async def test_where_it_cannot_be_copied_nothing_is_changed(
    path: Path, newer: Newer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: a sentence, the old schema, and no half of a copy."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copymode", full)
    with pytest.raises(SettingsError, match=r"No space left on device.*nothing was changed"):
        await migrate(f"sqlite:///{path}")
    assert backups(path) == []
    assert rows(path, "SELECT version_num FROM alembic_version") == [(SCHEMA,)]
    monkeypatch.undo()


async def test_what_an_attempt_left_behind_is_not_in_the_way(path: Path, newer: Newer) -> None:
    """A process that was killed while it copied."""
    unfinished = path.with_name(f"{path.name}.backup-unfinished")
    unfinished.write_text("half of a copy")
    await migrate(f"sqlite:///{path}")
    (copy,) = backups(path)
    assert rows(copy, "SELECT order_no FROM orders") == [("o1",)]


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, newer: Newer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All migrations or none; and no copy, since many starts would fill the disk with copies."""
    newer.add("op.execute('SELECT * FROM nobody')")
    install(newer.folder, monkeypatch)
    with pytest.raises(SettingsError):
        await migrate(f"sqlite:///{path}")
    assert rows(path, "SELECT version_num FROM alembic_version") == [(SCHEMA,)]
    assert rows(path, "SELECT count(*) FROM refunds") == [(0,)]
    assert backups(path) == []
