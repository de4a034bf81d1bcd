"""`midas mock` as a process on the base install: it comes up, answers everything, and ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import pytest

from midas.runtime.command_errors import Trouble, as_data
from tests.cli.double import run_alone
from tests.mock import call_everything
from tests.mock.call_everything import SERVICES
from tests.patience import PATIENCE_S

ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from midas.__main__ import main
sys.argv = ["midas", *sys.argv[1:]]
main()
"""


def base(*arguments: str) -> list[str]:
    """The command with nothing to import but what the base install has."""
    return [sys.executable, "-c", ALONE.format(absent=sorted(absent())), *arguments]


def absent() -> set[str]:
    """The modules that only the extras ask for, and what those need."""
    asked = [each for each in metadata.requires("midas") or [] if "extra ==" in each]
    names = {re.split(r"[^A-Za-z0-9_-]", each)[0].lower() for each in asked}
    packages = metadata.packages_distributions().items()
    modules = {module for module, homes in packages if {h.lower() for h in homes} & names}
    return modules | {"requests", "google_crc32c"}


@contextmanager
def served(*options: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A mock on the base install, and what it printed when it was ready."""
    command = base("mock", "--port", "0", "--json", *options)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as child:
        try:
            assert child.stdout is not None
            yield child, json.loads(child.stdout.readline())
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(PATIENCE_S)


def test_the_base_install_answers_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything else that is installed stays unused; SIGTERM ends it with status 0."""
    assert {"click", "aiohttp", "orjson", "sqlalchemy", "grpc_reflection"} <= absent()
    with served() as (child, ready):
        assert ready["environment"] == {"MIDAS_TARGET": ready["target"]}
        call_everything.main(ready["target"])
    counts = json.loads(capsys.readouterr().out)
    assert set(counts) == {f"{s.full_name}/{m.name}" for s in SERVICES for m in s.methods}
    assert all(counts.values())
    assert child.returncode == 0


def test_without_the_server_extra_there_is_the_mock() -> None:
    """Every other command says what to install, and that this one is there."""
    done = subprocess.run(base("--help"), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert "midas[server]" in done.stderr
    assert "midas mock --help" in done.stderr
    data = subprocess.run(base("charge", "--json"), capture_output=True, text=True)
    assert (data.returncode, data.stderr) == (2, "")
    assert json.loads(data.stdout)["error"]["reason"] == "EXTRA_MISSING"


def test_the_help_lists_every_magic_value() -> None:
    """Each name with its amount, in ASCII, on the base install and beside the other commands."""
    from midas.mock.server import NAMES

    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(base("mock", "--help"), capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, run_alone("mock", "--help").stdout)
    lines = done.stdout.splitlines()
    for name, amount in NAMES.items():
        if amount:
            assert any(line.split()[:2] == [name, str(amount)] for line in lines), name
        assert name in done.stdout
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--port", "x"], ["--port", "65536"], ["--notify", "Pay"], ["--amount", "0"]),
        *(["--pot", "1"], ["--channel", "x"], ["left"]),
        *(["--notify", "all", "--order-target", each] for each in (":::", "", "a b", "h:99999")),
        *(["--notify", "all", "--order-no", each] for each in ("", "A 1", "A" * 65)),
        ["--notify", "all", "--refund-no", "R 1"],
        ["--notify", "RefundSuccess", "--amount", "5", "--refund-amount", "6"],
        ["--notify", "all", "--tls-cert", "cert.pem"],
    ],
)
def test_wrong_usage_is_printed_like_everywhere(arguments: list[str]) -> None:
    """Status 2 and one sentence, or one object; nobody is called."""
    plain, data = run_alone("mock", *arguments), run_alone("mock", "--json", *arguments)
    assert (plain.exit_code, data.exit_code) == (2, 2)
    assert plain.stderr.startswith("midas: ")
    error = json.loads(data.stdout)["error"]
    assert error["reason"] == "USAGE"
    assert set(error) == set(as_data(Trouble("", "")))


def test_a_port_that_is_taken_is_an_error() -> None:
    """Status 2, as of every server, and one sentence that says what to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = base("mock", "--port", port)
        plain = subprocess.run(command, capture_output=True, text=True)
        data = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert (plain.returncode, data.returncode) == (2, 2)
    assert (len(plain.stderr.splitlines()), data.stderr) == (1, "")  # none of gRPC's own
    error = json.loads(data.stdout)["error"]
    assert error["reason"] == "CANNOT_LISTEN"
    assert set(error) == set(as_data(Trouble("", "")))


def test_the_image_sets_where_it_listens() -> None:
    """IP and PORT, the settings that a container gives to Midas, are the mock's, too."""
    with socket.create_server(("127.0.0.2", 0)) as taken:
        settings = {"IP": "127.0.0.2", "PORT": str(taken.getsockname()[1])}
        done = run_alone("mock", "--json", **settings)
    assert f"{settings['IP']}:{settings['PORT']}" in json.loads(done.stdout)["error"]["message"]


def test_nobody_to_notify_is_an_error() -> None:
    """An order service that is not there: status 1; a file that is not there: status 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        target = f"127.0.0.1:{taken.getsockname()[1]}"
    arguments = ["mock", "--notify", "PayOrderSuccess", "--order-target", target]
    gone = run_alone(*arguments)
    assert (gone.exit_code, "UNAVAILABLE" in gone.stderr) == (1, True)
    for wrong in ("no/such/file", __file__):
        no_file = run_alone(*arguments, "--tls-ca", wrong)
        assert (no_file.exit_code, "[TLS]" in no_file.stderr) == (2, True)
