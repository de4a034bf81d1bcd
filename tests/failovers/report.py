"""What a run prints in the end: one table, and all that is known of each failing difference."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.failovers.cluster import PROMOTED, WRITES
from tests.failovers.judge import Difference
from tests.failovers.ledgers import Line, Story, as_received
from tests.failovers.plan import Plan

_KIND_CHARACTERS = 60


@dataclass
class Report:
    """Everything that is known of a run."""

    plan: Plan
    failovers: list[dict[str, float]] = field(default_factory=list)
    """How long each took, in seconds."""
    order_nos: list[str] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What went wrong besides the ledgers."""

    @property
    def failing(self) -> list[Difference]:
        """The differences that fail the run: without lost commits each one does."""
        return [each for each in self.differences if each.is_unalarmed or not self.plan.lossy]

    @property
    def holds(self) -> bool:
        """Whether the run succeeded."""
        return not (self.failing or self.wrong)

    def __str__(self) -> str:
        """The table, then the stories of what fails the run."""
        conclusion = "It holds." if self.holds else "It does not hold."
        return "\n".join((*self._table(), "", *self._failures(), conclusion))

    def alarmed(self) -> str:
        """The stories of the differences to which an operator was called."""
        alarmed = [each for each in self.differences if each not in self.failing]
        return "\n".join(_stories("ALARMED", alarmed))

    def _table(self) -> Iterator[str]:
        plan = self.plan
        mode = f"asynchronous, {plan.lag_s:g} s lost" if plan.lossy else "synchronous"
        paid = sum(each["paid"] for story in self.stories for each in story.at_psp)
        refunds = sum(len(story.refunds_at_psp) for story in self.stories)
        rows: list[tuple[str, object]] = [
            ("replication", mode),
            ("failovers", len(self.failovers)),
            ("  new primary after, s", _seconds(self.failovers, PROMOTED)),
            ("  writes after, s", _seconds(self.failovers, WRITES)),
            ("orders", len(self.stories)),
            ("  paid charges", paid),
            ("  refunds", refunds),
            ("  taken by the order service", sum(len(story.received) for story in self.stories)),
            ("  received without effect", sum(len(story.repeats) for story in self.stories)),
            ("calls, by how they ended", _counted(self.calls)),
            ("alarms", sum(self.alarms.values())),
            *((f"  {kind}", count) for kind, count in sorted(self.alarms.items())),
            ("differences", len(self.differences)),
            *self._by_kind(),
            ("failing differences", len(self.failing)),
            ("seed", plan.seed),
        ]
        for name, value in rows:
            yield f"{name:<{_KIND_CHARACTERS + 4}}{value}"

    def _by_kind(self) -> Iterator[tuple[str, str]]:
        kinds: dict[str, Counter[str]] = {}
        for each in self.differences:
            how = "failing" if each in self.failing else "alarmed"
            kinds.setdefault(_kind(each.what), Counter())[how] += 1
        for kind, counts in sorted(kinds.items()):
            yield f"  {kind}", _counted(counts)

    def _failures(self) -> Iterator[str]:
        yield from (f"WRONG: {each}" for each in self.wrong)
        yield from _stories("DIFFERENCE", self.failing)


def alarm_kind(line: Line) -> str:
    """What kind of alarm it is."""
    more = str(line.get("reason") or line.get("kind") or "")
    if line["event"] == "operator_needed":
        more = str(line.get("kind"))
    return f"{line['event']} {more}".strip()


def _stories(title: str, differences: Iterable[Difference]) -> Iterator[str]:
    by_order: dict[str, list[Difference]] = {}
    for each in differences:
        by_order.setdefault(each.story.order_no, []).append(each)
    for order_no, found in by_order.items():
        yield f"{title}: {order_no}"
        yield from (f"  {each.what}" for each in found)
        yield from _story_lines(found[0].story)


def _kind(what: str) -> str:
    """Without what is this order's alone."""
    return what.partition("{")[0].partition("[")[0].strip()[:_KIND_CHARACTERS]


def _seconds(failovers: Iterable[dict[str, float]], name: str) -> str:
    return " ".join(f"{each[name]:.1f}" for each in failovers)


def _counted(counts: Counter[str]) -> str:
    return " ".join(f"{name or 'lost'}={count}" for name, count in sorted(counts.items()))


def _story_lines(story: Story) -> Iterator[str]:
    """Each ledger, the journal and the alarms."""
    yield "  Ping++:"
    for each in story.at_psp:
        names = ("id", "order_no", "channel", "created", "amount", "paid", "reversed")
        yield f"    charge {_some(each, names)}"
    for each in story.refunds_at_psp:
        number = each["metadata"].get("refund_no")
        yield f"    refund {_some(each, ('id', 'created', 'amount', 'status'))} {number}"
    yield f"  Midas: version {story.order.version}, outbox {story.outbox}"
    for charge in story.order.charges:
        marks = f"superseded={charge.superseded} duplicate={charge.duplicate_payment}"
        yield f"    charge {charge.out_trade_no} {charge.charge_id} {charge.state} {marks}"
    for refund in story.order.refunds:
        yield f"    refund {refund.refund_no} {refund.refund_id} {refund.state} {refund.amount}"
    for entry in story.journal:
        what = f"{entry.event} {entry.by} {entry.state_before}>{entry.state_after}"
        yield f"    journal {entry.at:%H:%M:%S.%f} {entry.subject} {what}"
    for note in story.notifications:
        subject = note.refund_no or note.out_trade_no
        yield f"    notification {note.sequence} {note.kind} {subject} {note.change_id}"
    yield "  order service:"
    for accepted in story.received:
        one = as_received(accepted)
        subject = one.refund_no or one.out_trade_no
        yield f"    took {one.sequence} {one.kind} {subject} {one.change_id}"
    yield from (f"    again {json.dumps(each)}" for each in story.repeats)
    yield from (f"  alarm {json.dumps(each)}" for each in story.alarms)


def _some(record: dict[str, Any], names: tuple[str, ...]) -> str:
    return " ".join(f"{name}={record[name]}" for name in names)
