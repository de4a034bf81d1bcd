"""The error that every command gives when it does not do what was asked. Needs Python alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from midas.runtime.streams import one_line_of_json


class ExitStatus(IntEnum):
    """What a script can rely on; `midas --help` lists the same."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNKNOWN = 3
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True, slots=True)
class Trouble:
    """One failure. `money_moved` and `retry` are named as in `protos/midas/v1/errors.proto`."""

    reason: str
    message: str
    status: ExitStatus = ExitStatus.FAILED
    money_moved: str = "NO"
    retry: str = ""
    query_after: str = ""
    retry_after: str = ""
    advice: str = ""
    """What to do, as a sentence; empty where `money_moved` and `retry` are enough."""
    mistakes: tuple[str, ...] = ()
    """The sentences of the message, if there are several: each has a line of its own."""
    violations: tuple[tuple[str, str], ...] = ()
    """Each refused field and what to do about it."""
    ids: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    """The gRPC status code, where there was one."""


def not_tried(reason: str, message: str, advice: str = "") -> Trouble:
    """Wrong usage, a wrong setting, or something that is missing: nothing was started or sent."""
    return Trouble(reason, message, ExitStatus.USAGE, retry="NEVER", advice=advice)


def as_data(trouble: Trouble) -> dict[str, Any]:
    """The members of `error` in JSON; a string is empty where there is no value."""
    return {
        "reason": trouble.reason,
        "message": trouble.message,
        "code": trouble.code,
        "money_moved": trouble.money_moved,
        "retry": trouble.retry,
        "query_after": trouble.query_after,
        "retry_after": trouble.retry_after,
        "violations": [{"field": f, "description": d} for f, d in trouble.violations],
        "ids": dict(trouble.ids),
    }


def as_json(trouble: Trouble, **more: Any) -> str:
    """The one object that `--json` prints for it."""
    return one_line_of_json({"ok": False, "error": as_data(trouble), **more})
