"""A coverage-guided fuzz run of webhook_gateway/event.py, the parser behind the signature.

    uv run --group fuzz python -m tests.gateway.fuzz_event -max_total_time=60

Options are libFuzzer's. Ends with status 0 if nothing but Event or Unreadable came out; otherwise
it writes the input to a file named crash-… and shows the traceback. An event that is read must also
be what Python's own lenient parser reads, and must survive being written again. The fuzzer needs
Linux; no test needs it.
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

with atheris.instrument_imports(include=["webhook_gateway.event", "json"]):
    from webhook_gateway import event

from tests.gateway.account import event_body, genuine_webhooks


def one_input(data: bytes) -> None:
    """Read these bytes. Anything but Unreadable that is raised is a finding."""
    try:
        read = event.read(data)
    except event.Unreadable:
        return
    value = json.loads(data)
    assert event._plain(data) in (None, value)
    assert (read.event_id, read.type) == (value["id"], value["type"])
    assert read.label in event.KNOWN_TYPES | {event.OTHER}
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")


def main() -> None:
    """Fuzz, from good events on, with the options of the command line."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = [each.body for each in genuine_webhooks()]
        seeds += [event_body(), event_body(note='\\"[{', many=[1.5, -1, None, True])]
        seeds += [b'{"id":"e","type":"t","x":"\\ud83d\\ude00\\u0000"}', b'{"id":1e400}', b"[NaN]"]
        for number, seed in enumerate(seeds):
            (Path(folder) / str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, folder], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
