"""`midas` or `gateway` under cProfile, from the moment that the parent asks for it with SIGUSR1.

Only the thread of the event loop is profiled. What was found is written at the orderly end, to the
file that `BENCHMARK_PROFILE` names.
"""

import cProfile
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from midas import app as midas
from webhook_gateway import app as gateway

_SERVERS = {"midas": lambda: midas.run(midas.serve), "gateway": gateway.run}


def main() -> int:
    """Serve until SIGTERM; the exit status is the server's."""
    profile = cProfile.Profile(time.thread_time)

    def begin(_number: int, _frame: FrameType | None) -> None:
        profile.enable()

    signal.signal(signal.SIGUSR1, begin)
    try:
        return _SERVERS[sys.argv[1]]()
    finally:
        profile.disable()
        profile.dump_stats(Path(os.environ["BENCHMARK_PROFILE"]))


if __name__ == "__main__":
    sys.exit(main())
