"""What waits in a host's lane of approvals: what is carried out and taken back, and what expires; and previews.

House rules: Prosody is asked under ids made from the mitigation and its revision, so that a repeat after a crash is
one; what it answers, what follows from it and who is told of it is one commit; nothing waits here for ever.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from bridge import log
from bridge.errors import UnavailableError, UnsupportedError
from bridge.pipeline import preview as previews
from bridge.pipeline import reconcile
from bridge.pipeline.actors import BRIDGE, audits
from bridge.pipeline.preview import Answer, Rules, preview
from bridge.pipeline.responses import tell
from bridge.policy import events, lanes
from bridge.policy import mitigation as rules_of
from bridge.policy.change import Change, Put, Sent, Timer
from bridge.policy.decisions import Approval, ApprovalState, Mitigation, MitigationState
from bridge.policy.mitigation import GIVE_UP_SECONDS, RETRY_SECONDS
from bridge.policy.record import Incident, Outcome, Record
from bridge.store import keys, load
from bridge.store.connect import Store

_log = log.get(__name__)

_NOT_FOUND = 404
_WAITING = {MitigationState.PENDING, MitigationState.LIFTING}
_ACTIONS = {
    MitigationState.APPLIED: "mitigation.applied",
    MitigationState.LIFTED: "mitigation.lifted",
    MitigationState.EXPIRED: "mitigation.expired",
    MitigationState.FAILED: "mitigation.failed",
}
Item = dict[str, Any]


class Server(previews.Server, reconcile.Server, Protocol):
    """What is asked of the host's Prosody; see `clients.prosody.ProsodyClient`."""


async def work(store: Store, server: Server, items: Sequence[bytes], *, rules: Rules, now: datetime) -> Sent:
    """Do what the first item says."""
    item = json.loads(items[0])
    return Sent(1, await _change(store, server, item, rules, now))


async def _change(store: Store, server: Server, item: Item, rules: Rules, now: datetime) -> Change:
    if "preview" in item:
        return await preview(store, server, item, rules=rules, now=now)
    if "carry_out" in item:
        return await _carry_out(store, server, item, now)
    if "reconcile" in item:
        return await reconcile.compare(store, server, item, now=now)
    if "missing" in item or "in_force" in item:
        note = _note_missing if "missing" in item else _note_in_force
        return await note(store, item, now)
    if "mitigation_expired" in item:
        return await _expire(store, item["mitigation_expired"], now)
    return await _expire_approval(store, item["approval_expired"], now)


async def _carry_out(store: Store, server: Server, item: Item, now: datetime) -> Change:
    """Tell Prosody that a mitigation begins or ends, and note what it says."""
    known = await _mitigation(store, item["carry_out"])
    if known is None or known.revision != item["revision"] or known.state not in _WAITING:
        return Change()
    try:
        after = _answered(known, await _ask(server, known), now)
    except UnsupportedError as error:
        after = rules_of.failed(known, str(error), at=now)
    except UnavailableError as error:
        if now < known.asked_at + timedelta(seconds=GIVE_UP_SECONDS):
            return _again(known, error, now)
        why = f"Prosody could not be reached for a day, so it may be in force all the same: {error}"
        after = rules_of.failed(known, why, at=now)
    return await settled(store, known, after, now=now)


async def _ask(server: Server, one: Mitigation) -> Answer:
    webhook_id = f"m-{one.id}-{one.revision}"
    if one.state is MitigationState.LIFTING:
        return await server.lift(one.host, mitigation=one.id, revision=one.revision, webhook_id=webhook_id)
    return await server.mitigate(
        one.host,
        str(one.type),
        mitigation=one.id,
        revision=one.revision,
        expires_at=one.expires_at,
        target=one.target,
        reason=one.reason,
        webhook_id=webhook_id,
    )


def _answered(known: Mitigation, answer: Answer, now: datetime) -> Mitigation:
    is_lift = known.state is MitigationState.LIFTING
    if is_lift and (answer.ok or answer.status == _NOT_FOUND):
        return rules_of.lifted(known, answer.detail if answer.ok else None, at=now)
    if not answer.ok:
        return rules_of.failed(known, answer.error or f"Prosody answered {answer.status}", at=now)
    return rules_of.applied(known, at=now)


def _again(known: Mitigation, error: UnavailableError, now: datetime) -> Change:
    """Try again soon."""
    _log.warning("a mitigation waits for Prosody", host=known.host, mitigation=known.id, reason=str(error))
    after = replace(known, tries=known.tries + 1, failure=str(error))
    delay = RETRY_SECONDS[min(after.tries, len(RETRY_SECONDS)) - 1]
    append = lanes.carry_out(known.host, known.id, known.revision, nonce=f"t{after.tries}")
    timer = Timer(name=f"carry-{known.id}", due_at=now + timedelta(seconds=delay), append=append)
    return Change(puts=(Put(known, after),), timers=(timer,))


async def settled(
    store: Store, before: Mitigation, after: Mitigation, *, now: datetime, is_plain: bool = False
) -> Change:
    """Write what came of a mitigation: its approval, the incident's history, the event, and the requester's response.

    Args:
        store: where it lies.
        before: as stored.
        after: as it is now.
        now: the time.
        is_plain: see `responses.tell`.
    """
    names = [keys.approval(before.approval_id), keys.incident(before.incident_id)]
    records = (await load.fetch(store, names=names)).records
    known, incident = (records[name] for name in names)
    approval = known if isinstance(known, Approval) else None
    detail = after.failure or after.note or rules_of.about(after.type, after.target)
    change = Change(
        puts=(Put(before, after), *_history(incident, before, after, now)),
        events=(events.mitigated(after, approval, now=now),),
        audits=audits((after.host,), BRIDGE, _ACTIONS[after.state], after.id, now=now, detail=detail),
        counts=(("mitigations", str(after.type), str(after.state)),),
    )
    _log.info(
        "mitigation", host=after.host, mitigation=after.id, type=str(after.type), state=str(after.state)
    )
    if approval is None:
        return change + _warn(None, None, after)
    was_lost = before.state is MitigationState.FAILED and after.state is MitigationState.APPLIED
    progressed = rules_of.progress(approval, after, had_failed=was_lost)
    change += _warn(approval, progressed, after)
    if progressed is not approval:
        change += Change(puts=(Put(approval, progressed),))
    return change + await _tell(store, approval, progressed, after, now=now, is_plain=is_plain)


def _warn(before: Approval | None, after: Approval | None, one: Mitigation) -> Change:
    """Tell the admins in chat what failed: once for an approval, when all of it is known; and what cannot be undone."""
    if before is not None and before.state is ApprovalState.APPROVED:
        if after is None or after.state not in {ApprovalState.FAILED, ApprovalState.PARTLY}:
            return Change()
        how = "failed" if after.state is ApprovalState.FAILED else "failed in part"
        text = f"On {one.host} what you approved {how}. To see why: incident-bridge approvals show {after.id}"
    elif one.state is MitigationState.FAILED:
        text = (
            f"On {one.host} a mitigation could not be carried out, or not be taken back. "
            f"To see why: incident-bridge mitigations show {one.id}"
        )
    else:
        return Change()
    return Change(appends=(lanes.tell(one.host, text, item_id=f"{one.id}-{one.revision}-failed"),))


async def _tell(
    store: Store, before: Approval, approval: Approval, one: Mitigation, *, now: datetime, is_plain: bool
) -> Change:
    """Answer the requester once all is known, and tell it of what ends later."""
    if approval.request is None or approval.state is ApprovalState.APPROVED:
        return Change()
    is_answer = before.state is ApprovalState.APPROVED
    is_known = one.state is MitigationState.APPLIED and approval == before  # it could not be taken back
    if not is_answer and (one.applied_at is None or one.state is MitigationState.FAILED or is_known):
        return Change()
    ids = [each.mitigation_id for each in approval.targets if each.mitigation_id]
    records = (await load.fetch(store, names=[keys.mitigation(each) for each in ids])).records.values()
    found = {each.id: each for each in records if isinstance(each, Mitigation)} | {one.id: one}
    was, is_now = rules_of.outcome(before), rules_of.outcome(approval)
    is_corrected = not is_answer and is_now is not was  # what had failed turned out to be in force
    return await tell(
        store,
        approval,
        tuple(found.values()),
        about="settled" if is_answer else f"{one.id}-{one.revision}-{one.state}",
        outcome=is_now if is_answer or is_corrected else None,
        corrects=was if is_corrected else None,
        now=now,
        is_plain=is_plain,
    )


def _history(
    incident: Record | None, before: Mitigation, after: Mitigation, now: datetime
) -> tuple[Put, ...]:
    """What goes into the incident's History: that it began, and that what was in force is over."""
    if not isinstance(incident, Incident):
        return ()
    if after.state is MitigationState.APPLIED and before.applied_at is None:
        item = rules_of.began(after)
    elif after.state in {MitigationState.LIFTED, MitigationState.EXPIRED} and before.applied_at is not None:
        item = rules_of.ended(after)
    else:
        return ()
    return (Put(incident, rules_of.with_history(incident, item, at=now)),)


async def _expire(store: Store, mitigation_id: str, now: datetime) -> Change:
    """Note that a mitigation's time is over; Prosody has ended it by itself."""
    known = await _mitigation(store, mitigation_id)
    after = None if known is None else rules_of.expired(known, at=now)
    if known is None or after is None:
        return Change()
    return await settled(store, known, after, now=now)


async def _note_missing(store: Store, item: Item, now: datetime) -> Change:
    """Note that Prosody no longer has a mitigation; the admins are told where nobody there ended it."""
    known = await _mitigation(store, item["missing"])
    after = None if known is None else reconcile.judged(known, item["how"], now=now)
    if known is None or after is None:
        return Change()
    change = await settled(store, known, after, now=now)
    text = reconcile.warning(after, item["how"])
    if text:
        change += Change(appends=(lanes.tell(after.host, text, item_id=f"{after.id}-missing"),))
    return change


async def _note_in_force(store: Store, item: Item, now: datetime) -> Change:
    """Note that what failed is in force all the same, as Prosody says; the admins are told."""
    known = await _mitigation(store, item["in_force"])
    after = None if known is None else rules_of.in_force(known, at=now)
    if known is None or after is None or known.revision != item["revision"]:
        return Change()
    text, item_id = reconcile.found(after), f"{after.id}-{after.revision}-in-force"
    told = Change(appends=(lanes.tell(after.host, text, item_id=item_id),))
    return await settled(store, known, after, now=now) + told


async def _expire_approval(
    store: Store, approval_id: str, now: datetime, *, is_plain: bool = False
) -> Change:
    """Decline a request that nobody decided about in time."""
    known = await _approval(store, approval_id)
    if known is None or known.state is not ApprovalState.OPEN:
        return Change()
    why = "nobody decided about it in time"
    after = rules_of.decline(
        known, state=ApprovalState.EXPIRED, by=BRIDGE.name, origin="", reason=why, at=now
    )
    told = await tell(store, after, (), about="expired", outcome=Outcome.DECLINED, now=now, is_plain=is_plain)
    return told + Change(
        puts=(Put(known, after),),
        audits=audits((known.host,), BRIDGE, "approval.expire", known.id, now=now, detail=why),
        counts=(("approvals", "expired"),),
    )


async def given_up(store: Store, item: Item, *, now: datetime) -> Change:
    """What is written when an item killed its worker again and again: it failed, visibly, and the requester is told."""
    why = "this server failed to carry it out; it may be in force all the same"
    if "carry_out" in item:
        known = await _mitigation(store, item["carry_out"])
        if known is None or known.revision != item["revision"] or known.state not in _WAITING:
            return Change()
        return await settled(store, known, rules_of.failed(known, why, at=now), now=now, is_plain=True)
    if "mitigation_expired" in item:
        known = await _mitigation(store, item["mitigation_expired"])
        after = None if known is None else rules_of.expired(known, at=now)
        if known is None or after is None:
            return Change()
        return await settled(store, known, after, now=now, is_plain=True)
    if "approval_expired" in item:
        return await _expire_approval(store, item["approval_expired"], now, is_plain=True)
    return Change()


async def _mitigation(store: Store, mitigation_id: str) -> Mitigation | None:
    name = keys.mitigation(mitigation_id)
    found = (await load.fetch(store, names=[name])).records[name]
    return found if isinstance(found, Mitigation) else None


async def _approval(store: Store, approval_id: str) -> Approval | None:
    name = keys.approval(approval_id)
    found = (await load.fetch(store, names=[name])).records[name]
    return found if isinstance(found, Approval) else None
