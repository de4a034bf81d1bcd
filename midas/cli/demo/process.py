"""One child process, which prints a line of JSON when it is ready."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import midas
from midas.cli.call_errors import Failed
from midas.runtime.command_errors import Trouble

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
LOG_LINES_SHOWN = 5
"""How many of its last lines are shown of a process that did not start."""


class Process:
    """A child process that becomes a program of Midas. Its output goes to a log file.

    It imports what the program needs while the rest of the stage is put up. It ends when this
    process ends, even by SIGKILL (`child.py`).
    """

    def __init__(self, name: str, imports: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # A session of its own, so that Ctrl-C reaches the demo alone, which then stops this.
        self._child = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "midas.cli.demo.child", imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=os.environ | _path(),
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"{name}-log", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(
        self,
        arguments: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        program: str = "midas",
    ) -> None:
        """Let it be this package's program, with these settings of it and no others."""
        given = {"arguments": list(arguments), "settings": dict(settings or {})}
        command = json.dumps({"program": program, **given})
        if self._child.stdin is not None:
            with suppress(BrokenPipeError):  # it has ended, and wait_ready raises the reason
                self._child.stdin.write(command.encode() + b"\n")
                self._child.stdin.flush()

    def wait_ready(self, event: str = "ready") -> dict[str, Any]:
        """All members of the JSON lines up to the one with this event. Raises Failed."""
        members: dict[str, Any] = {}
        while members.get("event") != event:
            try:
                line = self._lines.get(timeout=READY_TIMEOUT_S)
            except queue.Empty:
                raise self._not_ready(f"was not ready after {READY_TIMEOUT_S:.0f} s") from None
            if line is None:
                raise self._not_ready("ended while it started")
            members.update(_json(line))
        return members

    def stop(self) -> None:
        """End it by SIGTERM. If that takes too long or is interrupted, kill it."""
        if self._child.poll() is None:
            self._child.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_TIMEOUT_S)
        finally:
            if self._child.poll() is None:
                self._child.kill()
                self._child.wait()
        self._reader.join(STOP_TIMEOUT_S)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _read(self) -> None:
        output = self._child.stdout
        with self.log.open("w", encoding="utf-8") as log:
            for raw in output or ():
                line = raw.decode(errors="replace")
                log.write(line)
                log.flush()
                self._lines.put(line)
        self._lines.put(None)

    def _not_ready(self, what: str) -> Failed:
        self.stop()
        last = self.log.read_text(encoding="utf-8").splitlines()[-LOG_LINES_SHOWN:]
        message = " | ".join([f"the {self.name} {what}", *last])
        return Failed(Trouble("DEMO_NOT_STARTED", message, advice="Nothing was played."))


def _json(line: str) -> dict[str, Any]:
    try:
        members = json.loads(line)
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}


def _path() -> dict[str, str]:
    """Lets the child find this same Midas, also where it is not installed."""
    root = Path(midas.__file__).resolve().parent.parent
    if root.name in ("site-packages", "dist-packages"):
        return {}
    inherited = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(root), inherited)))}
