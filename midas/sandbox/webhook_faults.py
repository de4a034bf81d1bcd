"""Faults of webhooks on demand: what goes wrong between Ping++ and the merchant.

They are added like those of `midas.sandbox.faults`, and counted and removed with them:

    {"match": {"event": "charge.succeeded", "order_no": "...", "path": ":6013/", "nth": 1},
     "count": null,
     "action": {"kind": "webhook_drop"}}

`path` is searched in the whole URL. The first four kinds are decided once for each URL, when the
event is new. The others are decided at each send, so `count` 1 spoils one send, and its repeats are
right again. Each time every matching delay and the first other matching fault apply.

| kind                | parameters                | what happens                                   |
|---------------------|---------------------------|------------------------------------------------|
| webhook_delay       | seconds (of the sandbox)  | the first send waits that long                 |
| webhook_duplicate   | times, together           | sent so many times, all at once or one after   |
|                     |                           | the other; each copy is repeated by itself     |
| webhook_reorder     | behind=order|any,         | held back until a later event (of that order,  |
|                     | at_most_s                 | or any) was received, or so long               |
| webhook_alter       | object, event,            | other members in `data.object` and in the      |
|                     | genuine=never|first|last  | event, rightly signed; with `genuine` the      |
|                     |                           | right body goes too, under the same id         |
| webhook_drop        |                           | this send never arrives, and counts            |
| webhook_lose_answer |                           | it arrives, the answer is lost: sent again     |
| webhook_forge       | how                       | this send is forged (`midas.sandbox.forgery`)  |

What `webhook_alter` is good for:
    wrong amount    {"object": {"amount": 1}}
    foreign app     {"object": {"app": "app_other"}}
    other mode      {"event": {"livemode": true}, "object": {"livemode": true}}
    unknown order   {"object": {"id": "ch_never1", "order_no": "never1"}}
    same id, other body  {"object": {...}, "genuine": "first"}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from midas.sandbox.errors import Json
from midas.sandbox.forgery import FORGERIES

COPIES_MOST = 1000
SECONDS_MOST = 30 * 24 * 3600.0

EventFaultKind = Literal["webhook_delay", "webhook_duplicate", "webhook_reorder", "webhook_alter"]
SendFaultKind = Literal["webhook_drop", "webhook_lose_answer", "webhook_forge"]
Moment = Literal["request", "event", "send"]
"""When a fault is decided: an API request, a new event, or one send of a webhook."""


def _is_seconds(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= SECONDS_MOST


def _is_duplicate(parameters: Json) -> bool:
    times, together = parameters["times"], parameters["together"]
    return type(times) is int and 2 <= times <= COPIES_MOST and isinstance(together, bool)


def _is_reorder(parameters: Json) -> bool:
    return parameters["behind"] in ("order", "any") and _is_seconds(parameters["at_most_s"])


def _is_alteration(parameters: Json) -> bool:
    changed = parameters["object"], parameters["event"]
    readable = all(isinstance(one, dict) for one in changed)
    return readable and parameters["genuine"] in ("never", "first", "last")


PARAMETERS: dict[str, tuple[Json, Callable[[Json], bool]]] = {
    "webhook_delay": ({"seconds": 60.0}, lambda sent: _is_seconds(sent["seconds"])),
    "webhook_duplicate": ({"times": 2, "together": True}, _is_duplicate),
    "webhook_reorder": ({"behind": "order", "at_most_s": 3600.0}, _is_reorder),
    "webhook_alter": ({"object": {}, "event": {}, "genuine": "never"}, _is_alteration),
    "webhook_forge": ({"how": "foreign_key"}, lambda sent: sent["how"] in tuple(FORGERIES)),
}
"""The parameters of each kind that has some: their defaults, and whether they make sense."""
