"""The `midas` command. `midas mock` runs wherever the stubs do; the rest needs the server extra."""

import os
import sys

from midas.runtime.command_errors import as_json, not_tried

NEEDS_SERVER = "this command needs the server extra; install midas[server]"
FROM_WHERE = """\
  From where this package came from: midas on the public index (PyPI) is another product.
  Without it there is midas mock, canned answers to every call: midas mock --help
"""
MOCK = "mock"


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad usage or settings, 3 unknown."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines would stand between ours
    if sys.argv[1:2] == [MOCK]:
        from midas.mock.command import run
        from midas.runtime.streams import steady_streams

        with steady_streams():
            status = run(sys.argv[2:])
        sys.exit(status)
    try:
        from midas.cli.app import cli

        cli(prog_name="midas")
    except ModuleNotFoundError as missing:
        if (missing.name or "midas").partition(".")[0] == "midas":
            raise
        missing_extra = not_tried("EXTRA_MISSING", NEEDS_SERVER)
        if "--json" in sys.argv:
            sys.stdout.write(as_json(missing_extra) + "\n")
        else:
            sys.stderr.write(f"midas: {NEEDS_SERVER}\n{FROM_WHERE}")
        sys.exit(missing_extra.status)


if __name__ == "__main__":
    main()
