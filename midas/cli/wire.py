"""The connection to Midas of the commands that call it, and its options."""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc

from midas.cli.call_errors import Failed
from midas.runtime.command_errors import Trouble

TARGET = "127.0.0.1:6011"
TIMEOUT_S = 60.0
"""How long a call may take: longer than one call of Ping++ (30 s), so that the answer arrives."""
CONNECT_TIMEOUT_S = 5.0
CAUSE_TIMEOUT_S = 0.5
CAUSE_CHARACTERS = 300
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
NO_ANSWER = "no answer in time"
_LAST_ERROR = re.compile(r"last error: (?:[A-Z_]+: )?")

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Wire:
    """Where Midas is and how to speak with it."""

    target: str = TARGET
    timeout_s: float = TIMEOUT_S
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def encrypted(self) -> bool:
        """Whether any of the TLS options was given."""
        return self.tls or any((self.tls_ca, self.tls_cert, self.tls_key))


@contextmanager
def connected(wire: Wire) -> Iterator[grpc.Channel]:
    """A channel that is connected.

    Raises Failed when Midas cannot be reached within CONNECT_TIMEOUT_S: nothing was sent then.
    """
    open_channel: Callable[[Wire], grpc.Channel] = click.get_current_context().obj or connect
    with open_channel(wire) as channel:
        yield channel


def connect(wire: Wire) -> grpc.Channel:
    """A channel over a socket; tests bring their own."""
    channel = _channel(wire)
    ready = grpc.channel_ready_future(channel)
    try:
        ready.result(timeout=min(CONNECT_TIMEOUT_S, wire.timeout_s))
    except grpc.FutureTimeoutError:
        ready.cancel()
        cause = _cause(channel)
        channel.close()
        raise Failed(_unreachable(wire, cause)) from None
    return channel


def _cause(channel: grpc.Channel) -> str:
    """Why the channel is not connected. Only a call gets gRPC's own text for it.

    The call is a health check: it does no harm if the connection comes up at this moment.
    """
    ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(HEALTH_CHECK)
    try:
        ask(b"", timeout=CAUSE_TIMEOUT_S)
    except grpc.RpcError as error:
        timed_out = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        details = "" if timed_out else str(error.details() or "")
        return _LAST_ERROR.split(details)[-1].strip()[:CAUSE_CHARACTERS] or NO_ANSWER
    return NO_ANSWER


def wire_options(command: Command) -> Command:
    """Add the options; the command gets them as `wire`."""

    @functools.wraps(command)
    def with_wire(**given: Any) -> Any:
        return command(wire=_wire(given.pop("target"), given), **given)

    target = _target(default=TARGET, help="Where Midas listens.")
    return _with_options(with_wire, target)  # type: ignore[no-any-return]


def wires_options(command: Command) -> Command:
    """Add the options for one or several Midas; the command gets a Wire to each as `wires`."""

    @functools.wraps(command)
    def with_wires(**given: Any) -> Any:
        targets = given.pop("target")
        wire = _wire(targets[0], given)
        return command(wires=[replace(wire, target=each) for each in targets], **given)

    text = "Where Midas listens. May be repeated: if one gives no answer, the next one is called."
    target = _target(default=(TARGET,), multiple=True, help=text)
    return _with_options(with_wires, target)  # type: ignore[no-any-return]


def _wire(target: str, given: dict[str, Any]) -> Wire:
    """The connection to this target, with the options that are taken out of `given`."""
    names = [name for name in Wire.__dataclass_fields__ if name != "target"]
    wire = Wire(target, **{name: given.pop(name) for name in names})
    if (wire.tls_cert is None) != (wire.tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together: give both or none")
    return wire


def _with_options(command: Callable[..., Any], target: Callable[..., Any]) -> Any:
    for option in reversed((target, *_OPTIONS)):
        command = option(command)
    return command


def _target(**details: Any) -> Callable[..., Any]:
    envvar = "MIDAS_TARGET"
    return click.option("--target", envvar=envvar, show_default=True, show_envvar=True, **details)


_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
_OPTIONS = (
    click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0, min_open=True, max=600),
        default=TIMEOUT_S,
        show_default=True,
        help="Seconds to wait for the answer. Midas goes on without you.",
    ),
    click.option(
        "--tls", is_flag=True, envvar="MIDAS_TLS", show_envvar=True, help="Speak TLS to Midas."
    ),
    click.option(
        "--tls-ca",
        type=_FILE,
        envvar="MIDAS_TLS_CA",
        show_envvar=True,
        help="Who signed Midas's certificate (PEM); without it the system's authorities.",
    ),
    click.option(
        "--tls-cert",
        type=_FILE,
        envvar="MIDAS_TLS_CERT",
        show_envvar=True,
        help="Your client certificate (PEM), where Midas wants one.",
    ),
    click.option(
        "--tls-key",
        type=_FILE,
        envvar="MIDAS_TLS_KEY",
        show_envvar=True,
        help="The key of your client certificate (PEM).",
    ),
)


def _channel(wire: Wire) -> grpc.Channel:
    # Midas is an internal service: a proxy to the outside never leads to it.
    options = [("grpc.enable_http_proxy", 0)]
    if not wire.encrypted:
        return grpc.insecure_channel(wire.target, options=options)
    credentials = grpc.ssl_channel_credentials(
        _bytes(wire.tls_ca), _bytes(wire.tls_key), _bytes(wire.tls_cert)
    )
    return grpc.secure_channel(wire.target, credentials, options=options)


def _bytes(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _unreachable(wire: Wire, cause: str) -> Trouble:
    how = "TLS" if wire.encrypted else "no TLS"
    return Trouble(
        "MIDAS_UNREACHABLE",
        f"cannot reach Midas at {wire.target} ({how}): {cause}; nothing was sent",
        retry="SAME_KEY",
        advice="Check that `midas serve` runs there, and --target and the TLS options.",
    )
