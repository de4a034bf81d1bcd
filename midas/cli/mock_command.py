"""`midas mock`. It works without click, too: all of it is in `midas.mock.command`."""

import click


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    short_help="Answer every call at once with canned data.",
)
@click.pass_context
def mock(context: click.Context) -> int:
    """Pass all arguments on."""
    from midas.mock.command import run

    return run(context.args)
