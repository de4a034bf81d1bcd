"""Help texts that keep their layout."""

import inspect
from typing import Any

import click


class Taught(click.Command):
    """A command whose docstring keeps its indented paragraphs: examples, tables, lists."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["help"] = kept(kwargs.get("help") or "")
        super().__init__(*args, **kwargs)


def kept(text: str) -> str:
    """The text with click's mark before each paragraph that has an indented line."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(("\b\n" if "\n  " in f"\n{p}" else "") + p for p in paragraphs)
