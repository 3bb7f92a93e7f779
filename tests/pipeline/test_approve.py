"""Approvals on a real store: who wins, who is told, and that a crash anywhere ends in done once or in failed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from bridge.clients.prosody import Standing
from bridge.config import AutomaticRule, PolicySettings
from bridge.errors import ConfigError, ConflictError, UnavailableError, UnsupportedError
from bridge.pipeline import approve, mitigate, originate, reconcile
from bridge.pipeline.actors import Actor
from bridge.pipeline.originate import Origin
from bridge.pipeline.process import process
from bridge.pipeline.receive import Intake, Relayed, receive
from bridge.pipeline.recover import set_aside
from bridge.policy.approval import own_target
from bridge.policy.change import Append, Change, Put, Queue, Telling
from bridge.policy.decisions import (
    Approval,
    ApprovalState,
    Mitigation,
    MitigationState,
    MitigationType,
    TargetState,
)
from bridge.policy.mitigation import ProtectedError
from bridge.policy.outcome import outcome_of
from bridge.policy.record import Incident, Interaction, Outcome, Peer
from bridge.policy.trust import Trust
from bridge.store import keys, lanes, load
from bridge.store.commit import Lease, commit, finished
from bridge.store.connect import Store
from bridge.store.keys import RecordName
from bridge.store.rebuild import rebuild_indexes
from bridge.xep0268.model import Kind
from tests.policy.conftest import NOW, SECURE, stanza

HOST, PEER = "a.test", "b.test"
ANNA, BERT = Actor(name="cli:anna", origin="192.0.2.7"), Actor(name="cli:bert")
RULES = PolicySettings()


@dataclass(frozen=True, kw_only=True)
class Said:
    """What Prosody says about a mitigation."""

    status: int
    error: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status == 200


@dataclass
class Module:
    """Prosody's side of the contract: ids, revisions, recorded answers; away when told so."""

    revisions: dict[str, int] = field(default_factory=dict)
    active: dict[str, Mapping[str, str]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    is_away: bool = False
    refusal: str = ""
    is_old: bool = False
    preview_answer: Mapping[str, Any] = field(default_factory=lambda: {"exists": True, "sessions": 2})

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.is_away:
            raise UnavailableError("connection refused")
        if self.is_old:
            raise UnsupportedError("install the module that came with this bridge")

    async def preview(self, _: str, **target: str | None) -> Mapping[str, Any]:
        self._called(f"preview {target}")
        return self.preview_answer

    async def mitigate(self, _: str, action: str, **given: Any) -> Said:
        self._called(f"{action} {given['webhook_id']}")
        if self.refusal:
            return Said(status=409, error=self.refusal)
        if self.revisions.get(given["mitigation"], 0) <= given["revision"]:
            self.revisions[given["mitigation"]] = given["revision"]
            self.active[given["mitigation"]] = given["target"]
        return Said(status=200)

    async def standing(self, _: str) -> Standing:
        self._called("list")
        return Standing(
            active=tuple({"mitigation": one} for one in self.active),
            ended=tuple({"mitigation": one, "how": how} for one, how in self.ended.items()),
        )

    async def lift(self, _: str, *, mitigation: str, revision: int, webhook_id: str) -> Said:
        self._called(f"lift {webhook_id}")
        if mitigation not in self.revisions:
            return Said(status=404, error="no such mitigation")
        self.revisions[mitigation] = revision
        was = "active" if self.active.pop(mitigation, None) is not None else "undone"
        return Said(status=200, detail={"was": was})


@dataclass
class Desk:
    """One host with its store and its Prosody."""

    store: Store
    module: Module = field(default_factory=Module)
    now: datetime = NOW
    rules: PolicySettings = RULES
    numbers: Any = field(default_factory=count)
    chat: list[str] = field(default_factory=list)

    async def request(self, *addresses: str, text: str = "1", sender: str = PEER) -> Approval | None:
        """Let a peer ask for block-host of these addresses, and decide about it."""
        await self.receive(request(*addresses, text=text, sender=sender))
        found = await load.newest(self.store, [keys.approvals(HOST)], limit=1)
        for one in found.popitem()[1]:
            return await self.approval(one)
        return None

    async def receive(self, text: str) -> None:
        number = next(self.numbers)
        intake = Intake(host=HOST, rules=self.rules, fill=0.0)
        at = self.now + timedelta(milliseconds=number)
        await receive(self.store, intake, [Relayed(stanza=text, stream=SECURE)], webhook_id=f"w{number}",
                      now=at, new_id=lambda: f"n{number}")  # fmt: skip
        while (taken := await lanes.take(self.store, Queue.INCIDENTS, "d")).leases:
            await process(self.store, taken.leases, rules=self.rules, now=at)

    async def take(self, word: str = "approval:") -> Lease | None:
        """The next item of the lane of approvals; everything else is done with."""
        while leases := (await lanes.take(self.store, Queue.OUTGOING, "d")).leases:
            mine = [lease for lease in leases if lease.lane.startswith(word)]
            for lease in leases:
                if lease not in mine:
                    items = map(json.loads, lease.items)
                    self.chat += [item["text"] for item in items if "text" in item]
                    await commit(self.store, Change(), leases=[lease])
            if mine:
                return finished(mine[0], mine[0].items[:1])
        return None

    async def call(self, lease: Lease) -> Change:
        sent = await mitigate.work(self.store, self.module, lease.items, rules=self.rules, now=self.now)
        return sent.change

    async def work(self) -> None:
        """Let the worker do all that waits."""
        while (lease := await self.take()) is not None:
            await commit(self.store, await self.call(lease), leases=[lease])

    async def compare(self) -> None:
        """Compare with what Prosody has, as the service does every few minutes."""
        await reconcile.begin(self.store, [HOST], now=self.now)
        await self.work()

    async def fire(self, name: str) -> None:
        """Let a timer be due, as the store's sweep does."""
        queue, lane, item = await self.store.redis.hmget(keys.timer(name), "queue", "lane", "item")
        append = Append(queue=Queue(queue.decode()), lane=lane.decode(), item=json.loads(item))
        await commit(self.store, Change(appends=(append,)))
        await self.work()

    async def record(self, name: RecordName) -> Any:
        return (await load.fetch(self.store, names=[name], originals=True)).records[name]

    async def approval(self, approval_id: str) -> Approval:
        found = await self.record(keys.approval(approval_id))
        assert isinstance(found, Approval)
        return found

    async def mitigations(self) -> list[Mitigation]:
        ids = (await load.newest(self.store, [keys.mitigations(HOST)], limit=99)).popitem()[1]
        return [await self.record(keys.mitigation(one)) for one in reversed(ids)]

    async def yes(self, one: Approval, addresses: Sequence[str] | None = None, **more: Any) -> Approval:
        return await approve.approve(
            self.store, one, addresses, actor=more.pop("actor", ANNA), rules=self.rules, now=self.now, **more
        )

    async def responses(self, incident_id: str) -> list[Interaction]:
        ids = (await load.newest(self.store, [keys.interactions(incident_id)], limit=99)).popitem()[1]
        found = [await self.record(keys.interaction(one)) for one in reversed(ids)]
        return sorted(
            (one for one in found if one.kind is Kind.RESPONSE), key=lambda one: (one.received_at, one.id)
        )

    async def events(self) -> list[str]:
        return [body["type"] for _, body in await load.events(self.store, HOST, after=0, limit=99)]

    async def audits(self) -> list[tuple[str, str]]:
        found = await load.audits(self.store, HOST, limit=99)
        return [(fields["actor"], fields["action"]) for _, fields in reversed(found)]


def request(*addresses: str, text: str = "1", sender: str = PEER) -> str:
    """XEP-0268's own request, about these addresses."""
    whole = stanza(kind="request", sender=sender, text=text, iq_id=f"r{text}")
    start, end = whole.index("<System category='source'>"), whole.index("</System>")
    nodes = "".join(
        f"<Node><Address category='ext-category' ext-category='xmpp'>{one}</Address></Node>"
        for one in addresses
    )
    return whole[:start] + "<System category='source'>" + nodes + whole[end:]


@pytest.fixture
async def desk(store: Store) -> Desk:
    """b.test is trusted, as is friend.example; c.test is a stranger."""
    peers = [Peer(host=HOST, domain=one, trust=Trust.TRUSTED) for one in (PEER, "friend.example")]
    await commit(store, Change(puts=tuple(Put(None, one) for one in peers)))
    return Desk(store)


async def asked(desk: Desk, *addresses: str) -> Approval:
    found = await desk.request(*(addresses or ("juliet@a.test",)))
    assert found is not None
    await desk.work()
    return await desk.approval(found.id)


async def test_a_trusted_peer_s_request_waits_with_a_preview(desk: Desk) -> None:
    one = await asked(desk, "juliet@a.test", "a.test")
    assert (one.state, one.requester, one.previewed_at) == (ApprovalState.OPEN, PEER, NOW)
    assert [(each.state, each.preview) for each in one.targets] == [
        (TargetState.OFFERED, {"exists": True, "sessions": 2}),
        (TargetState.SHOWN, None),
    ]
    assert await load.count(desk.store, keys.approvals_open(HOST)) == 1
    assert desk.module.active == {}


async def test_a_stranger_s_request_is_no_proposal(desk: Desk) -> None:
    assert await desk.request("juliet@a.test", sender="c.test") is None


async def test_a_yes_is_carried_out_and_the_requester_told(desk: Desk) -> None:
    one = await asked(desk)
    decided = await desk.yes(one)
    assert (decided.state, decided.decided_by, decided.decided_from) == (
        ApprovalState.APPROVED,
        "cli:anna",
        "192.0.2.7",
    )
    await desk.work()

    after = await desk.approval(one.id)
    (made,) = await desk.mitigations()
    assert (after.state, after.targets[0].state) == (ApprovalState.DONE, TargetState.APPLIED)
    assert (made.state, made.applied_at, made.expires_at) == (
        MitigationState.APPLIED,
        NOW,
        NOW + timedelta(days=30),
    )
    assert desk.module.active == {made.id: {"account": "juliet@a.test"}}
    (told,) = await desk.responses(one.incident_id)
    assert (told.peer, told.answers) == (PEER, one.id)
    assert told.document.history[-1].action == "block-host"
    assert "juliet@a.test: suspended until" in told.document.history[-1].descriptions[0].text
    assert (await desk.record(keys.interaction(one.id))).outcome is Outcome.DONE
    incident = await desk.record(keys.incident(one.incident_id))
    assert [item.action for item in incident.history] == ["block-host"]
    assert (await desk.events())[1:] == ["request.approved", "mitigation.applied", "request.completed"]
    assert await desk.audits() == [("cli:anna", "approval.approve"), ("bridge", "mitigation.applied")]
    assert await load.count(desk.store, keys.approvals_open(HOST)) == 0
    assert await load.count(desk.store, keys.mitigations_active(HOST)) == 1


async def test_a_part_is_approved_and_the_rest_said_not_to_be_done(desk: Desk) -> None:
    one = await asked(desk, "juliet@a.test", "romeo@a.test")
    await desk.yes(one, ["romeo@a.test"])
    await desk.work()
    after = await desk.approval(one.id)
    assert [each.state for each in after.targets] == [TargetState.LEFT_OUT, TargetState.APPLIED]
    assert (await desk.record(keys.interaction(one.id))).outcome is Outcome.PARTLY
    (told,) = await desk.responses(one.incident_id)
    assert {item.action for item in told.document.history} >= {"block-host", "nothing"}


async def test_a_no_is_told_with_its_reason(desk: Desk) -> None:
    one = await asked(desk)
    await approve.decline(desk.store, one, actor=ANNA, reason="she is our admin", now=NOW)
    await desk.work()
    assert (await desk.approval(one.id)).state is ApprovalState.DECLINED
    (told,) = await desk.responses(one.incident_id)
    assert told.document.history[-1].action == "nothing"
    assert "she is our admin" in told.document.history[-1].descriptions[0].text
    assert (await desk.events())[-1] == "request.declined"
    assert desk.module.active == {}


async def test_of_two_who_decide_at_once_one_wins_and_the_other_is_told_who(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one)
    with pytest.raises(ConflictError, match="being carried out; cli:anna was faster"):
        await desk.yes(one, actor=BERT)
    with pytest.raises(ConflictError, match="cli:anna was faster"):
        await approve.decline(desk.store, one, actor=BERT, reason="no", now=NOW)
    await desk.work()
    assert len(await desk.mitigations()) == 1


async def test_a_race_between_load_and_commit_is_lost_by_one(desk: Desk) -> None:
    import asyncio

    one = await asked(desk)
    results = await asyncio.gather(
        *(desk.yes(one, actor=Actor(name=f"cli:{n}")) for n in range(5)), return_exceptions=True
    )
    assert sum(isinstance(each, Approval) for each in results) == 1
    assert sum(isinstance(each, ConflictError) and "was faster" in str(each) for each in results) == 4
    await desk.work()
    assert len(desk.module.active) == 1


async def test_protected_names_need_a_second_yes_also_if_trusted_since(desk: Desk) -> None:
    one = await asked(desk, "friend.example")
    with pytest.raises(ProtectedError, match="trusted peer"):
        await desk.yes(one)
    assert (await desk.yes(one, second_yes=True)).had_second_yes

    two = await desk.request("new.example", text="2")
    assert two is not None
    await desk.work()
    newly = Peer(host=HOST, domain="new.example", trust=Trust.TRUSTED)
    await commit(desk.store, Change(puts=(Put(None, newly),)))
    with pytest.raises(ProtectedError, match=r"new\.example is a trusted peer"):
        await desk.yes(two)


async def test_a_worker_killed_between_the_call_and_the_commit_does_it_once(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one)
    lease = await desk.take()
    assert lease is not None
    await desk.call(lease)  # Prosody did it, and the worker died
    assert (await desk.approval(one.id)).state is ApprovalState.APPROVED

    await commit(desk.store, await desk.call(lease), leases=[lease])
    await desk.work()

    assert (await desk.approval(one.id)).state is ApprovalState.DONE
    assert desk.module.calls[-2] == desk.module.calls[-1]  # under the same id
    assert len(await desk.responses(one.incident_id)) == 1
    assert (await desk.events()).count("mitigation.applied") == 1


async def test_a_repeated_commit_writes_nothing_twice(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one)
    lease = await desk.take()
    assert lease is not None
    change = await desk.call(lease)
    await commit(desk.store, change, leases=[lease])
    with pytest.raises(ConflictError):
        await commit(desk.store, change, leases=[lease])
    assert len(await desk.responses(one.incident_id)) == 1


async def test_what_kills_its_worker_fails_with_the_reason_and_can_be_lifted(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one)
    lease = await desk.take()
    assert lease is not None
    await desk.call(lease)  # done, but never noted
    await set_aside(desk.store, lease, now=NOW)

    after = await desk.approval(one.id)
    (made,) = await desk.mitigations()
    assert (after.state, made.state) == (ApprovalState.FAILED, MitigationState.FAILED)
    assert "may be in force all the same" in made.failure
    assert (await desk.record(keys.interaction(one.id))).outcome is Outcome.DECLINED
    assert (await desk.events())[-2:] == ["mitigation.failed", "request.declined"]

    await approve.lift(desk.store, made, actor=ANNA, reason="", now=NOW)
    await desk.work()
    assert desk.module.active == {}
    assert (await desk.mitigations())[0].state is MitigationState.LIFTED


async def test_prosody_away_is_tried_for_a_day_and_then_it_failed(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one)
    desk.module.is_away = True
    await desk.work()
    (made,) = await desk.mitigations()
    assert (made.state, made.tries, made.failure) == (MitigationState.PENDING, 1, "connection refused")

    for _ in range(5):
        desk.now += timedelta(minutes=1)
        await desk.fire(f"carry-{made.id}")
    assert (await desk.mitigations())[0].tries == 6
    desk.now = NOW + timedelta(days=1)
    await desk.fire(f"carry-{made.id}")

    (made,) = await desk.mitigations()
    assert made.state is MitigationState.FAILED
    assert "for a day, so it may be in force all the same: connection refused" in made.failure
    assert (await desk.approval(one.id)).targets[0].reason == made.failure
    (told,) = await desk.responses(one.incident_id)
    assert "connection" not in told.document.history[-1].descriptions[0].text


async def test_prosody_back_again_goes_on_where_it_was(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one)
    desk.module.is_away = True
    await desk.work()
    (made,) = await desk.mitigations()
    desk.module.is_away = False
    await desk.fire(f"carry-{made.id}")
    assert (await desk.approval(one.id)).state is ApprovalState.DONE


async def test_what_prosody_refuses_failed_with_its_reason(desk: Desk) -> None:
    one = await asked(desk, "juliet@a.test", "romeo@a.test")
    await desk.yes(one)
    lease = await desk.take()
    assert lease is not None
    await commit(desk.store, await desk.call(lease), leases=[lease])
    desk.module.refusal = "romeo@a.test is an admin"
    await desk.work()
    after = await desk.approval(one.id)
    assert after.state is ApprovalState.PARTLY
    assert "romeo@a.test is an admin" in after.targets[1].reason
    assert (await desk.record(keys.interaction(one.id))).outcome is Outcome.PARTLY


async def test_a_module_that_is_too_old_says_so(desk: Desk) -> None:
    desk.module.is_old = True
    one = await asked(desk)
    assert one.targets[0].preview == {"error": "install the module that came with this bridge"}
    await desk.yes(one)
    await desk.work()
    assert (await desk.approval(one.id)).state is ApprovalState.FAILED


async def test_the_admins_are_told_in_chat_once_that_what_they_approved_failed(desk: Desk) -> None:
    one = await asked(desk, "juliet@a.test", "romeo@a.test")
    await desk.yes(one)
    desk.module.refusal = "<b>no</b>"
    await desk.work()
    (text,) = desk.chat
    assert text == (
        f"On a.test what you approved failed. To see why: incident-bridge approvals show {one.id}"
    )


async def test_the_admins_are_told_in_chat_that_something_cannot_be_taken_back(desk: Desk) -> None:
    await desk.yes(await asked(desk))
    await desk.work()
    assert desk.chat == []
    (made,) = await desk.mitigations()
    await approve.lift(desk.store, made, actor=ANNA, reason="", now=NOW)
    desk.module.is_old = True
    await desk.work()
    assert f"incident-bridge mitigations show {made.id}" in desk.chat[0]


async def test_what_is_undone_in_prosody_by_hand_is_noted_and_told_to_the_requester(desk: Desk) -> None:
    one = await asked(desk, "juliet@a.test", "romeo@a.test")
    await desk.yes(one)
    await desk.work()
    await desk.compare()
    assert {each.state for each in await desk.mitigations()} == {MitigationState.APPLIED}

    for each in await desk.mitigations():  # prosodyctl mod_incident_bridge undo
        desk.module.active.pop(each.id)
        desk.module.ended[each.id] = "undone"
    for _ in range(2):
        await desk.compare()
    made = await desk.mitigations()
    assert {(each.state, each.lifted_by) for each in made} == {(MitigationState.LIFTED, "prosodyctl")}
    assert "by hand" in made[0].note
    assert (await desk.responses(one.incident_id))[-1].document.history[-1].action == "other"
    assert len(await desk.responses(one.incident_id)) == 3  # carried out, and one end after the other
    assert (await desk.events()).count("mitigation.lifted") == 2
    assert desk.chat == []


async def test_what_prosody_ended_in_time_is_noted(desk: Desk) -> None:
    await desk.yes(await asked(desk))
    await desk.work()
    (made,) = await desk.mitigations()
    desk.module.active.clear()
    desk.module.ended[made.id] = "expired"
    await desk.compare()
    assert (await desk.mitigations())[0].state is MitigationState.EXPIRED
    assert desk.chat == []


async def test_what_prosody_does_not_know_any_more_is_marked_told_and_not_applied_again(desk: Desk) -> None:
    await desk.yes(await asked(desk))
    await desk.work()
    desk.module.active.clear()  # its storage was restored from before
    desk.module.revisions.clear()
    await desk.compare()
    (made,) = await desk.mitigations()
    assert (made.state, made.lifted_by) == (MitigationState.LIFTED, "")
    assert "does not know it any more" in made.note
    assert f"Mitigation {made.id} is no longer in force on a.test" in desk.chat[0]
    assert desk.module.active == {}


async def test_what_failed_because_every_answer_got_lost_is_noted_told_and_can_be_lifted(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one)
    lease = await desk.take()
    assert lease is not None
    await desk.call(lease)  # Prosody did it
    desk.module.is_away = True
    desk.now = NOW + timedelta(days=1)
    await desk.work()
    await commit(desk.store, await desk.call(lease), leases=[lease])
    assert (await desk.mitigations())[0].state is MitigationState.FAILED
    await desk.work()

    desk.module.is_away = False
    desk.chat.clear()
    for _ in range(2):
        await desk.compare()
    (made,) = await desk.mitigations()
    assert (made.state, made.failure, made.ended_at) == (MitigationState.APPLIED, "", None)
    (text,) = desk.chat
    assert f"Mitigation {made.id} is in force on a.test, although" in text
    after = await desk.approval(one.id)
    assert (after.state, after.targets[0].state) == (ApprovalState.DONE, TargetState.APPLIED)
    declined, told = await desk.responses(one.incident_id)
    assert [item.action for item in declined.document.history] == ["nothing"]
    assert told.document.history[-1].action == "block-host"
    assert (await desk.events()).count("mitigation.applied") == 1
    request = await desk.record(keys.interaction(one.id))
    assert request.outcome is Outcome.DONE
    assert outcome_of(told.document, request.document) is Outcome.DONE
    assert [kind for kind in await desk.events() if kind.startswith("request.")][-2:] == [
        "request.declined",
        "request.completed",
    ]

    await approve.lift(desk.store, made, actor=ANNA, reason="", now=desk.now)
    await desk.work()
    assert desk.module.active == {}
    assert (await desk.mitigations())[0].state is MitigationState.LIFTED


async def test_what_could_not_be_taken_back_is_in_force_again_and_the_requester_hears_nothing(
    desk: Desk,
) -> None:
    one = await asked(desk)
    await desk.yes(one)
    await desk.work()
    (made,) = await desk.mitigations()
    await approve.lift(desk.store, made, actor=ANNA, reason="", now=NOW)
    lease = await desk.take()
    assert lease is not None
    desk.module.is_away = True
    desk.now = NOW + timedelta(days=1)
    await commit(desk.store, await desk.call(lease), leases=[lease])
    assert (await desk.mitigations())[0].state is MitigationState.FAILED

    desk.module.is_away = False
    await desk.compare()
    (again,) = await desk.mitigations()
    assert (again.state, again.applied_at) == (MitigationState.APPLIED, made.applied_at)
    assert len(await desk.responses(one.incident_id)) == 1
    incident = await desk.record(keys.incident(one.incident_id))
    assert [item.action for item in incident.history] == ["block-host"]


async def test_nothing_is_concluded_while_prosody_is_away_or_old_or_cannot_say(desk: Desk) -> None:
    await desk.yes(await asked(desk))
    await desk.work()
    desk.module.active.clear()
    for name in ("is_away", "is_old"):
        setattr(desk.module, name, True)
        await desk.compare()
        setattr(desk.module, name, False)
    calls = len(desk.module.calls)
    await reconcile.begin(desk.store, [HOST], now=NOW)
    desk.now += timedelta(minutes=6)  # it waited too long for its worker: the next comparison says it
    await desk.work()
    assert len(desk.module.calls) == calls
    assert (await desk.mitigations())[0].state is MitigationState.APPLIED


async def test_what_is_taken_back_is_told(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one)
    await desk.work()
    (made,) = await desk.mitigations()
    desk.now += timedelta(hours=1)
    await approve.lift(desk.store, made, actor=BERT, reason="a mistake", now=desk.now)
    with pytest.raises(ConflictError, match="lifting already by cli:bert"):
        await approve.lift(desk.store, made, actor=ANNA, reason="", now=desk.now)
    await desk.work()

    (made,) = await desk.mitigations()
    assert (made.state, made.lifted_by, made.note) == (MitigationState.LIFTED, "cli:bert", "a mistake")
    assert desk.module.active == {}
    first, second = await desk.responses(one.incident_id)
    assert [item.action for item in second.document.history] == ["block-host", "other"]
    assert "a mistake" not in second.document.history[-1].descriptions[0].text
    incident = await desk.record(keys.incident(one.incident_id))
    assert [item.action for item in incident.history] == ["block-host", "other"]
    assert (await desk.record(keys.interaction(one.id))).outcome is Outcome.DONE
    assert first.id != second.id


async def test_what_was_removed_by_hand_is_said_when_taken_back(desk: Desk) -> None:
    await desk.yes(await asked(desk))
    await desk.work()
    (made,) = await desk.mitigations()
    desk.module.revisions.clear()
    await approve.lift(desk.store, made, actor=ANNA, reason="", now=NOW)
    await desk.work()
    (made,) = await desk.mitigations()
    assert made.state is MitigationState.LIFTED
    assert "by hand" in made.note


async def test_what_is_taken_back_before_it_was_in_force_never_begins(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one)
    desk.module.is_away = True
    await desk.work()
    (made,) = await desk.mitigations()
    await approve.lift(desk.store, made, actor=ANNA, reason="", now=NOW)
    desk.module.is_away = False
    await desk.work()
    (late,) = await desk.mitigations()
    assert (late.state, late.note) == (MitigationState.LIFTED, "it was never in force")
    assert desk.module.active == {}
    assert (await desk.approval(one.id)).state is ApprovalState.FAILED


async def test_what_is_over_is_told_once(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one, expires_at=NOW + timedelta(days=1))
    await desk.work()
    (made,) = await desk.mitigations()
    desk.now = NOW + timedelta(days=1)
    for _ in range(2):
        await desk.fire(f"mitigation-{made.id}")
    assert (await desk.mitigations())[0].state is MitigationState.EXPIRED
    told = await desk.responses(one.incident_id)
    assert len(told) == 2
    assert "its time is over" in told[-1].document.history[-1].descriptions[0].text
    assert (await desk.events()).count("mitigation.expired") == 1


async def test_a_request_that_nobody_decides_about_is_declined(desk: Desk) -> None:
    one = await asked(desk)
    desk.now = NOW + timedelta(days=7)
    for _ in range(2):
        await desk.fire(f"approval-{one.id}")
    assert (await desk.approval(one.id)).state is ApprovalState.EXPIRED
    (told,) = await desk.responses(one.incident_id)
    assert "nobody decided" in told.document.history[-1].descriptions[0].text
    assert (await desk.events())[-1] == "request.expired"
    with pytest.raises(ConflictError, match="it expired"):
        await desk.yes(one)


async def test_an_operator_acts_on_an_incident_that_nobody_asked_anything_about(desk: Desk) -> None:
    await desk.receive(stanza(kind="report"))
    (incident_id,) = (await load.newest(desk.store, [keys.incidents(HOST)], limit=9)).popitem()[1]
    incident = await desk.record(keys.incident(incident_id))
    targets = [own_target(HOST, MitigationType.BLOCK, address="clueless.lit")]
    for _ in range(2):  # a call whose answer got lost is repeated
        made = await approve.act(
            desk.store,
            incident,
            targets,
            approval_id="act1",
            actor=ANNA,
            rules=RULES,
            now=NOW,
            reason="flood",
        )
    await desk.work()
    assert (await desk.approval(made.id)).state is ApprovalState.DONE
    assert [dict(one) for one in desk.module.active.values()] == [{"domain": "clueless.lit"}]
    assert await desk.responses(incident_id) == []
    after = await desk.record(keys.incident(incident_id))
    assert isinstance(after, Incident)
    assert [item.action for item in after.history] == ["block-host"]

    with pytest.raises(ProtectedError):
        await approve.act(
            desk.store, after, [own_target(HOST, MitigationType.BLOCK, address=PEER)],
            approval_id="act2", actor=ANNA, rules=RULES, now=NOW,
        )  # fmt: skip


async def test_a_rule_says_yes_so_often_a_day_and_no_more(desk: Desk) -> None:
    rule = AutomaticRule(peer=PEER, action="block-host", per_day=1)
    desk.rules = PolicySettings(approve_automatically=(rule,))
    one = await asked(desk)
    assert (one.state, one.is_automatic, one.decided_by) == (ApprovalState.DONE, True, "bridge")

    two = await desk.request("romeo@a.test", text="2")
    assert two is not None
    await desk.work()
    assert (await desk.approval(two.id)).state is ApprovalState.OPEN
    desk.now += timedelta(days=1, minutes=1)
    three = await desk.request("tybalt@a.test", text="3")
    assert three is not None
    await desk.work()
    assert (await desk.approval(three.id)).state is ApprovalState.DONE
    assert len(desk.module.active) == 2


async def test_a_rule_says_nothing_about_protected_names_or_admins(desk: Desk) -> None:
    rule = AutomaticRule(peer=PEER, action="block-host", per_day=9)
    desk.rules = PolicySettings(approve_automatically=(rule,))
    assert (await asked(desk, "friend.example")).state is ApprovalState.OPEN
    desk.module.preview_answer = {"exists": True, "is_admin": True}
    admin = await desk.request("boss@a.test", text="2")
    assert admin is not None
    await desk.work()
    assert (await desk.approval(admin.id)).state is ApprovalState.OPEN


@pytest.mark.parametrize("trust", [Trust.STRANGER, Trust.BLOCKED])
async def test_a_rule_says_nothing_once_the_peer_is_not_trusted_any_more(desk: Desk, trust: Trust) -> None:
    rule = AutomaticRule(peer=PEER, action="block-host", per_day=9)
    desk.rules = PolicySettings(approve_automatically=(rule,))
    one = await desk.request("juliet@a.test")  # and Prosody is slow to say what it would touch
    peer = await desk.record(keys.peer(HOST, PEER))
    await commit(desk.store, Change(puts=(Put(peer, replace(peer, trust=trust)),)))
    await desk.work()
    assert one is not None
    after = await desk.approval(one.id)
    assert (after.state, after.targets[0].preview) == (ApprovalState.OPEN, desk.module.preview_answer)
    assert desk.module.active == {}


async def test_a_server_with_a_protected_user_needs_a_second_yes(desk: Desk) -> None:
    desk.rules = PolicySettings(protected=frozenset({"friend@spam.example"}))
    one = await asked(desk, "spam.example")
    with pytest.raises(ProtectedError, match="a user of it is in policy"):
        await desk.yes(one)
    assert (await desk.yes(one, second_yes=True)).had_second_yes


async def test_a_no_with_what_xml_cannot_carry_is_told_all_the_same(desk: Desk) -> None:
    one = await asked(desk)
    await approve.decline(desk.store, one, actor=ANNA, reason="no\x0b\x00\x1b[2J \ufffe", now=NOW)
    await desk.work()
    (told,) = await desk.responses(one.incident_id)
    assert told.document.history[-1].action == "nothing"


async def test_an_answer_by_hand_closes_the_approval(desk: Desk) -> None:
    one = await asked(desk)
    origin = Origin(host=HOST, to=(PEER,), now=NOW, new_id=lambda: "byhand", actor=ANNA)
    stored = await desk.record(keys.interaction(one.id))
    await originate.respond(desk.store, origin, stored, outcome=Outcome.DECLINED, text="no")
    closed = await desk.approval(one.id)
    assert (closed.state, closed.decided_by) == (ApprovalState.DECLINED, ANNA.name)
    assert await desk.audits() == [(ANNA.name, "send.respond")]
    with pytest.raises(ConflictError, match=f"{ANNA.name} was faster"):
        await desk.yes(one)


async def test_no_answer_by_hand_while_it_is_carried_out(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one)
    origin = Origin(host=HOST, to=(PEER,), now=NOW, new_id=lambda: "byhand")
    stored = await desk.record(keys.interaction(one.id))
    with pytest.raises(ConfigError, match="is being carried out"):
        await originate.respond(desk.store, origin, stored, outcome=Outcome.DECLINED, text="no")


async def test_the_indexes_of_approvals_and_mitigations_can_be_rebuilt(desk: Desk) -> None:
    one = await asked(desk)
    await desk.yes(one)
    await desk.work()
    await desk.request("romeo@a.test", text="2")
    await desk.work()
    approvals = [keys.approvals(HOST), keys.approvals_open(HOST), keys.approvals_of_incident(one.incident_id)]
    names = [*approvals, keys.mitigations(HOST), keys.mitigations_active(HOST)]
    names.append(keys.mitigations_of_incident(one.incident_id))
    before = await load.newest(desk.store, names, limit=99)
    assert [len(before[name]) for name in names] == [2, 1, 1, 1, 1, 1]
    await desk.store.redis.delete(*names)
    await desk.store.redis.zadd(keys.approvals_open(HOST), {one.id: 1})
    await rebuild_indexes(desk.store)
    assert await load.newest(desk.store, names, limit=99) == before


async def test_the_admins_are_told_how_many_wait(desk: Desk) -> None:
    from bridge.policy import notice

    await asked(desk)
    tallies = await load.tallies(desk.store, HOST, Telling.NOTICE)
    waiting = await load.count(desk.store, keys.approvals_open(HOST))
    text = notice.text(HOST, Telling.NOTICE, tallies, open_approvals=waiting)
    assert "1 request waits for your yes or no: incident-bridge approvals list" in text
    assert "juliet" not in text
