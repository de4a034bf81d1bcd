"""One child process that says on its output, as a line of JSON, when it is ready."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import midas
from midas.cli.trouble import Failed, Trouble

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
LINES_TOLD = 5
"""Of the log of a process that did not start."""


class Process:
    """`midas <arguments>` with the given settings, its output in a log file."""

    def __init__(
        self, name: str, arguments: list[str], settings: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # A session of its own, so that Ctrl-C reaches the demo alone, which then stops this.
        self._child = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "midas", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_environment(settings),
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"{name}-log", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_ready(self) -> dict[str, Any]:
        """All members of the JSON lines up to the event `ready`. Raises Failed."""
        told: dict[str, Any] = {}
        while told.get("event") != "ready":
            try:
                line = self._lines.get(timeout=READY_TIMEOUT_S)
            except queue.Empty:
                raise self._not_ready(f"was not ready after {READY_TIMEOUT_S:.0f} s") from None
            if line is None:
                raise self._not_ready("ended while it started")
            told.update(_json(line))
        return told

    def stop(self) -> None:
        """End it: politely, and where that takes too long or is interrupted, at once."""
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
        if self._child.stdout is not None:
            self._child.stdout.close()

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
        last = self.log.read_text(encoding="utf-8").splitlines()[-LINES_TOLD:]
        message = " | ".join([f"the {self.name} {what}", *last])
        return Failed(Trouble("DEMO_NOT_STARTED", message, advice="Nothing was played."))


def _json(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings, and of the caller's environment only what is not a setting of Midas."""
    from midas.config import Settings

    ours = {name.upper() for name in Settings.model_fields}
    inherited = {name: value for name, value in os.environ.items() if name.upper() not in ours}
    return inherited | _path() | dict(settings)


def _path() -> dict[str, str]:
    """Lets the child find this same Midas, also where it is not installed."""
    root = Path(midas.__file__).resolve().parent.parent
    if root.name in ("site-packages", "dist-packages"):
        return {}
    inherited = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(root), inherited)))}
