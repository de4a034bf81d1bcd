"""`midas migrate`."""

import asyncio
from collections.abc import Mapping

import click

from midas.cli.help import Taught
from midas.cli.options import json_option, say_json

_SENTENCES = {
    "database_backed_up": "The file is copied to {file}, beside it.",
    "migration_waits_for_another": "Waiting for another migration of this database to end.",
    "migration_waits_for_lock": "A transaction holds a lock that is needed; attempt {attempt}.",
}


@click.command(cls=Taught)
@click.option(
    "--database",
    help="sqlite:///path or postgresql://user:password@host/name, in place of DATABASE_URL.",
)
@json_option
def migrate(database: str | None, as_json: bool) -> None:
    """Bring the database to the schema that this version needs.

    Reads DATABASE_URL from the environment, then from the config server. Safe to run twice or by
    several at once. `midas serve` does it by itself on SQLite; on PostgreSQL run this before the
    new version starts, with a user that owns the tables, and past a PgBouncer that pools
    transactions: a lock of the session keeps a second migration away.

    Replicas of the version before go on meanwhile, and can be started again, unless the new schema
    says that they may not. A database that a newer version has migrated is left as it is.

    What it says on the way goes to standard error. When it fails (status 2), the sentence says what
    to change. On SQLite the file is as it was; on PostgreSQL each migration is done as a whole or
    not at all, and running it again goes on from there.

    For example:
      DATABASE_URL=postgresql://midas@db/midas midas migrate
      CONFIG_URL=http://config:8888 ENV=production midas migrate
      midas migrate --database sqlite:///midas.sqlite3 --json
    """
    from midas import config, storage

    url = config.database_url() if database is None else database
    before, after = asyncio.run(storage.migrate(url, _say))
    if as_json:
        say_json({"from": before or None, "to": after})
    elif before == after:
        click.echo(f"Schema {after}: nothing to do.")
    else:
        click.echo(f"Schema {before or 'none'} → {after}.")


def _say(name: str, fields: Mapping[str, str | int]) -> None:
    sentence = _SENTENCES.get(name)
    if sentence is not None:
        click.echo(sentence.format(**fields), err=True)
