"""`midas sandbox` as a process."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from midas.cli.keys import make_keys

STOP_S = 120


@contextmanager
def started(*options: str) -> Iterator[subprocess.Popen[str]]:
    """A sandbox on a free port; stopped at the end."""
    command = [sys.executable, "-m", "midas", "sandbox", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(STOP_S)


def state(base: str) -> Any:
    """The sandbox's own account of its state."""
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=STOP_S)
    try:
        connection.request("GET", "/_sandbox/state")
        return json.load(connection.getresponse())
    finally:
        connection.close()


def test_it_prints_what_to_export() -> None:
    """Every line is a comment or an export of a setting, and the key files exist until the end."""
    with started() as child:
        assert child.stdout is not None
        lines = [child.stdout.readline().rstrip() for _ in range(6)]
        exports = dict(line.removeprefix("export ").split("=", 1) for line in lines[1:])
        paths = [Path(path) for name, path in exports.items() if name.endswith(("PATH", "PATHS"))]
        assert len(paths) == 2
        assert all(path.exists() for path in paths)
        assert Path(exports["PINGPP_PRIVATE_KEY_PATH"]).stat().st_mode & 0o077 == 0
        base = exports["PINGPP_API_BASE"]
        assert state(base)["app_id"] == exports["PINGPP_APP_ID"]
    assert child.returncode == 0
    assert not any(path.exists() for path in paths)


def test_options_reach_the_sandbox(tmp_path: Path) -> None:
    """App, key, merchant key and ledger are those that were given; the ready line is JSON."""
    keys = make_keys(tmp_path, "merchant")
    ledger = tmp_path / "ledger.jsonl"
    options = ["--app-id", "app_x", "--api-key", "sk_live_x", "--ledger", str(ledger)]
    with started("--json", *options, "--merchant-public-key", str(keys.public)) as child:
        assert child.stdout is not None
        ready = json.loads(child.stdout.readline())
        exports = ready["environment"]
        assert (exports["PINGPP_APP_ID"], exports["PINGPP_API_KEY"]) == ("app_x", "sk_live_x")
        assert "PINGPP_PRIVATE_KEY_PATH" not in exports
        assert state(ready["url"])["livemode"] is True
    assert ledger.exists()


def test_an_account_without_signatures(tmp_path: Path) -> None:
    """With --unsigned no key is wanted, made or printed; a key with it is wrong usage."""
    with started("--json", "--unsigned", "--strict") as child:
        assert child.stdout is not None
        ready = json.loads(child.stdout.readline())
        exports = ready["environment"]
        assert "PINGPP_PRIVATE_KEY_PATH" not in exports
        connection = http.client.HTTPConnection(urlsplit(ready["url"]).netloc, timeout=STOP_S)
        key = {"Authorization": f"Bearer {exports['PINGPP_API_KEY']}"}
        query = f"app%5Bid%5D={exports['PINGPP_APP_ID']}"
        for more, status in (("", 200), ("&paid=true", 200), ("&paid=True", 400)):
            connection.request("GET", f"/v1/charges?{query}{more}", headers=key)
            response = connection.getresponse()
            response.read()
            assert response.status == status
        connection.close()
    keys = make_keys(tmp_path, "merchant")
    command = [sys.executable, "-m", "midas", "sandbox", "--unsigned"]
    command += ["--merchant-public-key", str(keys.public)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "exclude each other" in done.stderr


def test_a_port_in_use_is_an_error() -> None:
    """When it cannot listen, it prints a sentence; status 2, as of `serve`."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "midas", "sandbox", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_of_no_mode_is_refused() -> None:
    """An API key must show which mode it is of."""
    command = [sys.executable, "-m", "midas", "sandbox", "--api-key", "secret"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "sk_test_" in done.stderr


def test_a_key_on_the_command_line_is_warned_of() -> None:
    """The environment is offered, by a name of the sandbox's own; both are checked alike."""
    command = [sys.executable, "-m", "midas", "sandbox"]
    given = subprocess.run([*command, "--api-key", "hush"], capture_output=True, text=True)
    assert "set SANDBOX_API_KEY in the environment" in given.stderr
    env = {**os.environ, "SANDBOX_API_KEY": "hush", "PINGPP_API_KEY": "sk_live_x"}
    quiet = subprocess.run(command, capture_output=True, text=True, env=env)
    assert "in the environment" not in quiet.stderr
    for ran in (given, quiet):
        assert (ran.returncode, "must begin with sk_test_" in ran.stderr) == (2, True)
        assert "hush" not in ran.stdout + ran.stderr
