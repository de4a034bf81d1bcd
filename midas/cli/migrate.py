"""`midas migrate`."""

import asyncio

import click

from midas.cli.help import Taught
from midas.cli.options import json_option, say_json


@click.command(cls=Taught)
@click.option(
    "--database",
    envvar="DATABASE_URL",
    required=True,
    show_envvar=True,
    help="sqlite:///path or postgresql://user:password@host/name.",
)
@json_option
def migrate(database: str, as_json: bool) -> None:
    """Bring the database to the schema that this version needs.

    All or nothing, and safe to run twice or by several at once. `midas serve` does it by itself on
    SQLite; on PostgreSQL run this before the new version starts. DATABASE_URL is read from the
    environment only, not from the config server.

    When it fails (status 2), the sentence says what to change, and the database is as it was.

    For example:
      DATABASE_URL=postgresql://midas@db/midas midas migrate
      midas migrate --database sqlite:///midas.sqlite3 --json
    """
    from midas import storage

    before, after = asyncio.run(storage.migrate(database))
    if as_json:
        say_json({"from": before or None, "to": after})
    elif before == after:
        click.echo(f"Schema {after}: nothing to do.")
    else:
        click.echo(f"Schema {before or 'none'} → {after}.")
