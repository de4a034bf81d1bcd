"""Midas for the operator's client, on grpcio-testing's fake channel and fake clock."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc_testing
from click.testing import CliRunner, Result

from midas.cli.app import cli
from midas.errors import MidasError
from midas.rpc.errors import failure_of
from midas.v1 import payment_service_pb2

SERVICE = payment_service_pb2.DESCRIPTOR.services_by_name["PaymentService"]
JOIN_S = 120.0

Terminate = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Ran:
    """What the command sent and printed."""

    request: Any
    result: Result

    @property
    def status(self) -> int:
        """The exit status."""
        return self.result.exit_code

    @property
    def data(self) -> Any:
        """The one JSON object on standard output."""
        return json.loads(self.result.stdout)


def answered(response: Any) -> Terminate:
    """Midas answers."""
    return lambda call: call.terminate(response, (), grpc.StatusCode.OK, "")


def refused(error: MidasError) -> Terminate:
    """Midas fails as in its own table of errors."""
    failure = failure_of(error)
    trailers = failure.trailers
    return lambda call: call.terminate(None, trailers, failure.code, failure.message)


def broken(
    code: grpc.StatusCode, details: str = "", trailers: tuple[tuple[str, bytes], ...] = ()
) -> Terminate:
    """Something between breaks; its error has less in it than Midas's."""
    return lambda call: call.terminate(None, trailers, code, details)


def late(timeout_s: float) -> Terminate:
    """The caller's time passes on the fake clock before Midas answers."""

    def terminate(call: Any) -> None:
        clock = grpc_testing.strict_fake_time(0)
        deadline = grpc.StatusCode.DEADLINE_EXCEEDED
        clock.call_at(lambda: call.terminate(None, (), deadline, "Deadline Exceeded"), timeout_s)
        clock.sleep_for(timeout_s)

    return terminate


@contextmanager
def midas_that(method: str, ends: Terminate) -> Iterator[tuple[grpc.Channel, list[Any]]]:
    """A channel to a Midas that ends its one call of `method` like this, and what it was sent."""
    channel = grpc_testing.channel([SERVICE], grpc_testing.strict_fake_time(0))
    requests: list[Any] = []

    def answer() -> None:
        _, request, call = channel.take_unary_unary(SERVICE.methods_by_name[method])
        requests.append(request)
        call.send_initial_metadata(())
        ends(call)

    midas = threading.Thread(target=answer, daemon=True)
    midas.start()
    yield channel, requests
    midas.join(JOIN_S)
    assert requests, "the command called nothing"


def run(
    method: str, arguments: list[str], ends: Terminate, encoding: str = "utf-8", **settings: str
) -> Ran:
    """Run the command against a Midas that ends its one call of `method` like this."""
    with midas_that(method, ends) as (channel, requests):
        runner = CliRunner(charset=encoding)
        result = runner.invoke(cli, arguments, obj=lambda _: channel, env=dict(settings))
    return Ran(requests[0], result)


def run_alone(*arguments: str, **environment: str) -> Result:
    """Run a command that must not call anything."""

    def no_channel(_: object) -> grpc.Channel:
        raise AssertionError("this command called Midas")

    return CliRunner().invoke(cli, list(arguments), obj=no_channel, env=dict(environment))
