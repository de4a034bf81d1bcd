"""How the findings are printed."""

import textwrap
from collections.abc import Mapping
from typing import Any

import click

from midas.cli.call_errors import printable
from midas.cli.contract_kit.findings import Finding, Findings, State
from midas.runtime.command_errors import Trouble
from midas.runtime.command_errors import as_data as trouble_data

EVIDENCE_SHOWN = 3
WIDTH = 100
_LABELS: dict[State, str] = {
    "kept": "kept",
    "broken": "BROKEN",
    "left out": "left out",
    "not judged": "not judged",
}
_INDENT = " " * 12


def print_findings(findings: Findings, target: str, orders: str) -> None:
    """Print each promise and its state for people."""
    click.echo(f"{target} as midas.order.v1.OrderPaymentService, with the orders {orders}…\n")
    for finding in findings.all():
        click.echo(f"{_LABELS[finding.state]:<11} {finding.promise.text}")
        for line in _lines(finding):
            click.echo(line)
    counts = findings.counts()
    click.echo("\n" + ", ".join(f"{counts[state]} {state}" for state in _LABELS) + ".")
    if counts["not judged"]:
        click.echo("Not judged is not kept: give the missing options to have them judged.")


def as_data(findings: Findings, target: str, orders: str) -> dict[str, Any]:
    """The same for programs."""
    counts = findings.counts()
    ok = counts["kept"] + counts["left out"] == len(findings.all())
    return {
        "ok": ok,
        **({} if ok else {"error": trouble_data(_not_kept(counts))}),
        "target": target,
        "orders": orders,
        "kept": counts["kept"],
        "broken": counts["broken"],
        "left_out": counts["left out"],
        "not_judged": counts["not judged"],
        "promises": [_promise(finding) for finding in findings.all()],
    }


def _not_kept(counts: Mapping[State, int]) -> Trouble:
    broken, open_ = counts["broken"], counts["not judged"]
    message = f"{broken} promises are broken, {open_} could not be judged"
    return Trouble("PROMISES_NOT_KEPT", message, retry="NEVER")


def _lines(finding: Finding) -> list[str]:
    lines: list[str] = []
    if finding.state == "broken":
        shown = finding.evidence[:EVIDENCE_SHOWN]
        for each in shown:
            lines += _wrapped("observed: ", printable(each))
        if len(finding.evidence) > len(shown):
            lines += _wrapped("", f"and {len(finding.evidence) - len(shown)} more like that")
        lines += _wrapped("change: ", finding.promise.advice)
    elif finding.state == "left out":
        lines += _wrapped("lost: ", finding.promise.without)
        lines += _wrapped("to have it: ", finding.promise.advice)
    elif finding.state == "not judged":
        for each in finding.obstacles or ["it was not put to the test"]:
            lines += _wrapped("", printable(each))
    return lines


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        label + text,
        WIDTH,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT + " " * len(label),
        break_on_hyphens=False,
    )


def _promise(finding: Finding) -> dict[str, Any]:
    wanting = finding.state in ("broken", "left out")
    return {
        "id": finding.promise.id,
        "promise": finding.promise.text,
        "state": finding.state.replace(" ", "_"),
        "evidence": finding.evidence,
        "obstacles": finding.obstacles,
        "advice": finding.promise.advice if wanting else "",
        "lost": finding.promise.without if finding.state == "left out" else "",
    }
