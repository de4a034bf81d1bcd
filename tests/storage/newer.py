"""A Midas with other migrations than this one: `python -m tests.storage.newer FOLDER migrate`.

`Newer` writes some that are not there yet, and `Older` leaves the last ones out. As a program this
runs the command line of the Midas that has those of the folder.
"""

import importlib
import shutil
import sys
from pathlib import Path
from textwrap import indent

import pytest

from midas.storage import schema

_FILE = '''"""Made for a test. Locks nothing for long."""

import sqlalchemy as sa
from alembic import op
from midas.storage.indexes import build_index

revision = "{revision}"
down_revision = "{before}"
oldest = "{oldest}"
branch_labels = None
depends_on = None


def upgrade() -> None:
{upgrade}
'''


class Newer:
    """The folder of a newer Midas, with its own migrations behind those of this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "migrations"
        self.revision = schema.SCHEMA
        shutil.copytree(Path(schema.__file__).parent / "migrations", self.folder)

    def add(self, upgrade: str, oldest: str = "") -> str:
        """Add a migration that does this; its revision. `oldest`: its own where it is not given."""
        revision = f"{int(self.revision) + 1:04}"
        written = _FILE.format(
            revision=revision,
            before=self.revision,
            oldest=oldest or revision,
            upgrade=indent(upgrade, "    "),
        )
        (self.folder / "versions" / f"{revision}_of_a_test.py").write_text(written)
        self.revision = revision
        return revision

    def program(self, *command: str) -> list[str]:
        """What runs a command of that Midas with this interpreter."""
        return ["-m", "tests.storage.newer", str(self.folder), *command]


class Older(Newer):
    """The folder of an older Midas: this one's, without the migrations after `revision`."""

    def __init__(self, folder: Path, revision: str) -> None:
        super().__init__(folder)
        self.revision = revision
        for each in (self.folder / "versions").glob("*.py"):
            if each.name.partition("_")[0] > revision:
                each.unlink()


MIGRATING = importlib.import_module("midas.storage.migrate")
"""The module; the package has the function of that name."""


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make this process one of that Midas."""
    newest = max(each.name for each in (folder / "versions").glob("*.py"))
    patch.setattr(MIGRATING, "_MIGRATIONS", folder)
    patch.setattr(schema, "SCHEMA", newest.partition("_")[0])


if __name__ == "__main__":
    from midas.cli.app import cli

    install(Path(sys.argv[1]), pytest.MonkeyPatch())
    cli(sys.argv[2:])
