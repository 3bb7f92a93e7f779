"""The answer page: what a link is good for, and what one that is guessed, over, closed or only looked at is not."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from bridge.clients.prosody import ProsodyClient
from bridge.config import PolicySettings
from bridge.iodef.model import Counter, Impact, IncidentId, RecordItem, Source, Text
from bridge.iodef.model import Incident as Document
from bridge.pipeline.persons import links
from bridge.pipeline.send_stanzas import send_stanzas
from bridge.policy import lanes, outgoing
from bridge.policy.answer_link import PATH, make
from bridge.policy.change import Change, Put
from bridge.policy.editions import add_edition
from bridge.policy.outreach import Channel, Outreach, Verdict
from bridge.policy.record import Interaction, InteractionState, Outcome, incident_id
from bridge.policy.sessions import Role
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.webhooks.signature import decode_secret
from bridge.xep0268.model import Kind, Status
from tests.pipeline.conftest import server, store
from tests.web.console.test_pages import SECRET, Open, browse, send

__all__ = ["browse", "server", "store"]
KEY = decode_secret(SECRET)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fail where a handler blocks the event loop."""
    with blockbuster_ctx(scanned_modules=["bridge.web", "bridge.pipeline"]) as buster:
        yield buster


@pytest.fixture
async def asked(store: Store) -> Interaction:
    """A request that abuse@c.test was sent by chat."""
    document = Document(
        identity=IncidentId(name="a.test", text="1"),
        descriptions=(Text(text="<script>alert(1)</script> spam"),),
        sources=(Source(address="bad@c.test", category="xmpp"),),
        impacts=(Impact(type="spam"),),
    )
    made = outgoing.draft(
        interaction_id="i1",
        host="a.test",
        to="c.test",
        kind=Kind.REQUEST,
        payload=b"<request/>",
        document=document,
        status=None,
        incident_id="n1",
        now=datetime.now(UTC),
    )
    told = Outreach(channel=Channel.CHAT, address="abuse@c.test")
    made = replace(made, state=InteractionState.SENT, attempts=1, outreach=told)
    await commit(store, Change(puts=(Put(None, made),)))
    return made


def link_to(interaction: Interaction, *, days: float = 7, key: bytes = KEY) -> str:
    until = datetime.now(UTC) + timedelta(days=days)
    return PATH + make(key, host=interaction.host, interaction_id=interaction.id, until=until)


async def stored(store: Store) -> Interaction:
    name = keys.interaction("i1")
    found = (await load.fetch(store, names=[name])).records[name]
    assert isinstance(found, Interaction)
    return found


async def test_whoever_has_the_link_sees_what_was_sent_and_answers_without_an_account(
    browse: Open, store: Store, asked: Interaction
) -> None:
    client, link = await browse(), link_to(asked)
    page = await (await client.get(link)).text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; spam" in page
    assert "bad@c.test" in page

    answer = await send(client, link, verdict="done", text="both <b>closed")

    assert "Thank you" in await answer.text()
    after = await stored(store)
    assert (after.state, after.outcome) == (InteractionState.ACKNOWLEDGED, Outcome.DONE)
    assert after.outreach is not None
    assert [(one.text, one.verdict, one.is_by_page) for one in after.outreach.answers] == [
        ("both <b>closed", Verdict.DONE, True)
    ]


async def test_the_page_shows_what_users_wrote_as_their_words_and_evidence(
    browse: Open, store: Store, asked: Interaction
) -> None:
    document = replace(
        asked.document,
        sources=(
            Source(
                address="bad@c.test",
                category="xmpp",
                jid="bad@c.test",
                counters=(Counter(type="event", value=2, meaning="reports by users"),),
            ),
        ),
        record_items=(
            RecordItem(
                dtype="string", text="<b>pills", meaning="what a user of a.test wrote about bad@c.test"
            ),
            *(RecordItem(dtype="string", text=f"line {number} " + "x" * 11_000) for number in range(30)),
        ),
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=30),
    )
    ours = replace(
        asked, id="i2", document=document, incident_id=incident_id("a.test", "a.test", document.identity)
    )
    theirs = replace(ours, id="i3", incident_id="n1")
    await commit(store, Change(puts=(Put(None, ours), Put(None, theirs))))
    client = await browse()

    page = await (await client.get(link_to(ours))).text()
    assert "reported by 2 users" in page
    _, _, words = page.partition("A user of a.test wrote about bad@c.test:</p>")
    assert words.strip().startswith('<blockquote><div class="prose"><bdi>&lt;b&gt;pills</bdi>')
    assert ("line 18 " in page, "line 19 " in page, "and 11 more" in page) == (True, False, True)
    assert "x" * 10_001 not in page
    assert (page.count("2026-11-21 12:00</time>"), "12:00 until" in page) == (1, False)
    page = await (await client.get(link_to(theirs))).text()
    assert "2 event" in page
    assert "A user of" not in page


async def test_looking_changes_nothing_however_often(browse: Open, store: Store, asked: Interaction) -> None:
    client = await browse()
    for method in ("GET", "HEAD", "GET"):
        assert (await client.request(method, link_to(asked))).status == 200
    assert await stored(store) == replace(asked, original=None, version=1)


async def test_a_form_that_no_page_of_ours_gave_changes_nothing(
    browse: Open, store: Store, asked: Interaction
) -> None:
    answer = await (await browse()).post(link_to(asked), data={"verdict": "done"})
    assert answer.status == 403
    assert (await stored(store)).version == 1


async def test_a_link_that_is_not_good_finds_nothing_and_says_nothing_of_why(
    browse: Open, store: Store, asked: Interaction
) -> None:
    client, good = await browse(), link_to(asked)
    elsewhere = make(KEY, host="b.test", interaction_id="i1", until=datetime.now(UTC) + timedelta(days=1))
    later = good.replace(good.split(".")[1], f"{int(good.split('.')[1], 16) + 1:x}")
    bad = [
        link_to(asked, days=-1),
        link_to(asked, key=b"x" * 32),
        link_to(replace(asked, id="i2")),
        PATH + elsewhere,
        later,
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good + "A",
        PATH + "i1",
        PATH + "%00",
        PATH + "x" * 5000,
    ]
    fields = {"csrf": "", "verdict": "done"}
    first = await client.get(good)
    fields["csrf"] = (await first.text()).split('name="csrf" value="')[1].split('"')[0]
    pages = set()
    for one in bad:
        seen, tried = await client.get(one), await client.post(one, data=fields)
        assert (seen.status, tried.status) == (404, 404), one
        pages |= {await seen.text(), await tried.text()}
    assert len(pages) == 1
    assert (await stored(store)).version == 1


async def test_what_no_person_was_told_has_no_page(browse: Open, store: Store, asked: Interaction) -> None:
    await commit(store, Change(puts=(Put(await stored(store), replace(asked, outreach=None)),)))
    assert (await (await browse()).get(link_to(asked))).status == 404


@pytest.mark.parametrize("verdict", ["done", "declined"])
async def test_an_answer_that_settles_it_closes_the_page(
    browse: Open, store: Store, asked: Interaction, verdict: str
) -> None:
    client, link = await browse(), link_to(asked)
    await send(client, link, verdict="need-more", text="which accounts?")
    fields = {"csrf": (await (await client.get(link)).text()).split('name="csrf" value="')[1].split('"')[0]}
    assert (await client.post(link, data={**fields, "verdict": verdict})).status == 200
    assert (await client.post(link, data={**fields, "verdict": "done", "text": "again"})).status == 404
    assert (await client.get(link)).status == 404
    known = (await stored(store)).outreach
    assert known is not None
    assert [str(one.verdict) for one in known.answers] == ["need-more", verdict]


async def test_an_answer_that_says_nothing_is_asked_for_again(
    browse: Open, store: Store, asked: Interaction
) -> None:
    client, link = await browse(), link_to(asked)
    for fields in ({"verdict": "need-more"}, {"verdict": "maybe"}, {}):
        assert (await send(client, link, **fields)).status == 422
    assert (await stored(store)).version == 1


async def test_what_is_to_be_mailed_is_shown_whole_and_noted_once_by_who_may(
    browse: Open, store: Store, asked: Interaction
) -> None:
    mail = Outreach(channel=Channel.MAIL, address="abuse@c.test")
    before = await stored(store)
    refused = replace(before, state=InteractionState.REFUSED, outreach=mail)
    await commit(store, Change(puts=(Put(before, refused),)))
    viewer, client = await browse(a=Role.VIEWER), await browse(a=Role.APPROVER)

    page = await (await client.get("/letters/i1")).text()
    assert "&gt; &lt;script&gt;alert(1)&lt;/script&gt; spam" in page
    assert 'href="mailto:abuse@c.test?subject=' in page
    assert "I sent it" not in await (await viewer.get("/letters/i1")).text()
    assert (await (await browse(b=Role.APPROVER)).get("/letters/i1")).status == 404
    fields = {"csrf": page.split('name="csrf" value="')[1].split('"')[0]}
    for _ in range(2):
        answer = await client.post("/letters/i1", data=fields, allow_redirects=False)
        assert answer.headers["Location"] == "/incidents/n1?said=mailed"
    after = await stored(store)
    assert (after.state, after.version) == (InteractionState.SENT, 3)
    events = await load.events(store, "a.test", after=0, limit=10)
    assert [event["type"] for _, event in events] == ["contact.told"]


async def test_what_reached_nobody_can_be_mailed_by_who_knows_an_address(
    browse: Open, store: Store, asked: Interaction
) -> None:
    before = await stored(store)
    silent = replace(before, state=InteractionState.UNANSWERED, outreach=None)
    incident = add_edition(None, replace(asked, status=Status.NEW))
    await commit(store, Change(puts=(Put(before, silent), Put(None, incident))))
    client = await browse(a=Role.APPROVER)
    assert 'href="/letters/i1"' in await (await client.get("/incidents/n1")).text()
    page = await (await client.get("/letters/i1")).text()
    assert "announces none" in page
    fields = {"csrf": page.split('name="csrf" value="')[1].split('"')[0]}
    answer = await client.post("/letters/i1", data=fields, allow_redirects=False)
    assert answer.headers["Location"] == "/incidents/n1?said=mailed"
    after = await stored(store)
    assert (after.state, after.outreach) == (
        InteractionState.SENT,
        Outreach(channel=Channel.MAIL, address="", is_server_away=True),
    )


async def test_a_viewer_is_shown_no_link_with_which_to_answer_for_them(
    browse: Open, asked: Interaction
) -> None:
    page: dict[str, object] = {"public_url": "http://127.0.0.1", "answer_page_days": 7}
    for role, is_shown in ((Role.VIEWER, False), (Role.APPROVER, True)):
        text = await (await (await browse(a=role, **page)).get("/letters/i1")).text()
        assert "We ask for your help" in text
        assert ("http://127.0.0.1/answer/i1." in text) is is_shown


async def test_what_is_sent_again_after_a_crash_is_the_same_message(store: Store, asked: Interaction) -> None:
    calls = []

    class Prosody:
        async def send(self, host: str, stanzas: list[str], *, webhook_id: str) -> list[dict[str, str]]:
            calls.append((host, webhook_id, *stanzas))
            return [{} for _ in stanzas]

    queued = replace(asked, state=InteractionState.QUEUED, original=b"<request/>")
    await commit(store, Change(puts=(Put(await stored(store), queued),)))
    for seconds in (1, 90):
        await send_stanzas(
            store,
            cast("ProsodyClient", Prosody()),
            "a.test",
            [json.dumps(lanes.send("a.test", "i1", 1).item).encode()],
            patience=PolicySettings(),
            now=asked.state_at + timedelta(seconds=seconds),
            link=links("https://a.test", {"a.test": [KEY]}, days=7),
        )
    assert "https://a.test/answer/i1." in calls[0][2]
    assert calls[0] == calls[1]


async def test_what_went_to_a_server_has_no_letter(browse: Open, store: Store, asked: Interaction) -> None:
    await commit(store, Change(puts=(Put(await stored(store), replace(asked, outreach=None)),)))
    assert (await (await browse(a=Role.APPROVER)).get("/letters/i1")).status == 404


def test_a_link_is_made_only_where_the_operator_wants_a_page(asked: Interaction) -> None:
    now, own = datetime.now(UTC), {"a.test": [KEY]}
    assert links("https://a.test", own, days=7)(asked, now).startswith("https://a.test/answer/i1.")
    assert links("https://a.test", own, days=0)(asked, now) == ""
    assert links("", own, days=7)(asked, now) == ""
    assert links("https://a.test", {}, days=7)(asked, now) == ""


async def test_the_inbox_shows_what_is_due_until_somebody_answers(
    browse: Open, store: Store, asked: Interaction
) -> None:
    before = await stored(store)
    old = replace(before, received_at=before.received_at - timedelta(days=8))
    own = replace(add_edition(None, replace(old, status=Status.NEW)), id="n1")
    await commit(store, Change(puts=(Put(before, old), Put(None, own))))
    client = await browse(a=Role.APPROVER)

    assert "Remind <bdi>c.test</bdi>" in await (await client.get("/")).text()
    assert "Remind" not in await (await (await browse(b=Role.APPROVER)).get("/")).text()
    await send(client, link_to(asked), verdict="done")
    assert "Remind" not in await (await client.get("/")).text()


async def test_the_log_and_xarf_are_for_who_may_see_the_incident(
    browse: Open, store: Store, asked: Interaction
) -> None:
    before = await stored(store)
    own = replace(add_edition(None, replace(before, status=Status.NEW)), id="n1")
    await commit(store, Change(puts=(Put(None, own),)))
    client, other = await browse(a=Role.VIEWER), await browse(b=Role.APPROVER)

    log = await client.get("/incidents/n1/log.txt")
    assert "request to c.test by chat to abuse@c.test" in await log.text()
    assert (log.content_type, "attachment" in log.headers["Content-Disposition"]) == ("text/plain", True)
    assert 'name="contact" type="email" required' in await (await client.get("/incidents/n1")).text()
    assert (await client.get("/incidents/n1/xarf.json")).status == 422
    (one,) = await (await client.get("/incidents/n1/xarf.json?contact=abuse@a.test")).json()
    assert one["source_identifier"] == "bad@c.test"
    for path in ("/incidents/n1/log.txt", "/incidents/n1/xarf.json"):
        assert (await other.get(path)).status == 404
