"""docs/channels.md says what the tables of channels say, and leaves none of their rules out."""

import re
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from datetime import timedelta
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from midas.psp import channels
from midas.psp.channels import Channel, Extra, Kind
from midas.sandbox import channel_table as sandbox

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / ".ci" / "channels-doc"
PAGE = ROOT / "docs" / "channels.md"
COMMAND = "run `uv run .ci/channels-doc` and commit the result"


def loaded() -> ModuleType:
    """The script as a module."""
    spec = spec_from_loader("channels_doc", SourceFileLoader("channels_doc", str(SCRIPT)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOC = loaded()


def ran(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as `.ci/run` does."""
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True)


def shown(channel: Channel) -> str:
    """Row and section of a channel, as the page has them."""
    words = DOC.Words("Something", "something")
    return str(DOC.row(channel, words.purpose) + "\n" + DOC.section(channel, words))


def test_the_page_is_up_to_date() -> None:
    """Otherwise the sentence says which command writes it."""
    checked = ran(SCRIPT, "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_stale_page_is_found(tmp_path: Path) -> None:
    """Also one that is missing. `--check` writes nothing, and without it the page is written."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / "docs").mkdir()
    script, page = tmp_path / ".ci" / "channels-doc", tmp_path / "docs" / "channels.md"
    shutil.copy(SCRIPT, script)
    missing = ran(script, "--check")
    assert (missing.returncode, page.exists()) == (1, False)
    assert COMMAND in missing.stdout
    page.write_text(PAGE.read_text() + "by hand\n")
    stale = ran(script, "--check")
    assert (stale.returncode, stale.stdout) == (1, missing.stdout)
    assert page.read_text().endswith("by hand\n")
    assert ran(script).returncode == 0
    assert page.read_text() == DOC.page()


OTHER_RULES: dict[str, Any] = {
    "name": "alipay_wap",
    "extra": (Extra("open_id"),),
    "subject_bytes": True,
    "body_characters": 99,
    "currencies": ("usd",),
    "expiry_max": timedelta(hours=3),
    "repost_window": timedelta(minutes=9),
    "reversible": True,
    "pays_at_create": True,
    "funding_source": True,
    "bmp_only": True,
    "payer_ip": True,
}
OF_NO_CONCERN = {"order_no_characters"}
"""Midas's own number fits every channel, and callers' numbers are not sent."""


@pytest.mark.parametrize("rule", sorted({each.name for each in fields(Channel)} - OF_NO_CONCERN))
def test_every_rule_of_a_channel_is_shown(rule: str) -> None:
    """Another value of any field makes another text, so a new field cannot be forgotten."""
    channel = Channel("alipay")
    assert shown(replace(channel, **{rule: OTHER_RULES[rule]})) != shown(channel)


def test_a_reversal_after_payment_is_shown() -> None:
    """It is no field of the table, but a conclusion."""
    taken = replace(channels.CHANNELS["isv_qr"], name="alipay_qr")
    assert "| unpaid, paid |" in shown(channels.CHANNELS["isv_qr"])
    assert "| unpaid |" in shown(taken)


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        (Extra("open_id"), "(optional, a text)"),
        (Extra("open_id", required=True), "(required, a text)"),
        (Extra("open_id", characters=8000), "(optional, a text of at most 8,000 characters)"),
        (Extra("open_id", Kind.DIGITS, characters=11), "(optional, at most 11 digits)"),
        (
            Extra("open_id", Kind.LIST, characters=80),
            "(optional, a list of at most 80 characters as JSON)",
        ),
        (Extra("open_id", choices=(0, 1, "0", "1")), "(optional, `0` or `1`)"),
        *((Extra("open_id", kind), f"(optional, {kind.value})") for kind in Kind),
    ],
)
def test_the_fields_of_extra(field: Extra, shape: str) -> None:
    """Whether it is needed, what it is, and its bounds."""
    assert f"`open_id` {shape}: the payer's id" in shown(Channel("alipay", extra=(field,)))


def test_every_channel_has_a_row_and_a_section() -> None:
    """Once each, in the page as it is committed."""
    page = PAGE.read_text()
    for name in channels.CHANNELS:
        assert len(re.findall(rf"^\| `{name}` \|", page, re.MULTILINE)) == 1
        assert page.count(f"\n### {name}\n") == 1


def test_what_the_script_does_not_know_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new channel or a new field has to be described before there is a page."""
    with pytest.raises(SystemExit, match=r"does not say what extra\.new_field holds"):
        shown(Channel("alipay", extra=(Extra("new_field"),)))
    with pytest.raises(SystemExit, match="does not say what the credential of wx is for"):
        DOC.section(channels.CHANNELS["wx"], DOC.Words("WeChat"))
    monkeypatch.setattr(channels, "CHANNELS", {**channels.CHANNELS, "new": Channel("new")})
    with pytest.raises(SystemExit, match=r"into GROUPS of .ci/channels-doc: .*\bnew\b"):
        DOC.page()


def test_no_word_is_left_over() -> None:
    """A field that no channel has any more is described in vain."""
    known = {
        (channel.name, field.name)
        for channel in channels.CHANNELS.values()
        for field in channel.extra
    }
    assert set(DOC.FIELDS) <= {field for _, field in known}
    assert set(DOC.FIELDS_OF_CHANNELS) <= {".".join(each) for each in known}
    assert set(DOC.ABOUT_GROUPS) <= set(DOC.GROUPS)


def test_channels_that_are_known_by_a_part_of_their_name() -> None:
    """All that the pattern takes, with what the page says of them."""
    (pattern,) = (each for each in vars(channels).values() if isinstance(each, re.Pattern))
    parts = re.findall("[a-z]{3,}(?:_wx)?", pattern.pattern)
    assert [each.written.strip("`…_") for each in DOC.UNNAMED] == parts
    plain = Channel("any")
    for each in DOC.UNNAMED:
        known = channels.find(each.example)
        assert known is not None
        assert replace(known, name="any", reversible=False) == plain
        bar_code = channels.find(each.written.strip("`").replace("…", "x_scan"))
        if bar_code is not None:
            assert bar_code.pays_at_create
            assert not bar_code.repost_window
            assert bar_code.gives_back == bar_code.reversible == known.reversible


def test_times_in_the_text() -> None:
    """They are those of the sandbox's table, as far as the sandbox has them."""
    text = " ".join(PAGE.read_text().split())
    windows = {name: each.reverse_window for name, each in sandbox.CHANNELS.items()}
    assert "7 days for bar codes of WeChat Pay" in text
    assert windows["wx_pub_scan"] == windows["cb_wx_pub_scan"] == "7_days"
    assert "24 hours for bar codes of Alipay" in text
    assert windows["alipay_scan"] == windows["cb_alipay_scan"] == "24_hours"
    assert "the same day for `isv_…`" in text
    assert {windows[each] for each in ("isv_qr", "isv_wap", "isv_scan")} == {"same_day"}
    assert "the same UnionPay day, from 23:00 to 23:00, for `upacp…`" in text
    assert {windows[each] for each in windows if each.startswith("upacp")} == {"unionpay_day"}
    assert "3 months after the payment on Alipay, a year on WeChat Pay, and a month" in text
    months = {
        each.family: each.refund_within_s // (30 * 86_400) for each in sandbox.CHANNELS.values()
    }
    assert months == {"alipay": 3, "wx": 12, "upacp": 1, "isv": 1, "other": 1}


def test_the_page_can_be_read_as_text() -> None:
    """Only rows of tables are longer than a line."""
    lines = PAGE.read_text().splitlines()
    assert [each for each in lines if len(each) > 110 and not each.startswith("|")] == []
