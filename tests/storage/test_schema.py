"""Which schema is served by which code, and what every migration has to state."""

import pytest
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from midas.storage import schema
from midas.storage.schema import DatabaseSchema


@pytest.mark.parametrize(
    ("found", "fits", "sentence"),
    [
        (DatabaseSchema(), False, "has schema none and this Midas needs 0005: run `midas migrate`"),
        (DatabaseSchema("0004"), False, "has schema 0004 and this Midas needs 0005"),
        (DatabaseSchema("0005"), True, ""),
        (DatabaseSchema("0006", "0003"), True, ""),
        (DatabaseSchema("0006", "0005"), True, ""),
        (
            DatabaseSchema("0006", "0006"),
            False,
            "it knows schema 0005, and schema 0006 is for those",
        ),
        (DatabaseSchema("0007", "0006"), False, "schema 0007 is for those that know 0006: deploy"),
        (DatabaseSchema("0006", ""), False, "schema 0006 is for those that know 0006: deploy"),
    ],
)
def test_a_schema_fits_from_its_oldest_on(
    monkeypatch: pytest.MonkeyPatch, found: DatabaseSchema, fits: bool, sentence: str
) -> None:
    """A Midas serves its own schema, and newer ones whose `oldest` is not above its own.

    The others are refused with a sentence.
    """
    monkeypatch.setattr(schema, "SCHEMA", "0005")
    assert found.fits is fits
    if not fits:
        assert sentence in str(found.refusal())


def migrations() -> list[Script]:
    """All of them, the oldest first."""
    config = Config()
    config.set_main_option("script_location", "midas:storage/migrations")
    return list(ScriptDirectory.from_config(config).walk_revisions())[::-1]


OLDEST = str(migrations()[-1].module.oldest)
"""The oldest schema whose code may go on after the newest migration."""


def test_every_migration_states_what_it_locks_and_who_may_go_on() -> None:
    """`oldest` never sinks, and is never newer than the migration itself."""
    before = "0003"
    for each in migrations():
        assert "Locks " in each.doc or "Locks " in (each.longdoc or ""), each.revision
        if each.revision >= "0003":
            assert before <= each.module.oldest <= each.revision, each.revision
            before = each.module.oldest


def test_code_of_0004_may_go_on_after_0005() -> None:
    """It has two more indexes, of which that code need not know."""
    (due_rows,) = (each for each in migrations() if each.revision == "0005")
    assert due_rows.module.oldest == "0004"
