"""The PostgreSQL that fails over: a tool that makes one, kills its primary and brings it back.

The tool is no part of this repository. It is a program that knows four verbs and prints KEY=VALUE
lines; see `tests/failovers/__init__.py`.
"""

import asyncio
from pathlib import Path

PROMOTED = "PROMOTED_AFTER_S"
WRITES = "WRITES_AFTER_S"


class ClusterFailed(Exception):
    """The tool could not do it; the text is its own."""


class Cluster:
    """One cluster in a folder of its own, which the tool makes and removes."""

    def __init__(self, tool: str, folder: Path) -> None:
        self._tool = tool
        self._folder = folder

    async def up(self, *, synchronous: bool) -> str:
        """Start it; its DATABASE_URL. Raises ClusterFailed, and then nothing is left of it."""
        printed = await self._run("up", *(("--sync",) if synchronous else ()))
        try:
            return printed["DATABASE_URL"]
        except KeyError:
            raise ClusterFailed(f"{self._tool} up printed no DATABASE_URL") from None

    async def kill_primary(self, lag_s: float) -> dict[str, float]:
        """`kill -9`; the commits of the last `lag_s` seconds have not left it.

        Returns once another one takes writes: how long the promotion and the first write took.
        """
        lag = ("--lag", f"{lag_s:g}") if lag_s else ()
        printed = await self._run("kill-primary", "--wait", *lag)
        return {name: float(printed.get(name, "nan")) for name in (PROMOTED, WRITES)}

    async def revive(self) -> None:
        """Bring back the killed nodes, and wait until all of them are there again."""
        await self._run("revive", "--wait")

    async def down(self) -> None:
        """End all of it."""
        await self._run("down")

    async def _run(self, verb: str, *options: str) -> dict[str, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                *(self._tool, verb, str(self._folder), *options),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise ClusterFailed(f"cannot run {self._tool}: {error.strerror}") from error
        output, errors = await process.communicate()
        if process.returncode:
            raise ClusterFailed(f"{verb}: {errors.decode().strip() or process.returncode}")
        lines = (each.partition("=") for each in output.decode().splitlines())
        return {name: value for name, sign, value in lines if sign}
