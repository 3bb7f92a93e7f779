"""What users of a host report: taken in, made into drafts, sent or dismissed as an operator says; and users thanked.

House rule: nothing of a draft leaves here but by `send`, which only an operator calls.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from bridge import log
from bridge.clients.prosody import ProsodyClient
from bridge.errors import ConfigError, ConflictError, UnavailableError, UnsupportedError
from bridge.pipeline import abuse_lists, originate
from bridge.pipeline.actors import Actor, audits
from bridge.pipeline.drafts import Origin
from bridge.policy import abuse, lanes, notice, ways
from bridge.policy.abuse_count import Heard, UserReport
from bridge.policy.abuse_record import AbuseDraft, DraftState
from bridge.policy.change import Change, Put
from bridge.policy.record import Bucket, Interaction, Notices, incident_id
from bridge.store import keys, load
from bridge.store.commit import Once, SeenError, StaleError, commit
from bridge.store.connect import Store

_log = log.get(__name__)

_ATTEMPTS = 10
_AT_ONCE = 500
_AT_ONCE_DROPPED = 50
_TOLD_AT_ONCE = 50
TAKEN = json.dumps({"ok": True}).encode()
"""The answer to Prosody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """Whose users reported, and by which rules; `key` is a secret of that host."""

    host: str
    rules: abuse.Rules
    key: bytes


async def hear(
    store: Store,
    hearing: Hearing,
    reports: Sequence[UserReport],
    *,
    webhook_id: str,
    now: datetime,
) -> None:
    """Add a batch of reports to their drafts, once for each `webhook_id`.

    Raises:
        UnavailableError: the store does not answer, or changes too fast; the batch may be sent again.
    """
    for _ in range(_ATTEMPTS):
        state, records = await _load(store, hearing, reports, now)
        outcomes = []
        for report in reports:
            state, heard = abuse.hear(state, report, now=now)
            outcomes.append(heard)
        change = _change(state, records, now=now)
        change += Change(counts=tuple(("abuse", str(one)) for one in outcomes))
        change += Change(counts=(("abuse", "evicted"),) * state.evicted)
        try:
            await commit(store, change, once=Once(f"{hearing.host}:{webhook_id}", TAKEN))
        except StaleError:
            continue
        except SeenError:
            return
        counted = sum(one is Heard.COUNTED for one in outcomes)
        _log.info("users reported", host=hearing.host, reports=len(reports), counted=counted)
        if state.is_short:
            _log.warning("not all that users report is kept", host=hearing.host, evicted=state.evicted)
        return
    raise UnavailableError("the store changes faster than these reports can be counted; send them again")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """The records as they are stored."""

    drafts: dict[str, AbuseDraft]
    buckets: dict[str, Bucket]
    notices: Notices | None


async def _load(
    store: Store, hearing: Hearing, reports: Sequence[UserReport], now: datetime
) -> tuple[abuse.State, _Loaded]:
    host = hearing.host
    names = [keys.notices(host)]
    names += [keys.bucket(host, name) for one in reports for name in abuse.bucket_names(one.reporter)]
    wanted = {abuse.draft_id(host, one.jid.domain, one.kind) for one in reports}
    names += [keys.abuse_draft(one) for one in wanted]
    found = (await load.fetch(store, names=names)).records.values()
    loaded = _Loaded(
        drafts={one.id: one for one in found if isinstance(one, AbuseDraft)},
        buckets={one.name: one for one in found if isinstance(one, Bucket)},
        notices=next((one for one in found if isinstance(one, Notices)), None),
    )
    state = abuse.State(
        host=host,
        rules=hearing.rules,
        key=hearing.key,
        drafts=dict(loaded.drafts),
        buckets=loaded.buckets,
        open=await load.count(store, keys.abuse_drafts_open(host)),
    )
    is_open = {one.id for one in loaded.drafts.values() if one.state is DraftState.OPEN}
    needed = len(wanted - is_open) - max(0, abuse.MAX_OPEN - state.open)
    crowd = await _crowd(store, host, needed=needed, now=now) if wanted - is_open and needed > 0 else {}
    loaded.drafts.update({name: one for name, one in crowd.items() if name not in loaded.drafts})
    return replace(state, crowd=crowd), loaded


async def _crowd(store: Store, host: str, *, needed: int, now: datetime) -> dict[str, AbuseDraft]:
    """The oldest drafts that may go for so many others."""
    found: dict[str, AbuseDraft] = {}
    index, end = keys.abuse_drafts_open(host), now + timedelta(days=1)
    for offset in range(0, abuse.MAX_OPEN, _AT_ONCE_DROPPED):
        members = await load.older(store, index, than=end, limit=_AT_ONCE_DROPPED, offset=offset)
        names = [keys.abuse_draft(one) for one in members]
        records = (await load.fetch(store, names=names)).records.values() if names else ()
        found |= {one.id: one for one in records if isinstance(one, AbuseDraft) and one.may_be_dropped}
        if len(found) >= needed or not members:
            break
    return found


def _change(state: abuse.State, loaded: _Loaded, *, now: datetime) -> Change:
    """Write what changed, and have the admins told of drafts that began to wait."""
    puts: list[Put] = [
        Put(loaded.drafts.get(name), draft)
        for name, draft in state.drafts.items()
        if draft is not loaded.drafts.get(name)
    ]
    puts += [
        Put(loaded.buckets.get(name), bucket)
        for name, bucket in state.buckets.items()
        if bucket is not loaded.buckets.get(name)
    ]
    notices = loaded.notices or Notices(host=state.host)
    gone = (name for name in state.dropped if name not in state.drafts)
    change = Change(
        puts=tuple(puts), drops=tuple(loaded.drafts[name] for name in gone if name in loaded.drafts)
    )
    if state.is_short:
        change += notice.note_shortage(notices, now=now)
    for name in state.opened:
        draft = state.drafts[name]
        change += notice.note_draft(notices, draft.domain, draft.kind, now=now)
    return change


async def find(store: Store, draft_id: str) -> AbuseDraft:
    """Load a draft.

    Raises:
        ConfigError: it is gone.
    """
    name = keys.abuse_draft(draft_id)
    found = (await load.fetch(store, names=[name])).records[name]
    if not isinstance(found, AbuseDraft):
        raise ConfigError("there is no such draft any more")
    return found


async def waiting(store: Store, host: str, *, limit: int) -> list[AbuseDraft]:
    """The drafts of a host that wait for an operator, newest report first."""
    return await listed(store, keys.abuse_drafts_open(host), limit=limit)


async def listed(store: Store, index: str, *, limit: int) -> list[AbuseDraft]:
    """The drafts of an index, newest report first."""
    members = (await load.newest(store, [index], limit=limit))[index]
    names = [keys.abuse_draft(one) for one in members]
    records = (await load.fetch(store, names=names)).records if names else {}
    return [one for name in names if isinstance(one := records[name], AbuseDraft)]


async def send(
    store: Store,
    origin: Origin,
    draft_id: str,
    *,
    with_words: bool = False,
    wish: abuse_lists.Wish | None = None,
) -> originate.Originated:
    """Send a draft to the domain that it is about, because an operator says so; `origin.to` is not looked at.

    Args:
        store: where it is.
        origin: who sends; a call that brings the same id within ten minutes does nothing more.
        draft_id: which.
        with_words: also what those users wrote who agreed that their reports be passed on.
        wish: have the accounts listed that may be; None: list nothing.

    Raises:
        ConfigError: it cannot be sent, see `abuse.objection`, or what may be listed cannot be; nothing was done.
        ConflictError: reports come faster than it can be sent.
    """
    own_id = origin.new_id()
    for _ in range(_ATTEMPTS):
        draft = await find(store, draft_id)
        if draft.state is DraftState.SENT and (done := await originate.repeated(store, draft.domain, own_id)):
            return done
        why = abuse.objection(draft)
        if why is not None or draft.host != origin.host:
            raise ConfigError(f"the draft about {draft.domain} is not sent: {why or 'it is of another host'}")
        document = abuse.document(draft, with_words=with_words)
        try:
            return await originate.report(
                store,
                replace(origin, to=(draft.domain,), new_id=lambda: own_id),
                document,
                draft=lambda seen=draft: _sent(store, seen, origin, own_id, wish),  # type: ignore[misc]  # bound now
                draft_id=draft.id,
                only_to=abuse.only_to(draft),
            )
        except ConflictError:
            continue
    raise ConflictError("users report faster than it can be sent; try again")


async def _sent(
    store: Store, seen: AbuseDraft, origin: Origin, own_id: str, wish: abuse_lists.Wish | None
) -> Change:
    """Settle the draft with what is sent and listed of it; a ConflictError where it is not what was seen."""
    draft = await find(store, seen.id)
    if draft.version != seen.version:
        raise ConflictError("more was reported meanwhile")
    about = incident_id(draft.host, draft.host, abuse.identity(draft))
    after = abuse.settled(
        draft, DraftState.SENT, by=origin.actor.name, now=origin.now, incident=about, sent_by=own_id
    )
    change = Change(puts=(Put(draft, after),), counts=(("abuse", "sent"),))
    if wish is None:
        return change
    return change + await abuse_lists.listing(
        store, draft, wish, actor=origin.actor, now=origin.now, incident_id=about
    )


async def dismiss(store: Store, draft_id: str, *, actor: Actor, now: datetime) -> AbuseDraft:
    """Say no to a draft: nothing is sent, and what users report from now on is counted anew.

    Raises:
        ConfigError: it was decided about before.
        ConflictError: reports come faster than it can be dismissed.
    """
    for _ in range(_ATTEMPTS):
        draft = await find(store, draft_id)
        if draft.state is not DraftState.OPEN:
            raise ConfigError(f"the draft about {draft.domain} was {draft.state} before")
        after = abuse.settled(draft, DraftState.DISMISSED, by=actor.name, now=now)
        log_entry = audits((draft.host,), actor, "abuse.dismiss", draft.id, now=now, detail=draft.domain)
        try:
            await commit(
                store, Change(puts=(Put(draft, after),), audits=log_entry, counts=(("abuse", "dismissed"),))
            )
        except StaleError:
            continue
        return after
    raise ConflictError("users report faster than it can be dismissed; try again")


async def thank(store: Store, prosody: ProsodyClient, host: str, item: dict[str, Any]) -> Change:
    """Tell users that what they reported was passed on, as many as one call takes; then the rest.

    Nobody is told where it came back meanwhile, or where what they reported last went out by another interaction.
    """
    name = keys.abuse_draft(item["thank"])
    draft = (await load.fetch(store, names=[name])).records[name]
    if not isinstance(draft, AbuseDraft) or not draft.thanking:
        return Change()
    if "by" in item and not await _has_arrived(
        store, draft, item["by"]
    ):  # the previous release thanked at the yes
        return Change()
    to, left = draft.thanking[:_TOLD_AT_ONCE], draft.thanking[_TOLD_AT_ONCE:]
    webhook_id = "t-" + hashlib.sha256(f"{host} {item['id']} {to}".encode()).hexdigest()[:40]
    try:
        sent = await prosody.thank(host, abuse.thanks(draft), to, webhook_id=webhook_id)
        _log.info("users thanked", host=host, users=len(sent), draft=draft.id)
    except UnsupportedError as error:
        _log.error("users are not thanked", host=host, reason=str(error))
    again = {**item, "id": f"{item['id']}-{len(left)}"}
    return Change(
        puts=(Put(draft, replace(draft, thanking=left)),),
        appends=(lanes.outgoing(host, again),) if left else (),
    )


async def _has_arrived(store: Store, draft: AbuseDraft, interaction_id: str) -> bool:
    name = keys.interaction(interaction_id)
    sent = (await load.fetch(store, names=[name])).records[name]
    return interaction_id == draft.sent_by and isinstance(sent, Interaction) and ways.is_delivered(sent)


async def forget_drafts(store: Store, host: str, *, days: int, now: datetime) -> int:
    """Delete what nobody reported any more for so many days; returns how many.

    Raises:
        ConflictError: one changed meanwhile; the next sweep finds it again.
    """
    found = await load.older(store, keys.abuse_drafts(host), than=now - timedelta(days=days), limit=_AT_ONCE)
    names = [keys.abuse_draft(one) for one in found]
    records = (await load.fetch(store, names=names)).records.values() if names else ()
    drops = tuple(one for one in records if isinstance(one, AbuseDraft))
    await commit(store, Change(drops=drops, counts=(("retired", "abuse"),) * len(drops)))
    return len(drops)
