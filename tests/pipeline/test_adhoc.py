"""Ad-hoc commands on a real store: who may what, that a session is one admin's, and that acting twice acts once."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from pydantic import SecretStr

from bridge.config import HostSettings, Settings
from bridge.pipeline import adhoc
from bridge.pipeline.adhoc import Command
from bridge.policy.change import Change, Put
from bridge.policy.decisions import ApprovalState, MitigationState
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.pipeline.test_approve import HOST, PEER, Desk, asked
from tests.policy.conftest import NOW, stanza

SECRET = "whsec_" + "QUJD" * 10
ADMIN = "admin@a.test/phone"


@dataclass
class Phone:
    """An admin's client, and a worker beside it."""

    desk: Desk
    settings: Settings
    sender: str = ADMIN
    now: datetime = NOW
    numbers: Any = field(default_factory=count)

    async def ask(self, node: str, session: str = "", action: str = "execute", **fields: Any) -> Any:
        """Send one step and return what the module in Prosody makes of it."""
        given = {
            name: (one,) if isinstance(one, str) else tuple(one)
            for name, one in {"webhook": f"w{next(self.numbers)}", **fields}.items()
        }
        (webhook_id,) = given.pop("webhook")
        command = Command(
            node=f"incident-bridge#{node}",
            session=session,
            action=action,
            sender=self.sender,
            origin="192.0.2.7",
            fields=given,
        )
        done = adhoc.answer(
            self.desk.store, command, host=HOST, settings=self.settings, webhook_id=webhook_id, now=self.now
        )
        return json.loads(await done)

    async def begin(self, node: str) -> str:
        answer = await self.ask(node)
        assert answer["status"] == "executing", answer
        return str(answer["session"])


def settings(**more: Any) -> Settings:
    return Settings(hosts={HOST: HostSettings(secrets=(SecretStr(SECRET),), **more)})


@pytest.fixture
async def phone(store: Store) -> Phone:
    """b.test is trusted, as is friend.example; a worker carries out what is approved."""
    peers = [Peer(host=HOST, domain=one, trust=Trust.TRUSTED) for one in (PEER, "friend.example")]
    await commit(store, Change(puts=tuple(Put(None, one) for one in peers)))
    return Phone(Desk(store), settings())


async def while_working(desk: Desk, step: Any) -> Any:
    """Take a step while a worker works."""
    stepping = asyncio.ensure_future(step)
    while not stepping.done():
        await desk.work()
        await asyncio.sleep(0.01)
    return await stepping


def read(answer: Any) -> str:
    """All that the admin sees."""
    form = answer.get("form", {})
    parts = [answer.get("note", {}).get("text", ""), form.get("title", ""), *form.get("instructions", ())]
    for one in form.get("fields", ()):
        parts += [one.get("label", ""), *one["values"], *(each["label"] for each in one.get("options", ()))]
    return "\n".join(parts)


def fields_of(answer: Any) -> dict[str, Any]:
    return {one["var"]: one for one in answer["form"]["fields"] if "var" in one}


async def test_incidents_are_listed_and_one_is_read(phone: Phone) -> None:
    assert (await phone.ask("incidents"))["note"]["text"] == "No incident yet."
    await phone.desk.receive(stanza())
    answer = await phone.ask("incidents")
    (option,) = fields_of(answer)["incident"]["options"]
    assert PEER in option["label"]
    page = await phone.ask("incidents", answer["session"], incident=option["value"])
    assert page["status"] == "completed"
    text = read(page)
    assert "Reported by b.test" in text
    assert "report from b.test" in text
    same = await phone.ask("incidents", answer["session"], id=option["value"][:6])
    assert read(same) == text
    wrong = await phone.ask("incidents", answer["session"], id="nothing")
    assert (wrong["status"], wrong["note"]) == (
        "executing",
        {"type": "error", "text": "no incident here: nothing"},
    )


async def test_a_request_is_seen_and_approved_in_part(phone: Phone) -> None:
    one = await asked(phone.desk, "juliet@a.test", "romeo@a.test")
    answer = await phone.ask("approvals")
    assert fields_of(answer)["approval"]["values"] == [one.id]
    form = await phone.ask("approvals", answer["session"], "next", approval=one.id)
    assert "2 sessions are closed" in read(form)
    assert [each["label"] for each in fields_of(form)["targets"]["options"]] == [
        "account juliet@a.test",
        "account romeo@a.test",
    ]
    assert form["actions"] == ["prev", "complete"]

    back = await phone.ask("approvals", answer["session"], "prev", approval=one.id)
    assert "decision" not in fields_of(back)

    step = phone.ask(
        "approvals", answer["session"], "complete",
        approval=one.id, decision="approve", targets=["1"], days="3",
    )  # fmt: skip
    done = await while_working(phone.desk, step)
    assert (done["status"], done["note"]["text"]) == ("completed", "Done.")
    assert "suspend account romeo@a.test: applied" in read(done)
    after = await phone.desk.approval(one.id)
    assert (after.state, after.decided_by, after.decided_from) == (
        ApprovalState.DONE,
        "admin@a.test",
        "192.0.2.7",
    )
    (made,) = await phone.desk.mitigations()
    assert (made.target, made.expires_at) == ({"account": "romeo@a.test"}, NOW + timedelta(days=3))


async def test_what_needs_a_second_yes_or_is_in_vain_is_not_ticked(phone: Phone) -> None:
    await asked(phone.desk, "juliet@a.test", "friend.example")
    answer = await phone.ask("approvals")
    (chosen,) = fields_of(answer)["approval"]["values"]
    field = fields_of(await phone.ask("approvals", answer["session"], "next", approval=chosen))["targets"]
    ticked = [one["label"] for one in field["options"] if one["value"] in field["values"]]
    assert (len(field["options"]), ticked) == (2, ["account juliet@a.test"])


@pytest.mark.parametrize(
    "preview", [{"exists": False}, {"exists": True, "is_admin": True}, {"refused": "it is this server"}]
)
async def test_what_prosody_would_refuse_is_not_ticked(phone: Phone, preview: dict[str, Any]) -> None:
    phone.desk.module.preview_answer = preview
    one = await asked(phone.desk)
    answer = await phone.ask("approvals", await phone.begin("approvals"), "next", approval=one.id)
    field = fields_of(answer)["targets"]
    assert (len(field["options"]), field["values"]) == (1, [])


async def test_submitting_twice_or_at_once_acts_once(phone: Phone) -> None:
    one = await asked(phone.desk)
    session = await phone.begin("approvals")
    given = {"approval": one.id, "decision": "approve", "targets": ["0"]}
    steps = asyncio.gather(*(phone.ask("approvals", session, "complete", **given) for _ in range(3)))
    done = await while_working(phone.desk, steps)
    assert {each["note"]["text"] for each in done} == {"Done."}
    assert len(await phone.desk.mitigations()) == 1

    session = await phone.begin("report")
    given = {"to": ["c.test"], "description": ["flood"]}
    steps = asyncio.gather(*(phone.ask("report", session, "complete", **given) for _ in range(3)))
    sent = await while_working(phone.desk, steps)
    assert {each["status"] for each in sent} == {"completed"}
    own = (await load.newest(phone.desk.store, [keys.incidents_of_reporter(HOST, HOST)], limit=9)).popitem()[
        1
    ]
    assert len(own) == 1
    told = (await load.newest(phone.desk.store, [keys.interactions(own[0])], limit=9)).popitem()[1]
    assert len(told) == 1


async def test_a_repeated_message_gets_the_recorded_answer(phone: Phone) -> None:
    first = await phone.ask("report", webhook="same")
    assert await phone.ask("report", webhook="same") == first


async def test_another_admin_who_was_faster_is_named(phone: Phone) -> None:
    one = await asked(phone.desk)
    mine = await phone.begin("approvals")
    other = Phone(phone.desk, phone.settings, sender="boss@a.test/x", numbers=phone.numbers)
    theirs = await other.begin("approvals")
    no = {"approval": one.id, "decision": "decline", "reason": "our admin"}
    assert (await other.ask("approvals", theirs, **no))["note"]["text"].startswith("Declined")
    late = await phone.ask("approvals", mine, approval=one.id, decision="approve", targets=["0"])
    assert "boss@a.test was faster" in read(late)
    assert await phone.desk.mitigations() == []


async def test_a_session_is_one_admin_s_for_one_command_and_ends(phone: Phone) -> None:
    one = await asked(phone.desk)
    session = await phone.begin("approvals")
    given = {"approval": one.id, "decision": "decline", "reason": "no"}
    other = Phone(phone.desk, phone.settings, sender="boss@a.test/x", numbers=phone.numbers)
    assert (await other.ask("approvals", session, **given))["error"]["detail"] == "bad-sessionid"
    assert (await phone.ask("report", session))["error"]["detail"] == "bad-sessionid"
    assert (await phone.ask("approvals", "made-up", **given))["error"]["detail"] == "session-expired"
    await phone.desk.store.redis.delete(keys.remembered(HOST, f"adhoc {session}"))
    assert (await phone.ask("approvals", session, **given))["error"]["detail"] == "session-expired"
    assert (await phone.desk.approval(one.id)).state is ApprovalState.OPEN


async def test_who_may_not_sign_in_may_nothing_here_and_viewers_only_look(phone: Phone) -> None:
    one = await asked(phone.desk)
    phone.settings = settings(admins=frozenset({"boss@a.test"}))
    assert (await phone.ask("incidents"))["error"]["condition"] == "forbidden"
    phone.settings = settings(viewers=frozenset({"admin@a.test"}))
    session = await phone.begin("approvals")
    assert "juliet@a.test" in read(await phone.ask("approvals", session, approval=one.id))
    given = {"approval": one.id, "decision": "decline", "reason": "no"}
    assert (await phone.ask("approvals", session, **given))["error"]["type"] == "auth"
    for node in ("report", "inquiry", "request", "response"):
        assert (await phone.ask(node))["error"]["condition"] == "forbidden"
    assert (await phone.desk.approval(one.id)).state is ApprovalState.OPEN
    assert (await phone.ask("nothing"))["error"]["condition"] == "item-not-found"


async def test_another_host_s_approvals_incidents_and_mitigations_are_out_of_reach(phone: Phone) -> None:
    one = await asked(phone.desk)
    await phone.desk.yes(one)
    await phone.desk.work()
    (made,) = await phone.desk.mitigations()
    elsewhere = Settings(hosts={"z.test": HostSettings(secrets=(SecretStr(SECRET),))})

    async def there(node: str, session: str, **fields: str) -> Any:
        command = Command(
            node=f"incident-bridge#{node}", session=session, action="complete", sender=ADMIN, origin="",
            fields={name: (text,) for name, text in fields.items()},
        )  # fmt: skip
        answer = adhoc.answer(
            phone.desk.store, command, host="z.test", settings=elsewhere,
            webhook_id=f"z{next(phone.numbers)}", now=NOW,
        )  # fmt: skip
        return json.loads(await answer)

    session = (await there("report", ""))["session"]
    reported = await there("report", session, to="c.test", incident=one.incident_id)
    assert "no incident here" in read(reported)
    for node, name in (("approvals", one.id), ("mitigations", made.id), ("incidents", one.incident_id)):
        assert PEER not in read(await there(node, (await there("report", ""))["session"], approval=name))
        assert "juliet" not in json.dumps(await there(node, ""))


async def test_protected_names_need_the_second_box(phone: Phone) -> None:
    one = await asked(phone.desk, "friend.example")
    session = await phone.begin("approvals")
    given = {"approval": one.id, "decision": "approve", "targets": ["0"]}
    no = await phone.ask("approvals", session, **given)
    assert (no["status"], no["note"]["type"]) == ("executing", "error")
    assert "needs a second yes" in no["note"]["text"]
    assert fields_of(no)["second"]["values"] == ["0"]
    assert fields_of(no)["decision"]["values"] == ["approve"]
    step = phone.ask("approvals", session, second="1", **given)
    assert (await while_working(phone.desk, step))["note"]["text"] == "Done."


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"decision": "decline"}, "say why"),
        ({"decision": "dance"}, "not one of"),
        ({"decision": "approve"}, "tick at least one"),
        ({"decision": "approve", "targets": ["7", "x"]}, "tick at least one"),
        ({"decision": "approve", "targets": ["0"], "days": "0"}, "from 1 to"),
        ({"decision": "approve", "targets": ["0"], "days": "²"}, "from 1 to"),
    ],
)
async def test_what_cannot_be_done_is_asked_again(phone: Phone, given: dict[str, Any], why: str) -> None:
    one = await asked(phone.desk)
    answer = await phone.ask("approvals", await phone.begin("approvals"), approval=one.id, **given)
    assert (answer["status"], answer["note"]["type"]) == ("executing", "error")
    assert why in answer["note"]["text"]
    assert (await phone.desk.approval(one.id)).state is ApprovalState.OPEN


async def test_what_is_in_force_is_listed_and_taken_back(phone: Phone) -> None:
    assert "Nothing is in force" in read(await phone.ask("mitigations"))
    await phone.desk.yes(await asked(phone.desk))
    await phone.desk.work()
    (made,) = await phone.desk.mitigations()
    answer = await phone.ask("mitigations")
    assert "account juliet@a.test until" in read(answer)
    step = phone.ask("mitigations", answer["session"], "complete", mitigation=made.id, reason="sorry")
    done = await while_working(phone.desk, step)
    assert "account juliet@a.test: lifted" in read(done)
    (made,) = await phone.desk.mitigations()
    assert (made.state, made.lifted_by, made.note) == (MitigationState.LIFTED, "admin@a.test", "sorry")


async def test_all_four_kinds_are_sent(phone: Phone) -> None:
    one = await asked(phone.desk)
    await phone.desk.receive(stanza())
    sendings = {
        "report": {"to": ["c.test"], "sources": ["x@d.test=5"], "severity": "high"},
        "inquiry": {"to": ["c.test"], "identity": "jabber.org/4BF5D2CE"},
        "request": {"to": ["c.test"], "actions": ["block-host"], "description": ["flood"]},
        "response": {"request": one.id, "outcome": "declined", "text": ["no"]},
    }
    for node, given in sendings.items():
        done = await while_working(phone.desk, phone.ask(node, await phone.begin(node), "complete", **given))
        assert done["status"] == "completed", done
        assert "queued" in read(done)
    assert (await phone.desk.approval(one.id)).state is ApprovalState.DECLINED


@pytest.mark.parametrize(
    ("node", "given", "why"),
    [
        ("report", {}, "say what happened"),
        ("report", {"description": "x"}, "at least one server"),
        ("report", {"description": "x", "to": "a.test"}, "this host itself"),
        ("report", {"description": "x", "to": "a b"}, "is not a server's domain"),
        ("report", {"sources": "a@b@c", "to": "c.test"}, "is not a JID"),
        ("report", {"incident": "zzz", "to": "c.test"}, "no incident here"),
        ("report", {"description": "x", "to": "c.test", "severity": "huge"}, "not one of"),
        ("inquiry", {"to": "c.test"}, "name an incident"),
        ("request", {"to": "c.test", "description": "x"}, "what they are to do"),
        ("request", {"to": "c.test", "description": "x", "actions": "dance"}, "what they are to do"),
        ("response", {}, "choose a request"),
        ("response", {"incident": "zzz"}, "no incident here"),
        ("response", {"request": "zzz", "outcome": "done"}, "no request is there"),
    ],
)
async def test_what_cannot_be_sent_is_asked_again_with_the_reason(
    phone: Phone, node: str, given: dict[str, str], why: str
) -> None:
    answer = await phone.ask(node, await phone.begin(node), "complete", **given)
    assert (answer["status"], answer["note"]["type"]) == ("executing", "error"), answer
    assert why in answer["note"]["text"]


async def test_hostile_text_is_shown_harmlessly_and_briefly(phone: Phone) -> None:
    whole = stanza()
    start = whole.index("<Description>") if "<Description>" in whole else None
    hostile = "\u202egnorw\u2066 <b>&amp;</b> ".replace("<", "&lt;") + "long " * 2000
    nodes = "".join(
        f"<Node><Address category='ext-category' ext-category='xmpp'>s{n}@x.test</Address></Node>"
        for n in range(500)
    )
    at = whole.index("<System category='source'>") + len("<System category='source'>")
    end = whole.index("</System>")
    text = whole[:at] + nodes + whole[end:]
    if start is None:
        place = text.index("<Assessment") if "<Assessment" in text else text.index("<EventData")
        text = f"{text[:place]}<Description>{hostile}</Description>{text[place:]}"
    else:
        text = f"{text[:start]}<Description>{hostile}</Description>{text[start:]}"
    await phone.desk.receive(text)
    answer = await phone.ask("incidents")
    (option,) = fields_of(answer)["incident"]["options"]
    page = await phone.ask("incidents", answer["session"], incident=option["value"])
    seen = read(page) + read(answer)
    assert "\u202e" not in seen
    assert "\u2066" not in seen
    assert "\\u202egnorw" in seen
    assert "and 480 more" in seen
    assert len(seen) < 8000


async def test_long_lists_go_on_and_each_is_on_one_of_their_pages(phone: Phone) -> None:
    desk = phone.desk
    for number in range(32):
        await desk.request(f"user{number}@a.test", text=f"asked-{number}")
    for node, var in (("incidents", "incident"), ("approvals", "approval"), ("response", "request")):
        answer, seen = await phone.ask(node), []
        while True:
            options = [one["value"] for one in fields_of(answer)[var]["options"]]
            seen += [one for one in options if not one.startswith("after:")]
            if options[-1] in seen:
                break
            answer = await phone.ask(node, answer["session"], "next", **{var: options[-1]})
            assert answer["status"] == "executing"
        assert len(seen) == len(set(seen)) == 32, node
    assert "32 requests wait" in read(await phone.ask("approvals"))

    for own_id in seen:
        await desk.yes(await desk.approval(own_id))
    await desk.work()
    answer = await phone.ask("mitigations")
    *first, more = (one["value"] for one in fields_of(answer)["mitigation"]["options"])
    answer = await phone.ask("mitigations", answer["session"], "complete", mitigation=more)
    rest = [one["value"] for one in fields_of(answer)["mitigation"]["options"]]
    assert (len(first), len(rest), len({*first, *rest})) == (30, 2, 32)
    for wrong in ("after:", "after:x-y", "after:" + "9" * 30 + "-a"):
        assert (await phone.ask("mitigations", answer["session"], "complete", mitigation=wrong))["form"]
