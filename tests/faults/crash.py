"""A process that may die at any call, and the ways in which a call to its disk goes."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from midas.errors import StorageUnavailable

Result = TypeVar("Result")

COMMIT_WAYS = ("ok", "refused", "lost_written", "lost_unwritten", "crash_before", "crash_after")
READ_WAYS = ("ok", "refused")


class Crash(BaseException):
    """The process is gone, at this very point."""


class Process:
    """Whether it still lives: after a crash none of its calls does anything."""

    def __init__(self) -> None:
        self.dead = False

    def crash(self) -> None:
        """Die here."""
        self.dead = True
        raise Crash

    def still_alive(self) -> None:
        """Raise if it died before."""
        if self.dead:
            raise Crash


async def written(process: Process, way: str, write: Callable[[], Awaitable[Result]]) -> Result:
    """What comes back of a write that goes this way: one of COMMIT_WAYS."""
    if way == "crash_before":
        process.crash()
    if way == "refused":
        raise StorageUnavailable
    if way == "lost_unwritten":
        raise StorageUnavailable(may_have_written=True)
    result = await write()
    if way == "crash_after":
        process.crash()
    if way == "lost_written":
        raise StorageUnavailable(may_have_written=True)
    return result
