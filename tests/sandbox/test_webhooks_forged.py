"""Forged webhooks, and keys that change: what a receiver sees when it verifies by itself."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from midas.sandbox.errors import ControlError
from midas.sandbox.forgery import FORGERIES
from midas.sandbox.samples import sample_event
from tests.sandbox.conftest import KeyPair
from tests.sandbox.webhook_receiver import SIGNATURE, Received
from tests.sandbox.webhook_stage import Stage, staged


@pytest.fixture
async def stage(sandbox_keys: KeyPair) -> AsyncIterator[Stage]:
    """A sandbox and its receiver."""
    async with staged(sandbox_keys.private) as made:
        yield made


async def forged(stage: Stage, how: str) -> tuple[Received, Received]:
    """A forged first send, and the genuine one that follows on schedule."""
    stage.fault("webhook_forge", how=how)
    stage.receiver.answers.append(401)
    stage.pay()
    await stage.until(sends=1)
    stage.server.clock.advance(5.1)
    first, second = await stage.accepted()
    return first, second


@pytest.mark.parametrize("how", sorted(FORGERIES))
async def test_no_forgery_verifies_and_the_repeat_does(stage: Stage, how: str) -> None:
    """Refused by anybody who checks the raw bytes; afterwards the right one comes."""
    first, second = await forged(stage, how)
    assert not stage.genuine(first)
    assert stage.genuine(second)


@pytest.mark.parametrize(
    ("how", "signatures"), [("unsigned", 0), ("empty_signature", 1), ("two_signatures", 2)]
)
async def test_signature_headers(stage: Stage, how: str, signatures: int) -> None:
    """None, an empty one, or a right one and a wrong one."""
    first, second = await forged(stage, how)
    sent = first.header(SIGNATURE)
    assert len(sent) == signatures
    assert first.body == second.body
    if how == "empty_signature":
        assert sent == [""]
    if how == "two_signatures":
        assert sent[0] == second.header(SIGNATURE)[0] != sent[1]


@pytest.mark.parametrize(
    "how", ["altered_space", "altered_key_order", "altered_escapes", "altered_newline"]
)
async def test_same_content_in_other_bytes(stage: Stage, how: str) -> None:
    """Whoever parses before verifying sees no difference; the signature is that of the original."""
    first, second = await forged(stage, how)
    assert first.body != second.body
    assert json.loads(first.body) == json.loads(second.body)
    assert first.header(SIGNATURE) == second.header(SIGNATURE)


async def test_an_amount_changed_on_the_way(stage: Stage) -> None:
    """One fen more, under the signature of the right body."""
    first, second = await forged(stage, "altered_amount")
    assert first.about["amount"] == second.about["amount"] + 1
    assert first.header(SIGNATURE) == second.header(SIGNATURE)


async def test_gzip_holds_the_right_body(stage: Stage) -> None:
    """Compressed on the way: the signature is not over these bytes."""
    first, second = await forged(stage, "gzipped")
    assert first.header("Content-Encoding") == ["gzip"]
    assert gzip.decompress(first.body) == second.body


async def test_a_new_key_signs_from_the_rotation_on(sandbox_keys: KeyPair, tmp_path: Path) -> None:
    """The public half is known before; each key has its file; repeats are signed anew."""
    path = tmp_path / "pingpp.pem"
    async with staged(sandbox_keys.private, public_key_path=path) as stage:
        old = stage.server.public_key_pem
        new, new_path = stage.server.keys.prepare()
        assert new != old
        assert new_path is not None
        assert (path.read_text(), new_path.read_text()) == (old, new)
        stage.receiver.answers.append(500)
        stage.pay()
        await stage.until(sends=1)
        assert stage.server.keys.rotate() == (new, new_path)
        assert stage.server.public_key_pem == new
        stage.server.clock.advance(5.1)
        first, second = await stage.accepted()
        assert first.verifies(old)
        assert second.verifies(new)
        assert not second.verifies(old)
        assert first.body == second.body
        assert (path.read_text(), new_path.read_text()) == (old, new)


async def test_a_straggler_is_signed_with_the_key_before(stage: Stage) -> None:
    """`previous_key` after a rotation is right by the old key; a second rotation makes a third."""
    old = stage.server.public_key_pem
    first_new, _ = stage.server.keys.rotate()
    straggler, _ = await forged(stage, "previous_key")
    assert straggler.verifies(old)
    second_new, _ = stage.server.keys.rotate()
    assert len({old, first_new, second_new}) == 3


async def test_the_test_tool_sends_what_belongs_to_nobody(stage: Stage) -> None:
    """A rightly signed sample to every URL, once, however it is answered."""
    stage.receiver.status = 500
    (reply,) = await stage.server.webhooks.send(sample_event("charge.succeeded"))
    assert reply.status == 500
    stage.server.clock.advance(100_000)
    await stage.server.webhooks.quiet()
    (received,) = stage.receiver.received
    assert stage.genuine(received)
    assert received.event["id"] == "evt_ugB6x3K43D16wXCcqbplWAJo"
    assert received.about["id"] == "ch_Xsr7u35O3m1Gw4ed2ODmi4Lw"
    assert received.event["livemode"] is True


async def test_an_event_is_sent_again_by_hand(stage: Stage) -> None:
    """Days later, several times at once, the same bytes; or forged; the schedule stays as it is."""
    stage.pay()
    (first,) = await stage.accepted()
    stage.server.clock.advance(30 * 24 * 3600)
    event_id = first.event["id"]
    replies = await stage.server.webhooks.resend(event_id, times=3)
    assert [reply.status for reply in replies] == [200, 200, 200]
    await stage.server.webhooks.resend(event_id, "foreign_key")
    *genuine, attack = stage.receiver.received
    assert {one.body for one in genuine} == {first.body}
    assert all(stage.genuine(one) for one in genuine)
    assert not stage.genuine(attack)
    assert stage.server.webhooks.log.totals() == {"pending": 0, "accepted": 1, "given_up": 0}


async def test_senseless_sends_are_refused(stage: Stage) -> None:
    """An unknown event, an unknown forgery, a wrong number, no URL at all."""
    send, event = stage.server.webhooks.send, sample_event("charge.succeeded")
    with pytest.raises(ControlError, match="no event"):
        await stage.server.webhooks.resend("evt_x")
    with pytest.raises(ControlError, match="how must be one of"):
        await send(event, "badly")
    with pytest.raises(ControlError, match="times"):
        await send(event, times=0)
    stage.server.webhooks.urls = ()
    with pytest.raises(ControlError, match="no webhook URL"):
        await send(event)
    assert stage.receiver.received == []
