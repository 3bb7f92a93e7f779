"""Accounts that users reported, listed with the yes to their draft: all or nothing, by consent, never over a no."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from bridge.errors import ConfigError
from bridge.pipeline import abuse as stories
from bridge.pipeline import publish
from bridge.pipeline.abuse_lists import Wish, listable, listed
from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.change import Change, Put
from bridge.policy.listing import Listing
from bridge.policy.mitigation import ProtectedError
from bridge.policy.publish import Entry, ListFullError
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store import load
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.pipeline.test_abuse import ACTOR, NOW, drafts, hear, origin, report

OPEN = {"may_go_to_others": True}
OUTGOING = "ib:lane:outgoing:host:a.test"


@dataclass(frozen=True)
class Policy:
    mitigation_days: int = 30
    protected: Collection[str] = ()


async def heard(store: Store) -> AbuseDraft:
    """Three accused: others may be told of one, of the second only its server, of the third nobody."""
    await hear(
        store,
        report("alice", "spam@b.test", **OPEN),
        report("bob", "spam@b.test"),
        report("alice", "local@b.test"),
        report("alice", "quiet@b.test", may_go_to_origin=False, **OPEN),
        report("alice", "b.test", **OPEN),
        report("bob", "boss@b.test", is_admin=True, **OPEN),
        webhook_id="heard",
    )
    (draft,) = await drafts(store)
    return draft


async def yes(store: Store, draft: AbuseDraft, ids: Any = None, **wish: Any) -> None:
    wish.setdefault("rules", Policy())
    await stories.send(store, origin(ids), draft.id, wish=Wish(**wish))


async def entries(store: Store, *, now: datetime = NOW) -> dict[str, Entry]:
    return {one.address: one for one in (await publish.published_by(store, "a.test", now=now)).entries}


async def test_a_yes_lists_the_accounts_of_which_others_may_be_told_until_its_end(store: Store) -> None:
    draft = await heard(store)
    until = NOW + timedelta(days=30)
    assert await listable(store, [draft], until=until) == {draft.id: ("spam@b.test",)}
    await yes(store, draft)
    after = await stories.find(store, draft.id)
    found = await entries(store)
    assert found.keys() == {"spam@b.test"}
    one = found["spam@b.test"]
    assert (one.until, one.by, one.is_reported) == (until, ACTOR.name, True)
    assert one.incident_id == after.incident_id
    assert await listed(store, after) == ("spam@b.test",)
    done = {(entry["action"], entry["target"]) for _, entry in await load.audits(store, "a.test", limit=9)}
    assert done == {("list.add", "spam@b.test"), ("send.report", after.incident_id)}
    assert await entries(store, now=until) == {}


async def test_a_yes_that_does_not_ask_for_it_lists_nobody(store: Store) -> None:
    draft = await heard(store)
    await stories.send(store, origin(), draft.id)
    assert await entries(store) == {}
    assert await listed(store, await stories.find(store, draft.id)) == ()


async def test_the_same_yes_again_lists_and_tells_nothing_more(store: Store) -> None:
    draft = await heard(store)
    await yes(store, draft)
    await publish.take_back(store, "a.test", "spam@b.test", actor=ACTOR, now=NOW)
    await yes(store, draft)
    assert await entries(store) == {}
    with pytest.raises(ConfigError, match="it was sent"):
        await yes(store, draft, count(10))
    assert await entries(store) == {}


@pytest.mark.parametrize("withheld", ["spam@b.test", "b.test"])
async def test_what_is_withheld_stays_so(store: Store, withheld: str) -> None:
    draft = await heard(store)
    await publish.withhold(store, "a.test", withheld, actor=ACTOR, now=NOW)
    assert await listable(store, [draft], until=NOW + timedelta(days=30)) == {draft.id: ()}
    await yes(store, draft)
    found = await publish.published_by(store, "a.test", now=NOW)
    assert (found.entries, [one.address for one in found.withheld]) == ((), [withheld])
    await publish.take_back(store, "a.test", withheld, actor=ACTOR, now=NOW)
    assert await entries(store) == {}


@pytest.mark.parametrize(("days", "is_kept"), [(1, False), (30, True), (90, True)])
async def test_what_is_listed_for_longer_stays_as_it_is(store: Store, days: int, *, is_kept: bool) -> None:
    draft = await heard(store)
    end = NOW + timedelta(days=days)
    before = await publish.list_address(
        store, "a.test", "spam@b.test", actor=ACTOR, rules=Policy(), now=NOW, expires_at=end
    )
    await yes(store, draft)
    one = (await entries(store))["spam@b.test"]
    assert one.is_reported is not is_kept
    assert one.until == (before.expires_at if is_kept else NOW + timedelta(days=30))


@pytest.mark.parametrize("protected", ["spam@b.test", "b.test", ""])
async def test_protected_accounts_need_a_second_yes_and_nothing_is_sent_without(
    store: Store, protected: str
) -> None:
    draft = await heard(store)
    if not protected:
        peer = Peer(host="a.test", domain="b.test", trust=Trust.TRUSTED)
        await commit(store, Change(puts=(Put(None, peer),)))
    rules = Policy(protected={protected})
    with pytest.raises(ProtectedError, match=r"second yes: spam@b\.test \("):
        await yes(store, draft, rules=rules)
    assert await entries(store) == {}
    assert await store.redis.exists(OUTGOING) == 0
    assert [one.id for one in await drafts(store)] == [draft.id]
    await yes(store, draft, rules=rules, second_yes=True)
    assert (await entries(store)).keys() == {"spam@b.test"}


async def test_a_full_list_sends_nothing_and_says_so(store: Store) -> None:
    draft = await heard(store)
    some = Listing(host="a.test", address="", is_published=False, by="x", at=NOW)
    full = [Put(None, replace(some, address=f"{one}.test")) for one in range(publish.MAX_LISTINGS)]
    for start in range(0, len(full), 500):
        await commit(store, Change(puts=tuple(full[start : start + 500])))
    with pytest.raises(ListFullError, match="remove some first"):
        await yes(store, draft)
    assert await store.redis.exists(OUTGOING) == 0
    await publish.take_back(store, "a.test", "7.test", actor=ACTOR, now=NOW)
    await yes(store, draft)
    assert (await entries(store)).keys() == {"spam@b.test"}


async def test_an_end_that_is_over_sends_nothing(store: Store) -> None:
    draft = await heard(store)
    with pytest.raises(ConfigError, match="over before it begins"):
        await yes(store, draft, expires_at=NOW)
    assert await store.redis.exists(OUTGOING) == 0


async def test_what_is_reported_after_it_was_shown_is_not_listed(store: Store) -> None:
    draft = await heard(store)
    await hear(store, report("carol", "new@b.test", **OPEN), webhook_id="later")
    await yes(store, draft, only=frozenset({"spam@b.test", "other@c.test"}))
    assert (await entries(store)).keys() == {"spam@b.test"}
