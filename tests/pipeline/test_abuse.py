"""Users' reports on a real store: counted once, sent by one yes, told to nobody else."""

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, cast

import pytest
from pydantic import TypeAdapter

from bridge.config import PolicySettings
from bridge.errors import ConfigError
from bridge.iodef.model import Severity
from bridge.pipeline import abuse as stories
from bridge.pipeline import abuse_act, approve, originate, publish
from bridge.pipeline.abuse import Hearing
from bridge.pipeline.actors import Actor
from bridge.pipeline.compose import Details, with_details
from bridge.pipeline.drafts import Origin
from bridge.pipeline.publish import published_by
from bridge.policy import abuse, notice
from bridge.policy.abuse_act import NotMeantError
from bridge.policy.abuse_count import UserReport
from bridge.policy.abuse_record import AbuseDraft, AbuseKind, DraftState, Shortage
from bridge.policy.approval import own_target
from bridge.policy.change import Change, Put, Telling
from bridge.policy.decisions import Approval, Mitigation, MitigationState, MitigationType
from bridge.policy.disclosure import reread
from bridge.policy.mitigation import ProtectedError
from bridge.policy.publish import NotAgreedError, published
from bridge.policy.record import Interaction
from bridge.store import codec, keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.xep0268.model import Kind
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ACTOR = Actor(name="admin@a.test")


@dataclass(frozen=True)
class Rules:
    quota_reports_of_user_per_hour: int = 20
    tell_reporters: bool = False
    answer_seconds: int = 300
    give_up_seconds: int = 86_400


def report(reporter: str = "alice", jid: str = "spam@b.test", **more: object) -> UserReport:
    made = UserReport(
        reporter=f"{reporter}@a.test",
        jid=Jid.parse(jid),
        kind=AbuseKind.SPAM,
        text="buy this",
        stanza_ids=(),
        may_go_to_origin=True,
        may_go_to_others=False,
        is_own=False,
        is_admin=False,
        at=NOW,
    )
    return replace(made, **more)  # type: ignore[arg-type]


async def hear(store: Store, *reports: UserReport, rules: Rules | None = None, webhook_id: str = "") -> None:
    hearing = Hearing(host="a.test", rules=rules or Rules(), key=b"k" * 32)
    await stories.hear(store, hearing, reports, webhook_id=webhook_id or f"w{id(reports)}", now=NOW)


async def drafts(store: Store) -> list[AbuseDraft]:
    return await stories.waiting(store, "a.test", limit=10)


def origin(ids: Any = None) -> Origin:
    numbers = ids or count()
    return Origin(host="a.test", to=(), now=NOW, new_id=lambda: f"s{next(numbers)}", actor=ACTOR)


async def payload_of(store: Store, one: Interaction) -> str:
    name = keys.interaction(one.id)
    found = (await load.fetch(store, names=[name], originals=True)).records[name]
    assert isinstance(found, Interaction)
    assert found.original is not None
    return found.original.decode()


async def test_a_graver_edition_of_what_users_called_spam_is_still_spam(store: Store) -> None:
    await hear(store, report())
    [draft] = await drafts(store)
    document = abuse.document(draft, with_words=False)
    assert [one.type for one in document.impacts] == ["policy", "spam"]
    graver = with_details(document, Details(severity=Severity.HIGH))
    assert [(one.type, one.severity) for one in graver.impacts] == [("policy", "high"), ("spam", None)]
    other = with_details(document, Details(impact="dos"))
    assert [one.type for one in other.impacts] == ["dos"]


async def test_a_thousand_reports_are_one_draft_and_one_notice(store: Store) -> None:
    for start in range(0, 1000, 64):
        batch = [report(f"user{number}") for number in range(start, min(1000, start + 64))]
        await hear(store, *batch, webhook_id=f"w{start}")
    (draft,) = await drafts(store)
    assert (draft.reports, draft.agreed, draft.more) == (500, 500, 500)
    assert await store.redis.zcard(keys.TIMERS) == 1
    waiting = await load.tallies(store, "a.test", Telling.NOTICE)
    assert [one.count for one in waiting] == [1]
    text = notice.text("a.test", Telling.NOTICE, waiting)
    assert "b.test: users report spam" in text
    assert "incident-bridge abuse list" in text
    assert "buy this" not in text


async def test_a_batch_that_is_sent_twice_counts_once(store: Store) -> None:
    for _ in range(2):
        await hear(store, report(), report("bob"), webhook_id="same")
    (draft,) = await drafts(store)
    assert draft.reports == 2
    health = await load.health(store)
    assert health.counters["abuse", "counted"] == 2


async def test_batches_at_the_same_time_lose_nothing(store: Store) -> None:
    await asyncio.gather(*(hear(store, report(f"user{n}"), webhook_id=f"w{n}") for n in range(6)))
    (draft,) = await drafts(store)
    assert draft.reports == 6


async def test_one_yes_sends_what_was_agreed_to_and_nothing_else(store: Store, schema: Any) -> None:
    secret = report("bob", "quiet@b.test", may_go_to_origin=False, text="only for you")
    await hear(store, report(), secret)
    (draft,) = await drafts(store)
    sent = await stories.send(store, origin(), draft.id, with_words=True)
    (one,) = sent.interactions
    assert (one.peer, one.kind) == ("b.test", Kind.REPORT)
    text = await payload_of(store, one)
    assert "spam@b.test" in text
    assert "buy this" in text
    for hidden in ("quiet@b.test", "only for you", "alice", "bob"):
        assert hidden not in text
    assert schema.validate(xml.parse(text.encode())[0]), schema.error_log
    after = await stories.find(store, draft.id)
    assert (after.state, after.decided_by) == (DraftState.SENT, "admin@a.test")
    assert sent.incident is not None
    assert after.incident_id == sent.incident.id
    assert await drafts(store) == []
    with pytest.raises(ConfigError, match="it was sent"):
        await stories.send(store, origin(count(10)), draft.id)


async def test_what_is_sent_again_under_its_id_finds_what_was_sent_and_under_another_is_refused(
    store: Store,
) -> None:
    await hear(store, report())
    (draft,) = await drafts(store)
    first = await stories.send(store, origin(), draft.id)
    again = await stories.send(store, origin(), draft.id)
    assert [one.id for one in again.interactions] == [one.id for one in first.interactions]
    with pytest.raises(ConfigError, match="it was sent"):
        await stories.send(store, origin(count(10)), draft.id)
    assert await store.redis.llen("ib:lane:outgoing:host:a.test") == 2  # disco#info first, and the report


async def test_what_nobody_agreed_to_stays_here(store: Store) -> None:
    await hear(store, report(may_go_to_origin=False, may_go_to_others=True))
    (draft,) = await drafts(store)
    with pytest.raises(ConfigError, match="agreed"):
        await stories.send(store, origin(), draft.id)
    assert await store.redis.exists("ib:lane:outgoing:host:a.test") == 0


async def test_nobody_else_gets_it_later_whoever_asks_the_operator(store: Store) -> None:
    await hear(store, report())
    (draft,) = await drafts(store)
    sent = await stories.send(store, origin(), draft.id)
    assert sent.incident is not None
    tree = reread(
        cast(
            "Interaction",
            (
                await load.fetch(store, names=[keys.interaction(sent.interactions[0].id)], originals=True)
            ).records[keys.interaction(sent.interactions[0].id)],
        )
    ).tree
    elsewhere = replace(origin(count(10)), to=("c.test",))
    with pytest.raises(ConfigError, match=r"b\.test be told, and nobody else"):
        await originate.report(store, elsewhere, tree)
    with pytest.raises(ConfigError, match=r"b\.test be told, and nobody else"):
        await originate.request(store, elsewhere, tree, about=sent.incident)
    with pytest.raises(ConfigError, match="did not agree"):
        await originate.forward(store, elsewhere, sent.incident, sent.interactions[0], even_private=True)
    told = replace(sent.incident, told=("b.test", "c.test"))
    assert await originate.audience(store, told) == ("b.test",)


async def test_what_is_done_because_of_it_is_done_here_and_on_no_list_for_others(store: Store) -> None:
    await hear(store, report(), report(jid="spam@c.test", may_go_to_others=True))
    rules, ids = PolicySettings(), count()
    for draft in await drafts(store):
        sent = await stories.send(store, origin(ids), draft.id)
        assert sent.incident is not None
        target = own_target("a.test", MitigationType.BLOCK, address=draft.domain)
        act = {"approval_id": draft.domain, "actor": ACTOR, "rules": rules, "now": NOW}
        await approve.act(store, sent.incident, [target], **act)
        if draft.domain == "b.test":
            with pytest.raises(NotAgreedError, match="without naming that incident"):
                await publish.list_address(
                    store, "a.test", "b.test", actor=ACTOR, rules=rules, now=NOW, incident_id=sent.incident.id
                )
    index = keys.mitigations_active("a.test")
    ids = (await load.newest(store, [index], limit=9))[index]
    found = (await load.fetch(store, names=[keys.mitigation(one) for one in ids])).records.values()
    made = [one for one in found if isinstance(one, Mitigation)]
    assert len(made) == 2
    applied = [replace(one, state=MitigationState.APPLIED) for one in made]
    assert [one.address for one in published(applied, (), now=NOW).entries] == ["c.test"]


async def test_more_reports_wait_again_and_are_sent_as_an_update(store: Store) -> None:
    await hear(store, report(), webhook_id="w1")
    (draft,) = await drafts(store)
    ids = count()
    first = await stories.send(store, origin(ids), draft.id)
    await hear(store, report("bob"), webhook_id="w2")
    second = await stories.send(store, origin(ids), draft.id)
    assert first.incident is not None
    assert second.incident is not None
    assert first.incident.id == second.incident.id
    assert [one.status for one in second.incident.editions] == ["new", "updated"]
    assert second.interactions[0].document.sources[0].counters[0].value == 2


async def test_a_no_sends_nothing_and_is_in_the_audit_log(store: Store) -> None:
    await hear(store, report())
    (draft,) = await drafts(store)
    after = await stories.dismiss(store, draft.id, actor=ACTOR, now=NOW)
    assert (after.state, after.words) == (DraftState.DISMISSED, ())
    assert await drafts(store) == []
    (entry,) = await load.audits(store, "a.test", limit=5)
    assert (entry[1]["action"], entry[1]["target"]) == ("abuse.dismiss", draft.id)


async def test_what_nobody_reports_any_more_is_deleted_after_a_time(store: Store) -> None:
    await hear(store, report())
    assert await stories.forget_drafts(store, "a.test", days=30, now=NOW + timedelta(days=29)) == 0
    assert await stories.forget_drafts(store, "a.test", days=30, now=NOW + timedelta(days=31)) == 1
    assert await drafts(store) == []


async def test_where_all_places_are_taken_one_draft_of_one_user_goes_and_the_admins_are_told_once(
    store: Store,
) -> None:
    for start in range(0, abuse.MAX_OPEN, 50):
        batch = [
            report(f"user{n}", f"x@d{n}.test", at=NOW - timedelta(hours=1) + timedelta(seconds=n))
            for n in range(start, start + 50)
        ]
        await hear(store, *batch, webhook_id=f"w{start}")
    assert await load.count(store, keys.abuse_drafts_open("a.test")) == abuse.MAX_OPEN
    await hear(store, report("bob"), report("carol"), report("bob", "y@c.test"), webhook_id="more")
    found = {one.domain for one in await stories.waiting(store, "a.test", limit=1000)}
    assert len(found) == abuse.MAX_OPEN
    assert {"b.test", "c.test", "d2.test"} <= found
    assert not {"d0.test", "d1.test"} & found
    await hear(store, report("bob", "z@e.test"), webhook_id="again")
    waiting = [one for one in await load.tallies(store, "a.test", Telling.NOTICE) if one.peer == "a.test"]
    assert [(one.kind, one.count) for one in waiting] == [(Shortage.NO_PLACE, 1)]
    assert "more than is kept" in notice.text("a.test", Telling.NOTICE, waiting)
    health = await load.health(store)
    assert health.counters["abuse", "evicted"] == 3


async def test_a_draft_of_the_release_before_is_read_and_counted_on(store: Store) -> None:
    await hear(store, report(), webhook_id="w1")
    (draft,) = await drafts(store)
    plain = json.loads(TypeAdapter(AbuseDraft).dump_json(draft, exclude={"version"}))
    for name in ("more", "last_at", "resources", "with_resource"):
        del plain["accused"][0][name]
    del plain["words"][0]["who"], plain["acted"]
    key = keys.record_key(keys.abuse_draft(draft.id))
    await store.redis.hset(key, "d", codec.pack(json.dumps(plain).encode()))
    await hear(store, report("bob", "spam@b.test/x"), webhook_id="w2")
    (after,) = await drafts(store)
    (one,) = after.accused
    assert (one.reports, one.resources, one.may_be_room) == (2, ("x",), False)


@dataclass(frozen=True)
class Policy:
    mitigation_days: int = 7
    protected: frozenset[str] = frozenset()


async def suspend(store: Store, draft: AbuseDraft, *accounts: str, **more: Any) -> Approval:
    given: dict[str, Any] = {
        "hosts": {"a.test"},
        "admins": {"boss@a.test"},
        "approval_id": "p1",
        "actor": ACTOR,
        "rules": Policy(),
        "now": NOW,
    }
    return await abuse_act.suspend(store, draft.id, accounts, **{**given, **more})


async def test_an_account_of_ours_that_users_reported_is_suspended_on_a_yes_and_listed_nowhere(
    store: Store,
) -> None:
    mine = [report(who, "eve@a.test", is_own=True, may_go_to_others=True) for who in ("alice", "bob")]
    await hear(store, *mine, webhook_id="w1")
    (draft,) = await drafts(store)
    made = await suspend(store, draft, "Eve@a.test/phone")
    assert (made.incident_id, made.draft_id, made.host) == ("", draft.id, "a.test")
    (target,) = made.targets
    name = keys.mitigation(target.mitigation_id or "")
    one = (await load.fetch(store, names=[name])).records[name]
    assert isinstance(one, Mitigation)
    assert (one.target, one.draft_id) == ({"account": "eve@a.test"}, draft.id)
    assert one.reason == "reported by users, approved by admin@a.test"
    again = await suspend(store, draft, "eve@a.test")  # the same yes again
    assert replace(again, version=made.version) == made
    (after,) = await drafts(store)
    assert (after.state, after.acted, after.may_be_dropped) == (DraftState.OPEN, ("eve@a.test",), False)
    applied = replace(one, state=MitigationState.APPLIED, applied_at=NOW)
    await commit(store, Change(puts=(Put(one, applied),)))
    assert (await published_by(store, "a.test", now=NOW)).entries == ()
    await hear(store, report("carol", "eve@a.test", is_own=True), webhook_id="w2")
    assert (await drafts(store))[0].acted == ("eve@a.test",)


@pytest.mark.parametrize(
    ("account", "why"),
    [
        ("admin@a.test", "is an admin of this server"),
        ("boss@a.test", "is an admin of this server"),
        ("other@a.test", "is not among those"),
        ("eve@b.test", "is not an account on a.test"),
        ("a.test", "is not an account on a.test"),
        ("a..b", "is not a JID"),
    ],
)
async def test_nobody_else_is_suspended_so_least_of_all_an_admin(
    store: Store, account: str, why: str
) -> None:
    named = ("eve@a.test", "boss@a.test")
    rest = [report(jid=one, is_own=True) for one in named]
    await hear(store, report(jid="admin@a.test", is_own=True, is_admin=True), *rest)
    (draft,) = await drafts(store)
    with pytest.raises(NotMeantError, match=why):
        await suspend(store, draft, "eve@a.test", account)
    assert await load.count(store, keys.mitigations("a.test")) == 0
    with pytest.raises(ProtectedError):
        await suspend(store, draft, "eve@a.test", rules=Policy(protected=frozenset({"eve@a.test"})))
    await stories.dismiss(store, draft.id, actor=ACTOR, now=NOW)
    with pytest.raises(ConfigError, match="it was dismissed"):
        await suspend(store, draft, "eve@a.test")


async def test_nothing_is_suspended_because_of_a_draft_about_another_server(store: Store) -> None:
    await hear(store, report())
    (draft,) = await drafts(store)
    with pytest.raises(ConfigError, match="no host of yours"):
        await suspend(store, draft, "spam@b.test")
