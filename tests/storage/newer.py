"""A Midas with migrations that are not there yet: `python -m tests.storage.newer FOLDER migrate`.

`Newer` writes the migrations; as a program this runs the command line of the Midas that has them.
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
        """What runs a command of the newer Midas with this interpreter."""
        return ["-m", "tests.storage.newer", str(self.folder), *command]


MIGRATING = importlib.import_module("midas.storage.migrate")
"""The module; the package has the function of that name."""


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make this process one of the newer Midas."""
    newest = max(each.name for each in (folder / "versions").glob("*.py"))
    patch.setattr(MIGRATING, "_MIGRATIONS", folder)
    patch.setattr(schema, "SCHEMA", newest.partition("_")[0])


if __name__ == "__main__":
    from midas.cli.app import cli

    install(Path(sys.argv[1]), pytest.MonkeyPatch())
    cli(sys.argv[2:])
