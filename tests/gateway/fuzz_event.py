"""A coverage-guided fuzz run of both readers behind the signature: the gateway's and Midas's.

    uv run --group fuzz python -m tests.gateway.fuzz_event -max_total_time=120

Options are libFuzzer's. Ends with status 0 if nothing but an event or Unreadable came out of
webhook_gateway/envelope.py and of midas/psp/event_reader.py; otherwise it writes the input to a
file named crash-… and shows the traceback. An event that the gateway reads must also be what
Python's own lenient parser reads, and must survive being written again; what Midas reads must be
storable; and what both of them read must have the same id and type for both. The fuzzer needs
Linux; no test needs it.
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]
import orjson

with atheris.instrument_imports(
    include=[
        "webhook_gateway.envelope",
        "midas.psp.event_reader",
        "midas.psp.facts",
        "midas.psp.strict_json",
    ]
):
    from midas.psp import event_reader, strict_json
    from webhook_gateway import envelope

from midas.event import PspEvent
from tests.gateway.account import FIXTURES, event_body, genuine_webhooks


def one_input(data: bytes) -> None:
    """Read these bytes twice. Anything but Unreadable that is raised is a finding."""
    gateways, own = read_by_gateway(data), read_by_midas(data)
    if gateways is not None and own is not None:
        assert (gateways.event_id, gateways.type) == (own.event_id, own.type)


def read_by_gateway(data: bytes) -> envelope.Event | None:
    """What the gateway reads; None for Unreadable."""
    try:
        read = envelope.read(data)
    except envelope.Unreadable:
        return None
    value = json.loads(data)
    assert envelope._plain(data) in (None, value)
    assert (read.event_id, read.type) == (value["id"], value["type"])
    assert read.label in envelope.KNOWN_TYPES | {envelope.OTHER}
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    return read


def read_by_midas(data: bytes) -> PspEvent | None:
    """What Midas reads; None for Unreadable."""
    try:
        read = event_reader.read_event(data)
    except strict_json.Unreadable:
        assert not event_reader.is_same_event(data, b"[]")
        return None
    assert event_reader.is_same_event(data, data + b" ")
    orjson.dumps(read)  # refuses what no database could store
    return read


def complete_events() -> list[bytes]:
    """Events that Midas handles, with texts in escapes: every field of them is read."""
    refund = {
        "id": "re_1", "object": "refund", "charge": "ch_1", "amount": 1, "created": 1555985033,
        "status": "pending", "failure_msg": "😀 https://a.example", "metadata": {"refund_no": "r"},
    }  # fmt: skip
    charge = {
        "id": "ch_1", "object": "charge", "order_no": "1", "app": "app_1", "livemode": False,
        "channel": "wx", "amount": 1, "currency": "cny", "paid": True, "created": 1555985033,
        "time_paid": "1555985034", "failure_msg": "失败 😀",
        "refunds": {"object": "list", "has_more": False, "data": [refund]},
    }  # fmt: skip
    inside = {"charge.succeeded": charge, "refund.succeeded": refund}
    made = [
        event_body(kind=kind, livemode=False, data={"object": each})
        for kind, each in inside.items()
    ]
    return made + [json.dumps(json.loads(each)).encode() for each in made]


def main() -> None:
    """Fuzz, from good events on, with the options of the command line."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = [each.body for each in genuine_webhooks()]
        seeds += [each.read_bytes() for each in sorted(FIXTURES.glob("events/*.json"))]
        seeds += complete_events()
        seeds += [event_body(), event_body(note='\\"[{', many=[1.5, -1, None, True])]
        seeds += [b'{"id":"e","type":"t","x":"\\ud83d\\ude00\\u0000"}', b'{"id":1e400}', b"[NaN]"]
        for number, seed in enumerate(seeds):
            (Path(folder) / str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, folder], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
