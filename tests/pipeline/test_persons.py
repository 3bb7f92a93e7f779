"""A sending to people on a real store: one contact after the other, each once; thanks for what arrived only."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from bridge.clients.prosody import ProsodyClient
from bridge.config import PolicySettings
from bridge.errors import ConfigError
from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId, Source
from bridge.pipeline import abuse as stories
from bridge.pipeline import originate, persons
from bridge.pipeline.process import process
from bridge.pipeline.send_stanzas import send_stanzas
from bridge.policy import lanes, outgoing
from bridge.policy.change import Change, Put, Queue
from bridge.policy.outgoing import Answer
from bridge.policy.outreach import Channel, Outreach
from bridge.policy.record import Interaction, InteractionState, Peer
from bridge.store import keys, load
from bridge.store import lanes as stored_lanes
from bridge.store.codec import decode, fields, pack, unpack
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.xmpp.stanza import PeerError

from .test_abuse import ACTOR, NOW, Rules, drafts, hear, origin, report

RULES = PolicySettings()
THANKFUL = Rules(tell_reporters=True)
CONTACTS = ("xmpp:gone@b.test", "mailto:abuse@b.test", "xmpp:root@b.test")
NOBODY = PeerError(type="cancel", condition="service-unavailable", text="")


class Prosody:
    """Takes what it is handed."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.stanzas: list[str] = []
        self.thanked: list[str] = []
        self.error: dict[str, str] = {}

    async def send(self, _host: str, stanzas: list[str], *, webhook_id: str) -> list[dict[str, str]]:
        self.ids.add(webhook_id)
        self.stanzas += stanzas
        return [self.error for _ in stanzas]

    async def thank(self, _host: str, _text: str, to: Sequence[str], *, webhook_id: str) -> Sequence[str]:
        self.ids.add(webhook_id)
        self.thanked += to
        return to


async def find(store: Store, interaction_id: str) -> Interaction:
    name = keys.interaction(interaction_id)
    found = (await load.fetch(store, names=[name])).records[name]
    assert isinstance(found, Interaction)
    return found


async def announce(store: Store, *contacts: str) -> None:
    name = keys.peer("a.test", "b.test")
    before = (await load.fetch(store, names=[name])).records[name]
    known = before if isinstance(before, Peer) else Peer(host="a.test", domain="b.test")
    after = replace(known, announces=False, contacts=contacts, asked_at=NOW)
    await commit(store, Change(puts=(Put(before, after),)))


async def work(store: Store, prosody: Prosody, *, days: float = 0) -> None:
    """Hand over and decide all that waits."""
    now = NOW + timedelta(days=days)
    while True:
        taken = await stored_lanes.take(store, Queue.OUTGOING, "d")
        for lease in taken.leases:
            for item in lease.items:
                sent = await send_stanzas(
                    store, cast("ProsodyClient", prosody), "a.test", [item], patience=RULES, now=now
                )
                await commit(store, sent.change)
            await commit(store, Change(), leases=[lease])
        found = await stored_lanes.take(store, Queue.INCIDENTS, "d")
        if found.leases:
            await process(store, found.leases, rules=RULES, now=now)
        if not taken.leases and not found.leases:
            return


async def came(
    store: Store,
    prosody: Prosody,
    one: Interaction,
    *,
    sender: str,
    failure: PeerError | None = NOBODY,
    **more: Any,
) -> Interaction:
    """Let something come back for a sending."""
    item = outgoing.answer_item(
        f"x{sender}{len(prosody.stanzas)}", one.iq_id, Answer(sender=sender, is_bounce=False, failure=failure)
    )
    await commit(store, Change(appends=(lanes.incoming("a.test", "b.test", item),)))
    await work(store, prosody, **more)
    return await find(store, one.id)


async def reported(store: Store, prosody: Prosody, name: str = "s1", days: float = 0) -> Interaction:
    """A report that b.test itself does not take."""
    source = Source(address="x@b.test", category="xmpp", jid="x@b.test")
    document = Document(identity=IncidentId(name="a.test", text="1"), sources=(source,))
    sender = replace(origin(), to=("b.test",), new_id=lambda: name, now=NOW + timedelta(days=days))
    [sent] = (await originate.report(store, sender, document)).interactions
    await work(store, prosody, days=days)
    return await came(store, prosody, sent, sender="b.test", days=days)


def reached(one: Interaction) -> tuple[InteractionState, str, str]:
    assert one.outreach is not None
    return one.state, one.outreach.channel, one.outreach.address


async def test_one_contact_after_the_other_gets_it_under_the_same_id_and_then_it_waits_to_be_mailed(
    store: Store,
) -> None:
    await announce(store, *CONTACTS)
    prosody = Prosody()
    sent = await reported(store, prosody)
    assert reached(sent) == (InteractionState.SENT, "chat", "gone@b.test")
    sent = await came(store, prosody, sent, sender="gone@b.test")
    assert reached(sent) == (InteractionState.SENT, "chat", "root@b.test")
    assert reached(await came(store, prosody, sent, sender="gone@b.test")) == reached(sent), "once more"
    sent = await came(store, prosody, sent, sender="root@b.test")
    assert reached(sent) == (InteractionState.REFUSED, "mail", "abuse@b.test")
    chats = [one for one in prosody.stanzas if "<body>" in one]
    assert [f'id="ib-{sent.id}"' in one for one in chats] == [True, True]

    for _ in range(2):
        sent = await persons.mailed(store, sent, actor=ACTOR, now=NOW)
    assert reached(sent) == (InteractionState.SENT, "mail", "abuse@b.test")
    told = [event for _, event in await load.events(store, "a.test", after=0, limit=20)]
    assert [event["type"] for event in told].count("contact.told") == 3
    assert len({event["data"]["event_id"] for event in told}) == len(told)


async def test_a_reminder_goes_to_whom_nothing_was_written_to_yet(store: Store) -> None:
    await announce(store, "xmpp:abuse@b.test", "xmpp:root@b.test")
    prosody = Prosody()
    assert reached(await reported(store, prosody))[2] == "abuse@b.test"
    assert reached(await reported(store, prosody, "s2", days=0.1))[2] == "abuse@b.test"
    assert reached(await reported(store, prosody, "s3", days=8))[2] == "root@b.test"


async def test_what_our_own_prosody_does_not_send_goes_to_the_next_contact(store: Store) -> None:
    await announce(store, *CONTACTS)
    prosody = Prosody()
    sender = replace(origin(), to=("b.test",), new_id=lambda: "s1")
    document = Document(identity=IncidentId(name="a.test", text="1"))
    [sent] = (await originate.report(store, sender, document)).interactions
    await work(store, prosody)
    prosody.error = {"error": "the type of a message must be chat"}
    sent = await came(store, prosody, sent, sender="b.test")
    assert reached(sent) == (InteractionState.REFUSED, "mail", "abuse@b.test")
    assert sent.outreach is not None
    assert [one.address for one in sent.outreach.tried] == ["gone@b.test", "root@b.test"]


async def test_nothing_is_to_be_mailed_of_what_the_server_has(store: Store) -> None:
    prosody = Prosody()
    sent = await reported(store, prosody)
    assert reached(await persons.mailed(store, sent, actor=ACTOR, now=NOW)) == (
        InteractionState.SENT,
        "mail",
        "",
    )
    sender = replace(origin(), to=("b.test",), new_id=lambda: "s2")
    document = Document(identity=IncidentId(name="a.test", text="2"))
    [sent] = (await originate.report(store, sender, document)).interactions
    await work(store, prosody)
    sent = await came(store, prosody, sent, sender="b.test", failure=None)
    with pytest.raises(ConfigError, match="nothing is to be mailed"):
        await persons.mailed(store, sent, actor=ACTOR, now=NOW)


async def passed_on(store: Store, prosody: Prosody, *, new_id: str = "s1") -> Interaction:
    """What alice reported, sent to b.test at an operator's yes."""
    await hear(store, report(), rules=THANKFUL)
    [draft] = await drafts(store)
    sender = replace(origin(), new_id=lambda: new_id)
    [sent] = (await stories.send(store, sender, draft.id)).interactions
    await work(store, prosody)
    return sent


async def due(store: Store, prosody: Prosody, draft_id: str, sent: Interaction) -> None:
    """The time is up after which a chat message would have come back."""
    await commit(store, Change(appends=(lanes.thank("a.test", draft_id, sent.id, "due"),)))
    await work(store, prosody)


async def test_users_are_thanked_once_their_reports_arrived_and_not_at_the_yes(store: Store) -> None:
    prosody = Prosody()
    sent = await passed_on(store, prosody)
    assert prosody.thanked == []
    for _ in range(2):
        await came(store, prosody, sent, sender="b.test", failure=None)
    assert prosody.thanked == ["alice@a.test"]
    assert sent.draft_id is not None
    assert (await stories.find(store, sent.draft_id)).thanking == ()


async def test_users_are_not_thanked_for_what_came_back_but_once_it_was_mailed(store: Store) -> None:
    await announce(store, "xmpp:gone@b.test")
    prosody = Prosody()
    sent = await passed_on(store, prosody)
    await came(store, prosody, sent, sender="b.test")
    assert sent.draft_id is not None
    sent = await came(store, prosody, sent, sender="gone@b.test")
    await due(store, prosody, sent.draft_id or "", sent)
    assert (prosody.thanked, sent.state) == ([], InteractionState.REFUSED)
    await persons.mailed(store, sent, actor=ACTOR, now=NOW)
    await work(store, prosody)
    assert prosody.thanked == ["alice@a.test"]


async def test_users_are_thanked_where_a_chat_message_did_not_come_back(store: Store) -> None:
    await announce(store, "xmpp:root@b.test")
    prosody = Prosody()
    sent = await came(store, prosody, await passed_on(store, prosody), sender="b.test")
    assert (sent.state, prosody.thanked) == (InteractionState.SENT, [])
    await due(store, prosody, sent.draft_id or "", sent)
    assert prosody.thanked == ["alice@a.test"]


async def test_whose_report_went_out_later_is_not_thanked_for_what_went_out_before(store: Store) -> None:
    prosody = Prosody()
    first = await passed_on(store, prosody)
    await hear(store, report("bob"), rules=THANKFUL, webhook_id="later")
    [draft] = await drafts(store)
    [second] = (await stories.send(store, replace(origin(), new_id=lambda: "s2"), draft.id)).interactions
    await work(store, prosody)
    await came(store, prosody, first, sender="b.test", failure=None)
    assert prosody.thanked == []
    await came(store, prosody, second, sender="b.test", failure=None)
    assert prosody.thanked == ["alice@a.test", "bob@a.test"]


async def test_what_the_previous_release_stored_is_read(store: Store) -> None:
    prosody = Prosody()
    sent = replace(
        await reported(store, prosody), outreach=Outreach(channel=Channel.CHAT, address="abuse@b.test")
    )
    found = fields(sent, kind="interaction", version=3)
    plain = json.loads(unpack(cast("bytes", found["d"])))
    del plain["draft_id"], plain["outreach"]["tried"], plain["outreach"]["is_server_away"]
    old: dict[str, bytes | None] = {
        name: str(value).encode() if isinstance(value, str | int) else value for name, value in found.items()
    }
    read = decode("interaction", {**old, "d": pack(json.dumps(plain).encode())})
    assert isinstance(read, Interaction)
    assert read.outreach == sent.outreach
