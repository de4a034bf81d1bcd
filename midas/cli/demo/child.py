"""A process of the demo: a program of Midas that gets ready early, and that ends with the demo.

The demo holds the other end of this process's standard input. It writes one line of JSON to it: the
program to be, its arguments and its settings. The input closes when the demo ends, however it ends.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module

STDIN = 0
READ_BYTES = 65_536
END_TIMEOUT_S = 5.0
"""How long a clean end may take once the demo is gone."""


def main() -> None:
    """Import the module named on the command line, then be the program that the demo names."""
    with suppress(ModuleNotFoundError):  # the program itself names the extra that is missing
        import_module(sys.argv[1])
    line = _line()
    if line is None:
        return
    command = json.loads(line)
    threading.Thread(target=_end_with_the_demo, name="demo-watch", daemon=True).start()
    if command["settings"]:
        _put_in_place(command["program"], command["settings"])
    sys.argv = [command["program"], *command["arguments"]]
    import_module(f"{command['program']}.__main__").main()


def _line() -> bytes | None:
    """The demo's line, or None when the demo has gone."""
    line = b""
    while not line.endswith(b"\n"):
        read = os.read(STDIN, READ_BYTES)
        if not read:
            return None
        line += read
    return line


def _end_with_the_demo() -> None:
    # os.read, because a thread that holds sys.stdin would break a clean end of the process
    while os.read(STDIN, READ_BYTES):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_TIMEOUT_S)
    os._exit(1)


def _put_in_place(program: str, settings: Mapping[str, str]) -> None:
    """Set these settings, and remove all others of the program from the environment."""
    ours = {
        name.upper() for name in import_module(f"{program}.config.settings").Settings.model_fields
    }
    for name in [name for name in os.environ if name.upper() in ours]:
        del os.environ[name]
    os.environ.update(settings)


if __name__ == "__main__":
    main()
