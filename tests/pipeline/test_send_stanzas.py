"""A letter and the reports for programs that go along with it are handed to Prosody in one call, and counted apart."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, cast

import pytest
from lxml import etree

from bridge.clients.prosody import ProsodyClient
from bridge.config import PolicySettings
from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId, Source
from bridge.pipeline import abuse as stories
from bridge.pipeline import originate
from bridge.pipeline.drafts import Origin
from bridge.pipeline.send_stanzas import send_stanzas
from bridge.policy import lanes
from bridge.policy.change import Change, Put, Sent
from bridge.policy.outreach import Channel, Outreach
from bridge.policy.record import Interaction, InteractionState
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.xmpp import xml
from tests.pipeline.test_abuse import drafts, hear, report

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD = "to must be a bare JID of a user"
_ids = count()


def origin(*to: str) -> Origin:
    return Origin(host="a.test", to=to, now=NOW, new_id=lambda: f"e{next(_ids)}")


class Prosody:
    """Takes what it is handed, and answers for each stanza as it is told."""

    def __init__(self, answer: Callable[[str], dict[str, str]] = lambda _: {}) -> None:
        self.answer = answer
        self.calls: list[tuple[str, list[str]]] = []

    async def send(self, _host: str, stanzas: list[str], *, webhook_id: str) -> list[dict[str, str]]:
        self.calls.append((webhook_id, stanzas))
        return [self.answer(one) for one in stanzas]


async def find(store: Store, interaction_id: str) -> Interaction:
    name = keys.interaction(interaction_id)
    found = (await load.fetch(store, names=[name], originals=True)).records[name]
    assert isinstance(found, Interaction)
    return found


async def to_contact(store: Store, interaction: Interaction) -> None:
    """Note that b.test does not speak XEP-0268, and whom to write to instead."""
    known = await find(store, interaction.id)
    told = replace(known, outreach=Outreach(channel=Channel.CHAT, address="abuse@contact.test"))
    await commit(store, Change(puts=(Put(known, told),)))


async def hand_over(store: Store, prosody: Prosody, *interactions: Interaction, seconds: int = 0) -> Sent:
    return await send_stanzas(
        store,
        cast("ProsodyClient", prosody),
        "a.test",
        [json.dumps(lanes.send("a.test", one.id, 1).item).encode() for one in interactions],
        patience=PolicySettings(),
        now=NOW + timedelta(seconds=seconds),
    )


async def from_users(store: Store) -> Interaction:
    """What users reported, sent by an operator, and on its way to a contact."""
    await hear(store, report(), report("bob"), report("carol", "quiet@b.test", may_go_to_origin=False))
    [draft] = await drafts(store)
    [sent] = (await stories.send(store, origin(), draft.id, with_words=True)).interactions
    await to_contact(store, sent)
    return sent


def read(stanza: str) -> etree._Element:
    return xml.parse(stanza.encode())


async def test_what_users_called_spam_goes_as_a_report_beside_the_letter(
    store: Store, schema: etree.XMLSchema
) -> None:
    sent = await from_users(store)
    original = (await find(store, sent.id)).original
    assert original is not None
    schema.assertValid(xml.parse(original)[0])
    prosody = Prosody()

    await hand_over(store, prosody, sent)

    [(_, stanzas)] = prosody.calls
    letter, beside = map(read, stanzas)
    assert (letter.get("type"), letter.get("id"), letter.get("to")) == (
        "chat",
        f"ib-{sent.id}",
        "abuse@contact.test",
    )
    assert dict(beside.attrib) == {"to": "abuse@contact.test", "id": f"ib-report-{sent.id}-1"}
    assert [one.tag for one in beside] == ["{urn:xmpp:reporting:1}report"]
    assert beside[0].get("reason") == "urn:xmpp:reporting:spam"
    assert beside[0].findtext("{urn:xmpp:jid:0}jid") == "spam@b.test"
    text = beside[0].findtext("{urn:xmpp:reporting:1}text")
    assert text == f"2 users of a.test reported this account. Our reference: {sent.document.identity.text}"
    for hidden in ("quiet", "alice", "bob", "carol", "buy this"):
        assert hidden not in stanzas[1]


async def test_what_is_sent_again_after_a_crash_is_the_same(store: Store) -> None:
    sent = await from_users(store)
    prosody = Prosody()

    await hand_over(store, prosody, sent)
    await hand_over(store, prosody, sent, seconds=90)

    assert len(prosody.calls[0][1]) == 2
    assert prosody.calls[0] == prosody.calls[1]


async def test_a_module_that_knows_no_reports_has_still_sent_the_letter_and_one_line_says_what_to_do(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    made = document(20)
    [sent] = (await originate.report(store, origin("b.test"), made)).interactions
    await to_contact(store, sent)
    prosody = Prosody(
        lambda stanza: {} if "<body>" in stanza else {"error": "the type of a message must be chat"}
    )

    done = await hand_over(store, prosody, sent)

    await commit(store, done.change)
    after = await find(store, sent.id)
    assert (done.count, after.state, after.failure) == (1, InteractionState.SENT, None)
    assert sorted(done.change.counts).count(("stanzas", "error")) == 20
    [line] = [one for one in caplog.records if one.levelname in {"WARNING", "ERROR"}]
    assert "install the module that came with this bridge" in line.getMessage()
    fields: dict[str, Any] = vars(line)["fields"]
    assert (fields["refused"], fields["interaction"]) == (20, sent.id)


async def test_a_letter_that_prosody_does_not_send_is_what_the_log_is_about(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    sent = await from_users(store)

    done = await hand_over(store, Prosody(lambda _: {"error": OLD}), sent)

    await commit(store, done.change)
    [waiting] = [one.item for one in done.change.appends]
    assert (waiting["answer"], waiting["sender"]) == (sent.id, "abuse@contact.test")
    assert (await find(store, sent.id)).attempts == 1
    assert [one.levelname for one in caplog.records if one.levelno > 20] == ["ERROR"]


def document(accounts: int, text: str = "1") -> Document:
    sources = tuple(Source(address=f"x{number}@b.test", category="xmpp") for number in range(accounts))
    return Document(identity=IncidentId(name="a.test", text=text), sources=sources)


async def test_no_call_has_more_stanzas_than_the_module_takes_and_no_letter_is_parted_from_its_reports(
    store: Store,
) -> None:
    sent = []
    for number in range(7):
        [one] = (await originate.report(store, origin("b.test"), document(50, str(number)))).interactions
        await to_contact(store, one)
        sent.append(one)
    prosody = Prosody()
    waiting = sent
    while waiting:
        waiting = waiting[(await hand_over(store, prosody, *waiting)).count :]

    sizes = [len(stanzas) for _, stanzas in prosody.calls]
    assert sizes == [63, 63, 21]
    ids = [read(one).get("id") for _, stanzas in prosody.calls for one in stanzas]
    assert len(set(ids)) == len(ids) == 7 * 21
    assert [ids.index(f"ib-{one.id}") for one in sent] == [number * 21 for number in range(7)]
