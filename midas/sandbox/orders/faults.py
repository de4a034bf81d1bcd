"""Faults on demand: which notification goes wrong at the order service, and how.

    {"match": {"order_no": "A1001", "method": "RefundSuccess", "sequence": 2},
     "count": 1,
     "action": {"kind": "refuse", "code": "NOT_FOUND"}}

Every member of `match` is optional. The first `count` matching calls are hit (default 1, null for
all). On each call every matching delay and the first other matching fault apply.

| kind        | parameters                   | recorded? | what the caller sees                    |
|-------------|------------------------------|-----------|-----------------------------------------|
| refuse      | code                         | no        | that status; UNAVAILABLE is "down"      |
| delay       | seconds, when=before|after   | yes       | the right answer, later                 |
| stall       |                              | no        | nothing, until it gives up              |
| lose_answer |                              | yes       | UNAVAILABLE, though it was recorded     |
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import grpc

from midas.sandbox.errors import ControlError, Json

FAULTS_MOST = 100
DELAY_MOST_S = 600.0
METHODS = ("PayOrderSuccess", "PayOrderClosed", "RefundSuccess", "RefundFailed")
PARAMETERS: dict[str, Json] = {
    "refuse": {"code": "UNAVAILABLE"},
    "delay": {"seconds": 1.0, "when": "before"},
    "stall": {},
    "lose_answer": {},
}
"""What each kind takes, with its defaults."""
_MATCHED = {"order_no": str, "method": str, "sequence": int}


@dataclass(slots=True)
class Fault:
    """One fault and how often it applied."""

    id: int
    kind: str
    match: Json
    count: int | None = 1
    parameters: Json = field(default_factory=dict)
    applied: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether it will never apply again."""
        return self.count is not None and self.applied >= self.count

    def hits(self, call: Json) -> bool:
        """Whether the fault applies to this call. If so, the call is counted."""
        matches = all(call[name] == wanted for name, wanted in self.match.items())
        if not matches or self.exhausted:
            return False
        self.applied += 1
        return True

    def to_json(self) -> Json:
        """The fault as the control API shows it."""
        return {
            "id": self.id,
            "match": self.match,
            "count": self.count,
            "action": {"kind": self.kind, **self.parameters},
            "applied": self.applied,
            "exhausted": self.exhausted,
        }


class OrderFaults:
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

    def clear(self) -> None:
        """Remove all."""
        self._faults.clear()

    def to_json(self) -> list[Json]:
        """All faults; those that are used up are among them until the next `add`."""
        return [fault.to_json() for fault in self._faults]

    def take(self, method: str, order_no: str, sequence: int) -> list[Fault]:
        """The faults of this call: every delay and the first other one that hits."""
        call: Json = {"method": method, "order_no": order_no, "sequence": sequence}
        taken: list[Fault] = []
        for fault in self._faults:
            other_taken = any(each.kind != "delay" for each in taken)
            if (fault.kind == "delay" or not other_taken) and fault.hits(call):
                taken.append(fault)
        return taken


def _read(description: Json, fault_id: int) -> Fault:
    unknown = set(description) - {"match", "count", "action"}
    match, action = description.get("match", {}), description.get("action")
    if unknown or not isinstance(match, dict) or not isinstance(action, dict):
        raise ControlError("a fault is {match: {...}, count: n, action: {kind: ...}}")
    count = description.get("count", 1)
    if count is not None and (type(count) is not int or count < 1):
        raise ControlError("count must be a whole number above zero, or null for all")
    kind, parameters = _action(action)
    return Fault(fault_id, kind, _match(match), count, parameters)


def _match(match: Json) -> Json:
    for name, value in match.items():
        if type(value) is not _MATCHED.get(name):
            raise ControlError("match takes order_no and method (text) and sequence (a number)")
    if match.get("method", METHODS[0]) not in METHODS:
        raise ControlError(f"match.method must be one of {', '.join(METHODS)}")
    return match


def _action(action: Json) -> tuple[str, Json]:
    kind = action.get("kind")
    if not isinstance(kind, str) or kind not in PARAMETERS:
        raise ControlError(f"action.kind must be one of {', '.join(PARAMETERS)}")
    parameters: dict[str, Any] = {**PARAMETERS[kind], **action}
    del parameters["kind"]
    if set(parameters) != set(PARAMETERS[kind]) or not _sensible(kind, parameters):
        raise ControlError(f"wrong parameters for {kind}: it takes {PARAMETERS[kind] or 'none'}")
    return kind, parameters


def _sensible(kind: str, parameters: Json) -> bool:
    if kind == "refuse":
        code = parameters["code"]
        return code in grpc.StatusCode.__members__ and code != "OK"
    if kind == "delay":
        seconds, when = parameters["seconds"], parameters["when"]
        timely = isinstance(seconds, int | float) and 0 <= seconds <= DELAY_MOST_S
        return timely and when in ("before", "after")
    return True
