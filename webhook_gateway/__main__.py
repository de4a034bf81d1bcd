"""`webhook-gateway` and `python -m webhook_gateway`. Needs the gateway extra."""

import sys

USAGE = """\
Usage: webhook-gateway

Takes Ping++'s webhooks, hands them to Midas, and tells the order service what came of them, until
SIGTERM. It has no options; its settings come from the environment, then from the config server:

"""
NEEDS_GATEWAY = "webhook-gateway: needs the gateway extra; install midas[gateway].\n"
FAILED = 2


def main() -> None:
    """Serve and exit: 0 after SIGTERM, 1 after a crash, 2 when a setting keeps it from starting."""
    try:
        from webhook_gateway.app import run
    except ModuleNotFoundError as missing:
        if (missing.name or "midas").partition(".")[0] in ("midas", "webhook_gateway"):
            raise
        sys.stderr.write(NEEDS_GATEWAY)
        sys.exit(FAILED)
    from midas.errors import SettingsError

    if sys.argv[1:]:
        sys.exit(_help(asked=sys.argv[1:] in (["--help"], ["-h"])))
    try:
        sys.exit(run())
    except SettingsError as mistake:
        sys.stderr.write(f"webhook-gateway: {mistake}\n  Nothing was started.\n")
        sys.exit(FAILED)


def _help(*, asked: bool) -> int:
    from webhook_gateway.config import Settings

    out = sys.stdout if asked else sys.stderr
    out.write(USAGE)
    for name, field in Settings.model_fields.items():
        out.write(f"  {name.upper()}\n      {' '.join((field.description or '').split())}\n")
    return 0 if asked else FAILED


if __name__ == "__main__":
    main()
