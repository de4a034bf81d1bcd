"""`webhook-gateway` and `python -m webhook_gateway`. They need the gateway extra."""

import sys

from midas.runtime.command_errors import as_json, not_tried
from midas.runtime.streams import steady_streams

NEEDS_GATEWAY = "webhook-gateway needs the gateway extra; install midas[gateway]"
FROM_WHERE = """\
  From where this package came from: midas on the public index (PyPI) is another product.
"""


def main() -> None:
    """Serve and exit: 0 after SIGTERM, 1 after a crash, 2 when a setting keeps it from starting."""
    try:
        from webhook_gateway.command import command
    except ModuleNotFoundError as missing:
        if (missing.name or "midas").partition(".")[0] in ("midas", "webhook_gateway"):
            raise
        missing_extra = not_tried("EXTRA_MISSING", NEEDS_GATEWAY)
        if "--json" in sys.argv:
            sys.stdout.write(as_json(missing_extra) + "\n")
        else:
            sys.stderr.write(f"{NEEDS_GATEWAY}\n{FROM_WHERE}")
        sys.exit(missing_extra.status)
    with steady_streams():
        status = command(sys.argv[1:])
    sys.exit(status)


if __name__ == "__main__":
    main()
