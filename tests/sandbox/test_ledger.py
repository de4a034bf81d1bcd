"""The ledger: what it shows about money, and that it survives a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from midas.sandbox.errors import SandboxError
from midas.sandbox.ledger import Lookalike
from tests.sandbox.shop import APP_ID, Clock, Shop


def open_shop(clock: Clock, path: Path) -> Shop:
    """A merchant whose look-alike keeps its ledger in a file."""
    return Shop(Lookalike(APP_ID, now=clock.now, rng_seed=1, ledger_path=path))


def test_the_ledger_shows_the_money_that_moved(shop: Shop) -> None:
    """Money entries are payments and refunds that succeeded, in order, with their amounts."""
    charge = shop.paid()
    shop.lookalike.plan_refund("failed")
    shop.refund(charge, amount=10)
    shop.refund(charge, amount=20)
    assert [(entry.kind, entry.amount) for entry in shop.lookalike.ledger.money] == [
        ("charge_paid", 100),
        ("refund_succeeded", 20),
    ]
    seqs = [entry.seq for entry in shop.lookalike.ledger.entries]
    assert seqs == list(range(1, len(seqs) + 1))
    assert shop.lookalike.ledger.paid("unknown") == 0


def test_everything_survives_a_restart(clock: Clock, tmp_path: Path) -> None:
    """Charges, refunds, events and money are the same after the process is gone."""
    path = tmp_path / "ledger.jsonl"
    before = open_shop(clock, path)
    charge = before.paid(channel="alipay")
    before.lookalike.plan_refund("alipay_link")
    refund = before.refund(charge, amount=30)[1]
    unpaid = before.charge("ORDER0000002")
    after = open_shop(clock, path)
    before.lookalike.close()
    assert after.fetch(charge) == before.fetch(charge)
    assert after.fetch(unpaid) == unpaid
    assert after.lookalike.events == before.lookalike.events
    assert after.lookalike.ledger.entries == before.lookalike.ledger.entries
    after.lookalike.approve_refund(refund["id"])
    assert after.lookalike.ledger.refunded(charge["id"]) == 30
    assert after.charge("ORDER0000002") == unpaid
    assert after.charge("ORDER0000003")["id"] not in (charge["id"], unpaid["id"])
    after.lookalike.close()


def test_one_request_is_one_line(clock: Clock, tmp_path: Path) -> None:
    """A payment and its event are written together, before the answer."""
    path = tmp_path / "ledger.jsonl"
    shop = open_shop(clock, path)
    shop.paid()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [[entry["kind"] for entry in line] for line in lines] == [
        ["charge_created"],
        ["charge_paid", "event_created"],
    ]
    shop.lookalike.close()


def test_a_torn_last_line_is_dropped(clock: Clock, tmp_path: Path) -> None:
    """A kill in the middle of a write loses only what was not answered yet."""
    path = tmp_path / "ledger.jsonl"
    shop = open_shop(clock, path)
    charge = shop.charge()
    shop.lookalike.pay(charge["id"])
    shop.lookalike.close()
    path.write_bytes(path.read_bytes()[:-7])
    after = open_shop(clock, path)
    assert after.fetch(charge)["paid"] is False
    after.lookalike.pay(charge["id"])
    after.lookalike.close()
    assert open_and_close(clock, path) == 3


def open_and_close(clock: Clock, path: Path) -> int:
    """How many entries the file holds."""
    shop = open_shop(clock, path)
    shop.lookalike.close()
    return len(shop.lookalike.ledger.entries)


@pytest.mark.parametrize("content", ["not json\n", '[{"seq": 1}]\n'])
def test_a_foreign_file_is_refused(clock: Clock, tmp_path: Path, content: str) -> None:
    """A file that is no ledger is not overwritten."""
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(SandboxError, match="not a sandbox ledger"):
        open_shop(clock, path)
    assert path.read_text() == content


def test_an_impossible_path_is_refused(clock: Clock, tmp_path: Path) -> None:
    """A folder that does not exist is a sentence, not a traceback."""
    with pytest.raises(SandboxError, match="cannot use"):
        open_shop(clock, tmp_path / "no" / "ledger.jsonl")


def test_reset_forgets_everything(clock: Clock, tmp_path: Path) -> None:
    """After reset the books and the file are empty and usable."""
    path = tmp_path / "ledger.jsonl"
    shop = open_shop(clock, path)
    charge = shop.paid()
    shop.lookalike.reset()
    assert shop.get(f"/v1/charges/{charge['id']}")[0] == 404
    assert path.read_bytes() == b""
    shop.paid()
    shop.lookalike.close()
    assert open_and_close(clock, path) == 3
