"""The commands with which an implementation shows what it did, restarts, and makes orders."""

import asyncio
import json
import shlex
import tempfile
from typing import IO, Any, NamedTuple

from midas.cli.call_errors import Failed, printable
from midas.cli.contract_kit.notices import CLOSED, NOT_REFUNDED, REFUNDED, SUCCESS
from midas.runtime.command_errors import ExitStatus, Trouble

COUNTERS = {
    SUCCESS: "pay_order_success",
    CLOSED: "pay_order_closed",
    REFUNDED: "refund_success",
    NOT_REFUNDED: "refund_failed",
}
"""Each call's name in what --effects-command prints."""
PATIENCE_S = 60.0
OUTPUT_CHARACTERS = 200


class _Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def why(self) -> str:
        """Why it failed, as a part of a sentence."""
        output = printable(self.err.strip()[-OUTPUT_CHARACTERS:])
        return f"ended with status {self.status}: {output}"


class Probe:
    """One command of the implementation's side."""

    def __init__(self, option: str, command: str) -> None:
        self._option = option
        self._words = _words(option, command)

    async def run(self, **values: object) -> str:
        """Run it and return its output. Raises Failed if it does not end with 0 in PATIENCE_S."""
        ended = await self._run(values)
        if ended.status:
            raise self._failed(ended.why)
        return ended.out

    async def _run(self, values: dict[str, object]) -> "_Ended":
        # files, not pipes: a process that --restart-command started may hold its output open
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            status = await self._ended([_filled(word, values) for word in self._words], out, err)
            return _Ended(status, _text(out), _text(err))

    async def _ended(self, words: list[str], out: IO[bytes], err: IO[bytes]) -> int:
        nothing = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=nothing, stdout=out, stderr=err
            )
        except OSError as error:
            raise self._failed(f"cannot be started: {error.strerror}") from None
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise self._failed(f"did not end within {PATIENCE_S:.0f} s") from None

    async def effects(self, order_no: str) -> dict[str, int]:
        """How often each call had an effect on the order, by the call's name.

        Once this is printed, the exit status does not count: some commands fail for an order that
        they do not know yet. Raises Failed when it is not printed.
        """
        ended = await self._run({"order_no": order_no})
        try:
            shown: Any = json.loads(ended.out)
            return {method: int(shown[counter]) for method, counter in COUNTERS.items()}
        except (ValueError, TypeError, KeyError):
            if ended.status:
                raise self._failed(ended.why) from None
            wanted = ", ".join(COUNTERS.values())
            got = printable(ended.out.strip()[:OUTPUT_CHARACTERS])
            what = f"must print one JSON object with {wanted}; it printed {got!r}"
            raise self._failed(what) from None

    def _failed(self, what: str) -> Failed:
        advice = "Nothing was judged. See: midas contract-kit --help"
        message = f"{self._option} {what}"
        return Failed(Trouble("PROBE", message, status=ExitStatus.USAGE, advice=advice))


def _text(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")


def _words(option: str, command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        words, reason = [], str(error)
    else:
        reason = "it is empty"
    if not words:
        message = f"{option} is not a command line: {reason}"
        raise Failed(Trouble("USAGE", message, status=ExitStatus.USAGE))
    return words


def _filled(word: str, values: dict[str, object]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", str(value))
    return word
