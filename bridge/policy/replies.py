"""What comes back for something of ours is queued where its interaction is worked (DESIGN §5 "Originating").

House rules: who is blocked or over quota is not listened to; whether it answers anything is decided later.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.errors import Condition
from bridge.policy import lanes, outgoing
from bridge.policy.admit import Returned, State, spend
from bridge.policy.change import Change
from bridge.policy.outreach import MAX_ANSWER_CHARACTERS, contacts_in
from bridge.policy.quota import OverQuotaError
from bridge.policy.trust import Direction, Stream, Trust, standing
from bridge.xep0268.model import NAMESPACE
from bridge.xmpp.jid import Jid
from bridge.xmpp.stanza import IqType


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A chat message of a person whom the host wrote to; `about` is the interaction that was told that way."""

    id: str
    about: str
    sender: Jid
    text: str
    stream: Stream


def take_answer(state: State, returned: Returned, *, now: datetime) -> tuple[State, Change]:
    """Queue what came back for an IQ of ours; over quota it is dropped, and what was asked will be asked again."""
    iq, sender = returned.iq, returned.iq.sender
    if iq.id.startswith(outgoing.REPORT_PREFIX):
        return state, Change()
    peer = state.peers[sender.domain]
    heard = _heard(state, sender.domain, returned.stream, now=now)
    if isinstance(heard, Change):
        return state, heard
    state = heard
    if iq.id.startswith(outgoing.DISCO_PREFIX):
        if not sender.is_domain or iq.type is not IqType.RESULT or peer.asked_at is None:
            return state, Change()
        features = () if iq.payload is None else (child.get("var") for child in iq.payload)
        item: dict[str, Any] = {
            "id": returned.id,
            "disco": sender.domain,
            "announces": NAMESPACE in features,
            "contacts": list(contacts_in(iq.payload)),
        }
    else:
        is_bounce = returned.stream.direction is Direction.BOUNCE
        answer = outgoing.Answer(sender=str(sender), is_bounce=is_bounce, failure=iq.error)
        item = outgoing.answer_item(returned.id, iq.id, answer)
    return state, Change(appends=(lanes.incoming(state.host, sender.domain, item),))


def take_said(state: State, said: Said, *, now: datetime) -> tuple[State, Change]:
    """Queue what a person wrote back; whether that one was written to at all is decided with the interaction."""
    heard = _heard(state, said.sender.domain, said.stream, now=now)
    if isinstance(heard, Change):
        return state, heard
    text = said.text[:MAX_ANSWER_CHARACTERS]
    item = {"id": said.id, "said": said.about, "sender": said.sender.bare, "text": text}
    return heard, Change(appends=(lanes.incoming(state.host, said.sender.domain, item),))


def _heard(state: State, domain: str, stream: Stream, *, now: datetime) -> State | Change:
    """Take the token that listening costs; a change where nothing is listened to."""
    trust = standing(state.peers[domain].trust, stream, required=state.rules.require_authentication)
    if trust is Trust.BLOCKED:
        return Change()
    try:
        return spend(state, domain, trust, now=now)
    except OverQuotaError:
        return Change(counts=(("refused", Condition.RESOURCE_CONSTRAINT),))
