"""The channel tables of the sandbox and of Midas were written separately, from one source."""

from datetime import timedelta
from typing import Any

import pytest

from midas.psp import channels as midas
from midas.sandbox import channel_table as sandbox

BOTH = sorted(midas.CHANNELS.keys() & sandbox.CHANNELS.keys())
RETIRED = {"fqlpay_wap", "qgbc_wap", "mmdpay_wap", "cnp_u", "cnp_f", "coolcredit"}
"""Midas still books what these once took; the sandbox makes no new charges on them."""
UNDOCUMENTED_NUMBERS = {"balance", "ccb_wap", "isv_lite"}
"""No length of order_no is documented: Midas keeps to what fits everywhere, the sandbox to less."""


def rules(ours: midas.Channel, theirs: sandbox.Channel) -> dict[str, tuple[Any, Any]]:
    """The values of one channel in both tables, by the rule."""
    needed = sorted(each.name for each in ours.extra if each.required)
    window = timedelta(seconds=0 if theirs.pays_at_create else theirs.same_answer_s)
    return {
        "required extra": (needed, sorted(theirs.required_extra)),
        "longest expiry": (ours.expiry_max, timedelta(seconds=theirs.expires_at_most_s)),
        "length of order_no": (ours.order_no_characters, theirs.order_no_chars),
        "length of body": (ours.body_characters, theirs.body_chars),
        "subject in bytes": (ours.subject_bytes, theirs.subject_bytes is not None),
        "reversible": (ours.reversible, theirs.reversible),
        "given back when reversed": (ours.gives_back, theirs.reversible_when_paid),
        "paid by the create call": (ours.pays_at_create, theirs.pays_at_create),
        "window of repetition": (ours.repost_window, window),
        "no emoji": (ours.bmp_only, theirs.family == "wx"),
    }


@pytest.mark.parametrize("name", BOTH)
def test_both_tables_have_the_same_rules(name: str) -> None:
    """Rule by rule: where they differ, one of them is wrong."""
    compared = rules(midas.CHANNELS[name], sandbox.CHANNELS[name])
    if name in UNDOCUMENTED_NUMBERS:
        (least, most), (shortest, longest) = compared.pop("length of order_no")
        assert shortest <= least <= most <= longest
    differing = {rule: each for rule, each in compared.items() if each[0] != each[1]}
    assert differing == {}, (
        "one of the tables is wrong; without a documented length of order_no leave both defaults "
        "and add the channel to UNDOCUMENTED_NUMBERS"
    )


def test_both_tables_have_the_same_channels() -> None:
    """But for those that are retired."""
    assert midas.CHANNELS.keys() - sandbox.CHANNELS.keys() == RETIRED
    assert sandbox.CHANNELS.keys() <= midas.CHANNELS.keys()


@pytest.mark.parametrize("name", sorted(sandbox.CHANNELS))
def test_what_is_taken_without_a_time_is_taken_with_it(name: str) -> None:
    """The default expiry of a channel is within its longest."""
    channel = sandbox.CHANNELS[name]
    assert channel.expires_after_s <= channel.expires_at_most_s
