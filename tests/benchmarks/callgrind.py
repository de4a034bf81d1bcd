"""How many instructions a process executes, by valgrind's tool callgrind.

`side_by_side.py` says what the count is good for.
"""

import re
import shutil
import subprocess
from pathlib import Path

from tests.benchmarks.processes import ANSWER_TIMEOUT_S, BenchmarkFailed, Child
from tests.benchmarks.rounds import Meter

_TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


class Callgrind:
    """Counts for processes that were started with its prefix. Its files are in this folder."""

    def __init__(self, folder: Path) -> None:
        if not shutil.which("valgrind"):
            raise BenchmarkFailed("Counting instructions needs valgrind, which is not installed.")
        self._folder = folder
        self._vgdb = f"--vgdb-prefix={folder}/vgdb"

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command to start a process with. It counts nothing before `switch_on`."""
        output = f"--callgrind-out-file={self._folder}/callgrind.%p"
        return ("valgrind", "--tool=callgrind", "--instr-atstart=no", self._vgdb, output)

    def switch_on(self, child: Child) -> None:
        """Count from now on; the process is many times slower with it."""
        self._control(child, "-i", "on")

    def meter(self, child: Child) -> Meter:
        """The count of one process. Readings raise BenchmarkFailed if there is none."""
        total = 0

        def read() -> float:
            nonlocal total
            total += self._since_last_dump(child)
            return total

        return read

    def _since_last_dump(self, child: Child) -> int:
        printed = self._control(child, "-d")
        dumps = list(self._folder.glob(f"callgrind.{child.pid}.*"))
        if len(dumps) != 1:
            raise BenchmarkFailed(f"callgrind wrote {len(dumps)} dumps instead of one: {printed}")
        try:
            return total_of(dumps[0].read_text(errors="replace"))
        finally:
            dumps[0].unlink()

    def _control(self, child: Child, *request: str) -> str:
        """Have callgrind do this; return what was printed."""
        command = ["callgrind_control", self._vgdb, *request, str(child.pid)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=ANSWER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BenchmarkFailed(f"no answer within {ANSWER_TIMEOUT_S:.0f} s") from None
        printed = (done.stdout + done.stderr).decode(errors="replace")
        if done.returncode:
            raise BenchmarkFailed(f"callgrind_control failed: {printed}")
        return printed


def total_of(dump: str) -> int:
    """All instructions of a dump. Raises BenchmarkFailed if the dump does not say."""
    found = _TOTAL.search(dump)
    if not found:
        raise BenchmarkFailed("a dump of callgrind has no total")
    return int(found[1])
