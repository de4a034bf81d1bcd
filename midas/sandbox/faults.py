"""Faults on demand: which request or webhook goes wrong, and how (reliability.md section 5).

    {"match": {"method": "POST", "path": "/refunds$", "order_no": "...", "channel": "wx",
               "nth": 2},
     "count": 1,
     "action": {"kind": "lose_response"}}

Every member of `match` is optional. `path` is a regular expression searched in the path without its
query. With `nth` only the nth matching request is hit; else the first `count` ones (default 1, null
for all). On each request every matching delay and the first other matching fault apply.

| kind            | parameters              | handled? | what the client sees                     |
|-----------------|-------------------------|----------|------------------------------------------|
| lose_request    |                         | no       | connection reset                         |
| lose_response   |                         | yes      | connection reset                         |
| delay           | seconds, when=before|after | yes   | the right answer, later                  |
| status          | code, body, error       | no       | that status                              |
| status_after    | the same                | yes      | that status                              |
| truncate        | bytes                   | yes      | head and k bytes of body, then a reset   |
| garbage         |                         | yes      | 200 with text that is not JSON           |
| wrong_object    |                         | yes      | 200 with an object of another kind       |
| alter           | fields: {name: value}   | yes      | the answer with other values, signed     |
| empty_list      |                         | yes      | a list that does not show anything yet   |
| wrong_signature |                         | yes      | the answer with somebody else's signature|
| stall           |                         | no       | nothing, until it gives up               |

`body` is json, html or empty; `error` replaces members of the JSON envelope (type, code, message).
The kinds that begin with `webhook_` are listed in `midas.sandbox.webhook_faults`. They take one
more member of `match`, the type of the `event`.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from midas.sandbox import webhook_faults
from midas.sandbox.errors import ControlError, Json
from midas.sandbox.webhook_faults import EventFaultKind, Moment, SendFaultKind

FAULTS_MOST = 100
DELAY_MOST_S = 600.0
RequestFaultKind = Literal[
    "lose_request",
    "lose_response",
    "delay",
    "status",
    "status_after",
    "truncate",
    "garbage",
    "wrong_object",
    "alter",
    "empty_list",
    "wrong_signature",
    "stall",
]
FaultKind = Literal[RequestFaultKind, EventFaultKind, SendFaultKind]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
DELAYS: tuple[FaultKind, ...] = ("delay", "webhook_delay")
"""The kinds that apply beside others."""
ANSWER_BODIES = ("json", "html", "empty")
"""The bodies that `status` and `status_after` can have."""


@dataclass(frozen=True, slots=True)
class Target:
    """The request that a fault may apply to, or the event or send, whose `path` is the URL."""

    method: str
    path: str
    order_no: str | None
    channel: str | None
    event: str | None = None
    moment: Moment = "request"


@dataclass(slots=True)
class Fault:
    """One fault, how many requests it matched, and how often it applied."""

    id: int
    kind: FaultKind
    method: str | None = None
    path: re.Pattern[str] | None = None
    order_no: str | None = None
    channel: str | None = None
    event: str | None = None
    nth: int | None = None
    count: int | None = 1
    parameters: Json = field(default_factory=dict)
    matched: int = 0
    applied: int = 0

    def hits(self, target: Target) -> bool:
        """Whether the fault applies to this request. Every request that matches is counted."""
        if not self._matches(target) or self.exhausted:
            return False
        self.matched += 1
        if self.nth is not None and self.matched != self.nth:
            return False
        self.applied += 1
        return True

    @property
    def exhausted(self) -> bool:
        """Whether it will never apply again."""
        if self.nth is not None:
            return self.matched >= self.nth
        return self.count is not None and self.applied >= self.count

    def to_json(self) -> Json:
        """The fault as the control API shows it."""
        match = {
            "method": self.method,
            "path": self.path.pattern if self.path else None,
            "order_no": self.order_no,
            "channel": self.channel,
            "event": self.event,
            "nth": self.nth,
        }
        return {
            "id": self.id,
            "match": {name: value for name, value in match.items() if value is not None},
            "count": self.count,
            "action": {"kind": self.kind, **self.parameters},
            "seen": self.matched,
            "applied": self.applied,
            "exhausted": self.exhausted,
        }

    def _matches(self, target: Target) -> bool:
        return (
            _moment(self.kind) == target.moment
            and self.method in (None, target.method)
            and (self.path is None or self.path.search(target.path) is not None)
            and self.order_no in (None, target.order_no)
            and self.channel in (None, target.channel)
            and self.event in (None, target.event)
        )


class FaultList:
    """A bounded list of faults, in the order in which they were added."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, description: Json) -> Fault:
        """Add what the JSON describes; `ControlError` names what is wrong with it."""
        self._faults = [fault for fault in self._faults if not fault.exhausted]
        if len(self._faults) >= FAULTS_MOST:
            raise ControlError(f"at most {FAULTS_MOST} faults; remove some first")
        fault = _read(description, next(self._ids))
        self._faults.append(fault)
        return fault

    def remove(self, fault_id: int) -> None:
        """Remove one; removing what is not there is no error."""
        self._faults = [fault for fault in self._faults if fault.id != fault_id]

    def clear(self) -> None:
        """Remove all."""
        self._faults.clear()

    def to_json(self) -> list[Json]:
        """All faults; those that are used up are among them until the next `add`."""
        return [fault.to_json() for fault in self._faults]

    def take(self, target: Target) -> list[Fault]:
        """The faults of this target: every delay and the first other one that hits."""
        taken: list[Fault] = []
        main_taken = False
        for fault in self._faults:
            if (fault.kind in DELAYS or not main_taken) and fault.hits(target):
                taken.append(fault)
                main_taken = main_taken or fault.kind not in DELAYS
        return taken


def _read(description: Json, fault_id: int) -> Fault:
    unknown = set(description) - {"match", "count", "action"}
    match, action = description.get("match", {}), description.get("action")
    if unknown or not isinstance(match, dict) or not isinstance(action, dict):
        raise ControlError("a fault is {match: {...}, count: n, action: {kind: ...}}")
    unknown = set(match) - {"method", "path", "order_no", "channel", "event", "nth"}
    if unknown:
        raise ControlError(f"match does not know {', '.join(sorted(unknown))}")
    kind = _kind(action.get("kind"))
    return Fault(
        id=fault_id,
        kind=kind,
        method=match.get("method"),
        path=_pattern(match.get("path")),
        order_no=match.get("order_no"),
        channel=match.get("channel"),
        event=match.get("event"),
        nth=_positive(match.get("nth"), "nth"),
        count=_positive(description.get("count", 1), "count"),
        parameters=_parameters(kind, {k: v for k, v in action.items() if k != "kind"}),
    )


def _kind(sent: Any) -> FaultKind:
    for kind in KINDS:
        if kind == sent:
            return kind
    raise ControlError(f"action.kind must be one of {', '.join(KINDS)}")


def _moment(kind: FaultKind) -> Moment:
    if kind in get_args(EventFaultKind):
        return "event"
    return "send" if kind in get_args(SendFaultKind) else "request"


def _pattern(path: Any) -> re.Pattern[str] | None:
    try:
        return None if path is None else re.compile(path)
    except (re.error, TypeError) as error:
        raise ControlError("match.path must be a regular expression") from error


def _positive(value: Any, name: str) -> int | None:
    if value is not None and (type(value) is not int or value < 1):
        raise ControlError(f"{name} must be a whole number above zero")
    return value


def _parameters(kind: FaultKind, sent: Json) -> Json:
    known, check = _PARAMETERS.get(kind, ({}, lambda _: True))
    parameters = {**known, **sent}
    if set(parameters) != set(known) or not check(parameters):
        raise ControlError(f"wrong parameters for {kind}: it takes {known or 'none'}")
    return parameters


def _is_status(parameters: Json) -> bool:
    code, body = parameters["code"], parameters["body"]
    readable = isinstance(parameters["error"], dict) and body in ANSWER_BODIES
    return type(code) is int and 200 <= code <= 599 and readable


def _is_delay(parameters: Json) -> bool:
    seconds = parameters["seconds"]
    timely = isinstance(seconds, int | float) and 0 <= seconds <= DELAY_MOST_S
    return timely and parameters["when"] in ("before", "after")


_PARAMETERS: dict[str, tuple[Json, Any]] = {
    **webhook_faults.PARAMETERS,
    "delay": ({"seconds": 1.0, "when": "before"}, _is_delay),
    "status": ({"code": 500, "body": "json", "error": {}}, _is_status),
    "status_after": ({"code": 500, "body": "json", "error": {}}, _is_status),
    "truncate": ({"bytes": 10}, lambda p: type(p["bytes"]) is int and p["bytes"] >= 0),
    "alter": ({"fields": {}}, lambda p: isinstance(p["fields"], dict)),
}
