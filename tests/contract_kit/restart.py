"""Kills the process whose id is in a file and starts it again: what --restart-command does.

    python -m tests.contract_kit.restart PID_FILE PORT COMMAND...

Ends when something listens on the port. The first start is the same: there is nothing to kill then.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_S = 120


def main(pid_file: Path, port: int, command: list[str]) -> None:
    """Kill, start, wait."""
    stop(pid_file)
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, stdin=quiet, stdout=quiet, start_new_session=True)
    pid_file.write_text(str(child.pid))
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    sys.exit(f"nothing listens on {port}")


def stop(pid_file: Path) -> None:
    """Kill the process of the file with SIGKILL, if there is one."""
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while _listens(pid):
        time.sleep(0.01)
    pid_file.unlink()


def _listens(pid: int) -> bool:
    """Whether it still runs; a zombie, whose parent has not looked yet, does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (OSError, IndexError):
        return False
    return status != "Z"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
