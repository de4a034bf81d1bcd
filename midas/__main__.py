"""The `midas` command. Everything behind it is in `midas.cli`, and needs the server extra."""

import sys

NEEDS_SERVER = "midas: this command needs the server extra; install midas[server].\n"
USAGE = 2


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad usage or settings, 3 unknown."""
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
