"""The append-only list of what really happened, in memory and optionally in a file of its own.

One line of the file is one request's entries, so that a crash leaves all of them or none.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from midas.sandbox.errors import Json, SandboxError

EntryKind = Literal[
    "charge_created",
    "charge_paid",
    "charge_failed",
    "charge_reversed",
    "charge_opened",
    "refund_created",
    "refund_succeeded",
    "refund_failed",
    "refund_relinked",
    "event_created",
    "webhook_owed",
    "webhook_settled",
]
EVENT_KINDS: frozenset[EntryKind] = frozenset({"event_created", "webhook_owed", "webhook_settled"})
MONEY_KINDS: frozenset[EntryKind] = frozenset(
    {"charge_paid", "charge_reversed", "refund_succeeded"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened.

    `amount` is the money that moved with it, in minor units: to the merchant for `charge_paid`,
    back to the payer for `refund_succeeded` and `charge_reversed` (0 when nothing had been paid),
    and 0 for every other kind. `state` is the object as it stood right after; for the `webhook_`
    kinds, which say that an event is to be sent to a URL and how that ended, it is
    `{id, url, outcome?}`.
    """

    seq: int
    time: float
    kind: EntryKind
    order_no: str | None
    charge_id: str | None
    refund_id: str | None
    event_id: str | None
    channel: str | None
    amount: int
    currency: str | None
    state: Json


class Ledger:
    """Every entry since the start. With a path, an entry is on disk before `append` returns."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._entries: list[Entry] = []
        self._paid: Counter[str] = Counter()
        self._refunded: Counter[str] = Counter()
        self._reversed: Counter[str] = Counter()
        self._file = None
        if path is not None:
            try:
                self._load(path)
                self._file = path.open("ab")
            except OSError as error:
                text = f"cannot use {path} as the sandbox's ledger: {error.strerror}"
                raise SandboxError(text) from error

    @property
    def entries(self) -> Sequence[Entry]:
        """All entries, oldest first. Read only."""
        return self._entries

    @property
    def money(self) -> list[Entry]:
        """The entries that moved money, oldest first."""
        return [entry for entry in self._entries if entry.kind in MONEY_KINDS and entry.amount]

    def paid(self, out_trade_no: str) -> int:
        """All that was ever paid under this `order_no`, over all its charges, in minor units."""
        return self._paid[out_trade_no]

    def refunded(self, charge_id: str) -> int:
        """What went back by refunds that succeeded, in minor units."""
        return self._refunded[charge_id]

    def reversed(self, charge_id: str) -> int:
        """What went back by reversing a paid charge, in minor units."""
        return self._reversed[charge_id]

    def append(self, batch: Sequence[Entry], *, durable: bool = True) -> None:
        """Add all or none. With a path they are written before it returns.

        If `durable`, they are fsynced, too.
        """
        if not batch:
            return
        if self._file is not None:
            line = json.dumps([asdict(entry) for entry in batch], ensure_ascii=False)
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())
        self._remember(batch)

    def clear(self) -> None:
        """Forget everything, on disk too."""
        self._entries.clear()
        for total in (self._paid, self._refunded, self._reversed):
            total.clear()
        if self._file is not None:
            self._file.truncate(0)
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; entries stay readable."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _remember(self, batch: Iterable[Entry]) -> None:
        for entry in batch:
            self._entries.append(entry)
            if entry.kind == "charge_paid" and entry.order_no is not None:
                self._paid[entry.order_no] += entry.amount
            elif entry.kind == "refund_succeeded" and entry.charge_id is not None:
                self._refunded[entry.charge_id] += entry.amount
            elif entry.kind == "charge_reversed" and entry.charge_id is not None:
                self._reversed[entry.charge_id] += entry.amount

    def _load(self, path: Path) -> None:
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            for line in whole.splitlines():
                self._remember(Entry(**fields) for fields in json.loads(line))
        except (ValueError, TypeError) as error:
            text = f"{path} is not a sandbox ledger; choose another path or remove the file"
            raise SandboxError(text) from error
        if len(whole) < len(content):
            # The process died while writing: no caller got an answer for the last line.
            os.truncate(path, len(whole))
