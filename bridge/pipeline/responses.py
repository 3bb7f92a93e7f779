"""What a requester is told of what came of its request: a response of ours, as a change for the commit that decides.

House rules: the response's id is made from what it tells of, so that a repeated decision tells once; where the
request's document cannot be sent back, only its identity is.
"""

from dataclasses import replace
from datetime import datetime

from bridge.errors import ConfigError, RefusedError
from bridge.iodef.build import add_history
from bridge.iodef.model import HistoryItem, Restriction
from bridge.iodef.model import Incident as Document
from bridge.pipeline.actors import Actor
from bridge.pipeline.drafts import Origin, make_draft, write_payload
from bridge.policy import disclosure, events, mitigation, outgoing
from bridge.policy.change import Change, Put
from bridge.policy.decisions import Approval, ApprovalState, Mitigation
from bridge.policy.record import Interaction, Outcome, Peer, derived_id
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.connect import Store
from bridge.xep0268.model import Kind

_BY_HAND = {
    Outcome.DONE: ApprovalState.DONE,
    Outcome.PARTLY: ApprovalState.PARTLY,
    Outcome.DECLINED: ApprovalState.DECLINED,
}
_NOTHING_ASKED = HistoryItem(action="nothing")


async def tell(
    store: Store,
    approval: Approval,
    mitigations: tuple[Mitigation, ...],
    *,
    about: str,
    outcome: Outcome | None,
    now: datetime,
    corrects: Outcome | None = None,
    is_plain: bool = False,
) -> Change:
    """Tell the requester how things stand; nothing where nobody asked, or may be told no more.

    Args:
        store: where the request lies.
        approval: as it is now.
        mitigations: all of them, as they are now.
        about: what this response tells of, such as `settled`; one is sent for each.
        outcome: what came of the request, if this is the answer; None: what came after it.
        now: the time.
        corrects: the outcome it was told before, where that turned out wrong.
        is_plain: do not read the request's document again; it may be what kills its readers.
    """
    asked, peer = await _request(store, approval, with_document=not is_plain)
    if asked is None:
        return Change()
    if outcome is not None and asked.outcome is not corrects:  # an operator answered it by hand
        if corrects is None:
            return Change()
        outcome = None
    response_id = derived_id("response", approval.id, about)
    change = Change()
    if outcome is not None:
        settled = replace(asked, outcome=outcome, original=None)
        event = (
            events.decided(asked, approval, now=now)
            if approval.state is ApprovalState.EXPIRED
            else events.answered(settled, by=response_id, now=now)
        )
        change += Change(puts=(Put(asked, settled),), events=(event,))
    if peer is not None and peer.trust is Trust.BLOCKED:
        return change
    origin = Origin(host=approval.host, to=(approval.requester,), now=now, new_id=lambda: response_id)
    history = mitigation.items(approval, mitigations, now=now) or (replace(_NOTHING_ASKED, at=now),)
    payload, view = _write(origin, asked, history)
    draft = make_draft(
        origin, Kind.RESPONSE, asked.peer, payload, view, asked.incident_id, response_id, answers=asked.id
    )
    after, asking = outgoing.ask_first(peer or Peer(host=asked.host, domain=asked.peer), now=now)
    counted = Put(peer, replace(after, sent=after.sent + 1))
    return change + Change(puts=(counted,), appends=(asking,) if asking else ()) + outgoing.enqueue(draft)


async def closed_by_hand(
    store: Store, asked: Interaction, outcome: Outcome, *, actor: Actor, now: datetime
) -> Change:
    """Close the approval of a request that an operator answers without it.

    Raises:
        ConfigError: it is being carried out; the requester is told of that anyway.
    """
    name = keys.approval(asked.id)
    known = (await load.fetch(store, names=[name])).records[name]
    if not isinstance(known, Approval):
        return Change()
    if known.state is ApprovalState.APPROVED:
        raise ConfigError(f"request {asked.id} is being carried out; its answer follows by itself")
    if known.state is not ApprovalState.OPEN:
        return Change()
    state = _BY_HAND[outcome]
    after = mitigation.decline(
        known, state=state, by=actor.name, origin=actor.origin, reason="answered by hand", at=now
    )
    return Change(puts=(Put(known, after),))


async def _request(
    store: Store, approval: Approval, *, with_document: bool
) -> tuple[Interaction | None, Peer | None]:
    if approval.request is None:
        return None, None
    names = [keys.interaction(approval.request), keys.peer(approval.host, approval.requester)]
    records = (await load.fetch(store, names=names, originals=with_document)).records
    asked, peer = (records[name] for name in names)
    return asked if isinstance(asked, Interaction) else None, peer if isinstance(peer, Peer) else None


def _write(origin: Origin, asked: Interaction, history: tuple[HistoryItem, ...]) -> tuple[bytes, Document]:
    """Write the request's document with what came of it; only its identity where that is too large or gone."""
    if asked.original is not None:
        try:
            tree = add_history(disclosure.reread(asked).tree, history, purpose=Kind.RESPONSE.purpose)
            return write_payload(origin, Kind.RESPONSE, tree, status=None)
        except (ConfigError, RefusedError):
            pass  # too large with the History, say; what came of it must be told all the same
    short = Document(
        identity=asked.document.identity,
        purpose=Kind.RESPONSE.purpose,
        restriction=Restriction.NEED_TO_KNOW,
        history=history,
    )
    return write_payload(origin, Kind.RESPONSE, short, status=None)
