"""`midas migrate`."""

import asyncio
import re
from collections.abc import Mapping

import click

from midas.cli.call_errors import Failed, refused_settings
from midas.cli.help import Taught
from midas.cli.options import json_option, print_json, warn_of_secret
from midas.errors import SettingsError

_PASSWORD = re.compile(r"://[^/@]*:[^@]+@|[?&]password=")
_AS_A_WHOLE = "Each migration is done as a whole or not at all: correct this and run it again."
_SENTENCES = {
    "database_closed_to_others": "Everybody could read the file; now its owner and group can.",
    "database_backed_up": "The file is copied to {file}, beside it.",
    "migration_waits_for_another": "Waiting for another migration of this database to end.",
    "migration_waits_for_lock": "A transaction holds a lock that is needed; attempt {attempt}.",
}


@click.command(cls=Taught)
@click.option(
    "--database",
    help="Used instead of DATABASE_URL, which is the better place for a URL with a password.",
)
@click.option(
    "--restored",
    is_flag=True,
    help="It is an older copy (a backup, a snapshot, a file); notifications were sent since then.",
)
@json_option
def migrate(database: str | None, restored: bool, as_json: bool) -> None:
    """Bring the database to the schema that this version needs.

    Reads DATABASE_URL from the environment, then from the config server, or takes --database; with
    ENV=production PostgreSQL must speak TLS in either case. Safe to run twice or by several at
    once. `midas serve` does it by itself on SQLite; on PostgreSQL run this before the new version
    starts, with a user that owns the tables, and past a PgBouncer that pools transactions: a lock
    of the session keeps a second migration away.

    After a database was put back from a copy, give --restored before Midas works on it: the
    notifications that were sent since the copy was made used numbers that must not be used again,
    so all that follow are numbered above them. PostgreSQL shows it by itself after a failover, a
    restore to a point in time, and a dump that was loaded into another server; a copy of files, or
    of SQLite's file, looks like the original. Giving it once too often does no harm.

    Replicas of the version before go on meanwhile, and can be started again, unless the new schema
    says that they may not. A database that a newer version has migrated is left as it is.

    Its progress goes to standard error. When it fails (status 2), the sentence says what
    to change. On SQLite the file is as it was; on PostgreSQL each migration is done as a whole or
    not at all, and running it again goes on from there.

    For example:
      DATABASE_URL=postgresql://midas@db/midas midas migrate
      CONFIG_URL=http://config:8888 ENV=production midas migrate
      midas migrate --database sqlite:///midas.sqlite3 --json
    """
    from midas import storage
    from midas.config import loading as config

    if database is not None and _PASSWORD.search(database):
        warn_of_secret("the password in --database", "DATABASE_URL")
    url = config.database_url(database)
    try:
        before, after = asyncio.run(storage.migrate(url, _print_progress))
        floor = asyncio.run(storage.raise_sequence_floor(url)) if restored else 0
    except SettingsError as error:
        raise Failed(refused_settings(error, _AS_A_WHOLE)) from None
    if as_json:
        print_json({"from": before or None, "to": after} | ({"floor": floor} if restored else {}))
    elif before == after:
        click.echo(f"Schema {after}: nothing to do.")
    else:
        click.echo(f"Schema {before or 'none'} → {after}.")
    if restored and not as_json:
        click.echo(f"Notifications are numbered above {floor} from now on.")


def _print_progress(name: str, fields: Mapping[str, str | int]) -> None:
    sentence = _SENTENCES.get(name)
    if sentence is not None:
        click.echo(sentence.format(**fields), err=True)
