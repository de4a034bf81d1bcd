"""The `midas` command. `midas mock` runs wherever the stubs do; the rest needs the server extra."""

import sys

NEEDS_SERVER = """\
midas: this command needs the server extra; install midas[server].
  From where this package came from: midas on the public index (PyPI) is another product.
  Without it there is midas mock, canned answers to every call: midas mock --help
"""
MOCK = "mock"
USAGE = 2


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad usage or settings, 3 unknown."""
    if sys.argv[1:2] == [MOCK]:
        from midas.mock.command import run
        from midas.streams import steady_streams

        with steady_streams():
            status = run(sys.argv[2:])
        sys.exit(status)
    try:
        from midas.cli.app import cli

        cli(prog_name="midas")
    except ModuleNotFoundError as missing:
        if (missing.name or "midas").partition(".")[0] == "midas":
            raise
        sys.stderr.write(NEEDS_SERVER)
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
