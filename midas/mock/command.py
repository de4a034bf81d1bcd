"""`midas mock`: the command line, on the standard library alone."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from midas.flows.terms import key_violations
from midas.mock.help import DESCRIPTION, EPILOG, Formatter, magic_values
from midas.mock.notifications import CLOSED, METHODS, REFUNDED, Notice, fresh_epoch
from midas.mock.notify import Delivery, OrderService, deliver
from midas.mock.payments import AMOUNT, CHANNEL
from midas.mock.server import CannotListen, has_reflection, serve
from midas.psp.channels import CHANNELS
from midas.runtime import command_errors as troubles
from midas.runtime.command_errors import not_tried
from midas.runtime.target import is_target

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
IP, PORT = "127.0.0.1", 6011
ORDER_TARGET = "127.0.0.1:6030"
ALL = "all"


def run(arguments: Sequence[str]) -> int:
    """Do what is asked. Gives the exit status; bad usage and --help raise SystemExit."""
    parser = _parser("--json" in arguments)
    options = parser.parse_args(arguments)
    if options.notify is not None:
        for wrong in _wrong(options):
            parser.error(wrong)
        return _notify(options)
    return asyncio.run(_serve(options))


async def _serve(options: argparse.Namespace) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        server, port = await serve(options.ip, options.port, _log_call)
    except CannotListen as error:
        sentence = f"cannot listen on {error}: give --ip and --port of an address that is free"
        return _failed(sentence, "CANNOT_LISTEN", options.json)
    host = f"[{options.ip}]" if ":" in options.ip else options.ip
    target = f"{host}:{port}"
    exports = {"MIDAS_TARGET": target}
    if options.json:
        _print(json.dumps({"ok": True, "event": "ready", "target": target, "environment": exports}))
    else:
        how = "" if has_reflection() else ", without reflection (that needs midas[server])"
        _print(f"# Canned answers of Midas are served at {target}{how}.")
        _print(f"export MIDAS_TARGET={target}")
    await stopped.wait()
    await server.stop(0)
    return DONE


def _notify(options: argparse.Namespace) -> int:
    where = OrderService(options.order_target, options.tls_ca, options.tls_cert, options.tls_key)
    try:
        done = deliver(where, _notices(options))
    except OSError as error:
        return _failed(f"the files for TLS will not do: {error.strerror}", "TLS", options.json)
    except KeyboardInterrupt:
        return INTERRUPTED
    deliveries, last = [_as_data(each) for each in done], done[-1]
    if last.code != "OK":
        details = f" ({ascii(last.details)[1:-1]})" if last.details else ""
        sentence = f"{where.target} answered {last.code}{details}: {last.meaning}"
        return _failed(sentence, last.code, options.json, *deliveries)
    if options.json:
        _print(json.dumps({"ok": True, "notifications": deliveries}))
    else:
        _print_deliveries(deliveries)
    return DONE


def _wrong(options: argparse.Namespace) -> Iterator[str]:
    """What is wrong with the options, one sentence for each mistake."""
    if not is_target(options.order_target):
        yield "--order-target: give host:port or [IPv6]:port"
    for name in ("order_no", "refund_no"):
        given = getattr(options, name)
        if given or name == "order_no":
            yield from (
                f"--{name.replace('_', '-')}: {each.description}"
                for each in key_violations(name, given)
            )
    if options.refund_amount > options.amount:
        yield "--refund-amount: no more can go back than --amount"
    if (options.tls_cert is None) != (options.tls_key is None):
        yield "--tls-cert and --tls-key belong together: give both or none"


def _notices(options: argparse.Namespace) -> list[Notice]:
    """The notices to send. A charge that was announced as closed is not paid later, unless late."""
    methods = METHODS if options.notify == ALL else (options.notify,)
    first = options.sequence or fresh_epoch() + 1
    return [
        Notice(
            method=method,
            order_no=options.order_no,
            sequence=first + at,
            channel=options.channel,
            amount=options.amount,
            refund_no=options.refund_no,
            refund_amount=options.refund_amount,
            external=options.external and method == REFUNDED,
            late=options.late,
            duplicate_payment=options.duplicate_payment,
            told_again=options.told_again,
            earlier=options.notify == ALL and method == CLOSED and not options.late,
        )
        for at, method in enumerate(methods)
    ]


def _as_data(delivery: Delivery) -> dict[str, Any]:
    return {
        "method": delivery.notice.method,
        "order_no": delivery.notice.order_no,
        "sequence": delivery.notice.sequence,
        "notification_id": delivery.notification_id,
        "code": delivery.code,
        "details": delivery.details,
        "meaning": delivery.meaning,
    }


def _print_deliveries(deliveries: Sequence[Mapping[str, Any]]) -> None:
    for each in deliveries:
        _print("{method} {order_no} sequence {sequence}: {code}, {meaning}".format_map(each))


def _failed(sentence: str, reason: str, as_json: bool, *deliveries: Mapping[str, Any]) -> int:
    """Print it and return the status. The last of the `deliveries`, if any, was not taken."""
    trouble = not_tried(reason, sentence)
    if as_json:
        _print(troubles.as_json(trouble, notifications=deliveries))
    else:
        _print_deliveries(deliveries[:-1])
        _print(f"midas: {sentence} [{reason}]", sys.stderr)
    return FAILED if deliveries else trouble.status


def _log_call(method: str, key: str, answer: str) -> None:
    _print(" ".join(filter(None, (method, ascii(key)[1:-1], answer))), sys.stderr)


def _print(line: str, stream: Any = None) -> None:
    """Print a line. If nobody can read it, the command goes on."""
    with suppress(OSError, ValueError):
        print(line, file=stream or sys.stdout, flush=True)


class _Parser(argparse.ArgumentParser):
    """Prints wrong usage as the other commands do."""

    as_json = False

    def format_help(self) -> str:
        """The help, with the magic values at its end."""
        return super().format_help() + magic_values()

    def error(self, message: str) -> NoReturn:
        """Print one sentence, or with --json one object, and exit with status 2."""
        if self.as_json:
            _print(troubles.as_json(not_tried("USAGE", message)))
        else:
            _print(f"midas: {message} [USAGE]\n  See: midas mock --help", sys.stderr)
        sys.exit(USAGE)


def _parser(as_json: bool) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="midas mock",
        description=DESCRIPTION,
        usage="midas mock [OPTIONS]",
        formatter_class=Formatter,
        allow_abbrev=False,
        epilog=EPILOG,
    )
    parser.as_json = as_json
    add = parser.add_argument
    add("--ip", default=os.environ.get("IP") or IP, help=f"Address to listen on. [IP; {IP}]")
    add(
        "--port",
        type=_number(0, 65535),
        default=os.environ.get("PORT") or str(PORT),
        help=f"Port for gRPC; 0 takes a free one. [PORT; {PORT}]",
    )
    add("--json", action="store_true", help="One JSON object on standard output.")
    _notify_options(parser.add_argument_group("to call an order service"))
    return parser


def _notify_options(group: Any) -> None:
    add = group.add_argument
    kinds = [*METHODS, ALL]
    add("--notify", choices=kinds, metavar="KIND", help=f"Send it and end: {', '.join(kinds)}.")
    default = os.environ.get("ORDER_TARGET") or ORDER_TARGET
    add("--order-target", default=default, metavar="HOST:PORT", help=f"[ORDER_TARGET; {default}]")
    add("--order-no", default="MOCK-1", help="[MOCK-1]")
    add("--amount", type=_number(1), default=AMOUNT, help=f"In minor units. [{AMOUNT}]")
    add("--channel", choices=CHANNELS, default=CHANNEL, metavar="NAME", help=f"[{CHANNEL}]")
    add("--refund-no", default="", help="The refund_no in RefundSuccess and RefundFailed.")
    add("--refund-amount", type=_number(1), default=0, help="In minor units. [all of it]")
    add("--external", action="store_true", help="A refund made in Ping++'s dashboard: re_...")
    add("--late", action="store_true", help="The charge was paid after it had been closed.")
    add("--duplicate-payment", action="store_true", help="Another charge paid the order before.")
    add("--told-again", action="store_true", help="It may have been announced before.")
    what = "Above all earlier ones of the order. [a new epoch, so that it is above]"
    add("--sequence", type=_number(1, 2**53), default=0, help=what)
    for name, what in (("ca", "Who signed its certificate"), ("cert", "Ours"), ("key", "Its key")):
        add(f"--tls-{name}", type=Path, metavar="FILE", help=f"{what} (PEM).")


def _number(least: int, most: int = 2**63 - 1) -> Any:
    def whole(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"give a number from {least} to {most}")
        return int(text)

    return whole
