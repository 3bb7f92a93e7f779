"""How a sending of ours is tracked: queued, sent, and what came of it (DESIGN §5 "Originating").

House rules: an answer counts only from the peer that was asked; every attempt has the same IQ id and the same bytes;
what is temporary (not reachable, no answer, `wait`) is tried again for a day, what the peer refuses is not; what does
not reach a person goes to the next contact of that server, each once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from bridge.iodef.model import Incident as Document
from bridge.policy import events, lanes, outreach, ways
from bridge.policy.change import Append, Change, Put, Timer
from bridge.policy.record import MAX_ANSWER_TIMES, Interaction, InteractionState, Outcome, Peer, Way
from bridge.policy.trust import Authentication, Direction, Stream, Trust
from bridge.xep0268.model import Kind, Status
from bridge.xmpp.stanza import PeerError

ID_PREFIX = "ib-"
DISCO_PREFIX = "ib-disco-"
REPORT_PREFIX = "ib-report-"
"""Of what goes along with a letter; what comes back for it says nothing, and no interaction is called so."""
RETRY_SECONDS = (60, 300, 900, 3600)
"""After the first attempt, the second, and so on; the last one again and again."""

_ASK_AGAIN = timedelta(days=1)
_EARLY = timedelta(seconds=5)  # this machine's clock against the store's

OWN_STREAM = Stream(direction=Direction.LOCAL, encrypted=True, authentication=Authentication.LOCAL)
_OPEN = (InteractionState.QUEUED, InteractionState.SENT)
_ACTED = (Outcome.DONE, Outcome.PARTLY)
_LATE = (InteractionState.UNREACHABLE, InteractionState.UNANSWERED)


class Patience(Protocol):
    """How long we wait; see `[policy]`."""

    @property
    def answer_seconds(self) -> int: ...  # noqa: D102
    @property
    def give_up_seconds(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for an IQ of ours.

    Attributes:
        sender: the JID it came from, as Prosody authenticated it.
        is_bounce: our own server made it, because it could not reach the peer's.
        failure: None for a result.
        is_own_fault: it is this server that cannot go on, so there is no use in trying anybody else.
    """

    sender: str
    is_bounce: bool
    failure: PeerError | None
    is_own_fault: bool = False


def draft(
    *,
    interaction_id: str,
    host: str,
    to: str,
    kind: Kind,
    payload: bytes,
    document: Document,
    status: Status | None,
    incident_id: str,
    now: datetime,
    answers: str | None = None,
    copy_of: str | None = None,
    draft_id: str | None = None,
) -> Interaction:
    """Make an interaction of ours that waits for its first attempt."""
    return Interaction(
        id=interaction_id,
        host=host,
        peer=to,
        kind=kind,
        way=Way.SENT,
        sender=host,
        iq_id=ID_PREFIX + interaction_id,
        received_at=now,
        stream=OWN_STREAM,
        trust=Trust.TRUSTED,
        quarantined=False,
        digest="",
        status=status,
        document=document,
        repairs=(),
        incident_id=incident_id,
        state=InteractionState.QUEUED,
        state_at=now,
        answers=answers,
        copy_of=copy_of,
        draft_id=draft_id,
        original=payload,
    )


def enqueue(interaction: Interaction) -> Change:
    """Store a new interaction of ours and queue its first attempt."""
    return Change(
        puts=(Put(None, interaction),),
        appends=(lanes.send(interaction.host, interaction.id, 1),),
        counts=(("sendings", interaction.kind, "queued"),),
    )


def ask_first(peer: Peer, *, now: datetime) -> tuple[Peer, Append | None]:
    """Ask a peer what it announces and whom to write to, in front of a sending, once a day; nobody waits for it."""
    if peer.asked_at is not None and now - peer.asked_at < _ASK_AGAIN:
        return peer, None
    stanza = (
        f"<iq type='get' to='{peer.domain}' id='{DISCO_PREFIX}{peer.domain[:200]}'>"
        "<query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
    )
    item_id = f"disco-{peer.domain}-{int(now.timestamp())}"
    return replace(peer, asked_at=now), lanes.reply(peer.host, stanza, item_id=item_id)


def is_due(interaction: Interaction, *, now: datetime) -> bool:
    """Whether an attempt is still wanted when its turn comes: not answered meanwhile, and not put off."""
    is_put_off = interaction.retry_at is not None and interaction.retry_at > now + _EARLY
    return interaction.state is InteractionState.QUEUED and not is_put_off


def handed_over(interaction: Interaction, *, now: datetime, patience: Patience) -> tuple[Interaction, Change]:
    """Note that Prosody took an attempt, and look again when an answer should have come."""
    after = replace(
        interaction,
        state=InteractionState.SENT,
        state_at=now,
        attempts=interaction.attempts + 1,
        first_sent_at=interaction.first_sent_at or now,
        sent_at=now,
        retry_at=None,
        original=None,
    )
    if after.outreach is not None:  # a person answers when there is time
        event = events.contacted(after, now=now)
        return after, Change(
            puts=(Put(interaction, after),),
            events=(event,),
            timers=_thanks_later(after, now=now, patience=patience),
            counts=(("sendings", after.kind, "contacted"),),
        )
    item = {"id": f"{after.id}-o{after.attempts}", "overdue": after.id, "attempt": after.attempts}
    timer = Timer(
        name=f"overdue-{after.id}",
        due_at=now + timedelta(seconds=patience.answer_seconds),
        append=lanes.incoming(after.host, after.peer, item),
    )
    return after, Change(puts=(Put(interaction, after),), timers=(timer,))


def not_sendable(interaction: Interaction, why: str, *, now: datetime) -> Change:
    """Note that our own Prosody would not send it at all; to a person: as if that one could not be reached."""
    failure = PeerError(type="cancel", condition="undefined-condition", text=f"not sent by Prosody: {why}")
    known = interaction.outreach
    if known is not None:
        tried = replace(interaction, attempts=interaction.attempts + 1)
        ours = Answer(sender=known.address, is_bounce=False, failure=failure)
        item = answer_item(f"{tried.id}-n{tried.attempts}", tried.iq_id, ours)
        return Change(
            puts=(Put(interaction, replace(tried, original=None)),),
            appends=(lanes.incoming(tried.host, tried.peer, item),),
            counts=(("sendings", tried.kind, "not-sendable"),),
        )
    after = replace(interaction, state=InteractionState.REFUSED, state_at=now, failure=failure, original=None)
    return Change(
        puts=(Put(interaction, after),),
        events=(events.settled(after, now=now),),
        counts=(("sendings", after.kind, "not-sendable"),),
    )


def settle(  # noqa: PLR0911 - a case for each thing that may come back
    interaction: Interaction,
    peer: Peer,
    answer: Answer,
    *,
    now: datetime,
    patience: Patience,
    others: Iterable[Interaction] = (),
) -> tuple[Interaction, Peer, Change]:
    """Note what came back; a result counts even after we gave up.

    Args:
        interaction: the sending.
        peer: whom it went to.
        answer: what came.
        now: the time.
        patience: how long we wait.
        others: sendings to the same peer about the same incident.
    """
    if not _is_from_there(interaction, answer) or interaction.way is not Way.SENT:
        return interaction, peer, Change(counts=(("sendings", interaction.kind, "foreign-answer"),))
    if interaction.state not in _OPEN + _LATE:
        return interaction, peer, Change()
    failure = answer.failure
    if failure is None:
        after = replace(interaction, failure=None)
        return _end(after, _timed(peer, interaction, now=now), InteractionState.ACKNOWLEDGED, now)
    if interaction.state in _LATE:
        return interaction, peer, Change()
    after = replace(interaction, failure=failure)
    end = InteractionState.UNREACHABLE if answer.is_bounce else InteractionState.REFUSED
    chosen = ways.next_contact(after, peer.contacts, others, now=now)
    is_bounce = answer.is_bounce and not (chosen is not None and _is_elsewhere(interaction))
    is_temporary = is_bounce or failure.type == "wait"
    again = _again(after, now=now, patience=patience) if is_temporary else None
    if again is not None:
        return again[0], peer, again[1]
    is_refused = is_temporary or failure.condition not in ways.NOT_SPOKEN
    if answer.is_own_fault or (interaction.outreach is None and is_refused):
        return _end(after, peer, end, now)
    return _reach_out(after, peer, end, chosen, now=now)


def _is_from_there(interaction: Interaction, answer: Answer) -> bool:
    """Whether it is about what went to the server, or what did not reach the person last written to."""
    known = interaction.outreach
    if known is None:
        return answer.sender == interaction.peer
    is_by_chat = known.channel is outreach.Channel.CHAT
    return is_by_chat and answer.sender == known.address and answer.failure is not None


def _is_elsewhere(interaction: Interaction) -> bool:
    """Whether a person was written to whose own server is another one; the peer's was there a moment ago."""
    known = interaction.outreach
    return known is not None and known.address.rpartition("@")[2] != interaction.peer


def _reach_out(
    interaction: Interaction,
    peer: Peer,
    end: InteractionState,
    chosen: outreach.Outreach | None,
    *,
    now: datetime,
) -> tuple[Interaction, Peer, Change]:
    """Write to the next of the operators of a server that does not speak XEP-0268; `end`: where there is none."""
    if chosen is None:
        known = interaction.outreach
        left = known and replace(known, tried=ways.tried(interaction, at=now))
        return _end(replace(interaction, outreach=left), peer, end, now)
    after = replace(interaction, outreach=chosen)
    if chosen.channel is outreach.Channel.MAIL:
        return _end(after, peer, InteractionState.REFUSED, now)
    after = replace(after, state=InteractionState.QUEUED, state_at=now, retry_at=None)
    return after, peer, Change(appends=(lanes.send(after.host, after.id, after.attempts + 1),))


def mailed(interaction: Interaction, to: outreach.Outreach, *, now: datetime) -> tuple[Interaction, Change]:
    """Note that the operator mailed the text of what the server could not take; `to` as `ways.by_mail` says."""
    after = replace(
        interaction,
        outreach=to,
        state=InteractionState.SENT,
        state_at=now,
        sent_at=now,
        failure=None,
        original=None,
    )
    event = events.contacted(after, now=now)
    return after, Change(puts=(Put(interaction, after),), events=(event,), appends=_thanks(after, "mailed"))


def _thanks(interaction: Interaction, why: str) -> tuple[Append, ...]:
    """Have the users thanked whose reports it was made of, if any."""
    if interaction.draft_id is None:
        return ()
    return (lanes.thank(interaction.host, interaction.draft_id, interaction.id, why),)


def _thanks_later(interaction: Interaction, *, now: datetime, patience: Patience) -> tuple[Timer, ...]:
    """Have them thanked once it would have come back by now; a later contact puts it off."""
    due_at = now + timedelta(seconds=patience.answer_seconds)
    return tuple(
        Timer(name=f"thanks-{interaction.id}", due_at=due_at, append=one)
        for one in _thanks(interaction, f"{interaction.attempts}")
    )


def answered_by_person(
    interaction: Interaction, peer: Peer, answer: outreach.PersonsAnswer, *, now: datetime
) -> tuple[Interaction, Peer, Change]:
    """Note what a person answered to what was sent, however late; for a request its outcome, where that was said."""
    known = interaction.outreach
    more = None if known is None else outreach.with_answer(known, answer)
    if more is None:
        return interaction, peer, Change(counts=(("sendings", interaction.kind, "foreign-answer"),))
    outcome = _OUTCOMES.get(answer.verdict or "") if interaction.kind is Kind.REQUEST else None
    if outcome is not None:
        peer = scored(_timed(peer, interaction, now=now), interaction, outcome, now=now)
    after = replace(
        interaction,
        outreach=more,
        outcome=outcome or interaction.outcome,
        state=InteractionState.ACKNOWLEDGED,
        state_at=now,
        retry_at=None,
        failure=None,
        original=None,
    )
    if interaction.state in _OPEN:
        peer = replace(peer, acknowledged=peer.acknowledged + 1)
    text = (
        f"The operators of {peer.domain} answered what you sent them. "
        f"See it: incident-bridge incidents show {after.incident_id[:6]}"
    )
    return (
        after,
        peer,
        Change(
            appends=(
                lanes.tell(after.host, text, item_id=f"{after.id}-a{len(more.answers)}"),
                *_thanks(after, "answered"),
            ),
            events=(events.answered_by_person(after, number=len(more.answers), now=now),),
            counts=(("sendings", after.kind, "answered"),),
        ),
    )


_OUTCOMES: dict[str, Outcome] = {
    outreach.Verdict.DONE: Outcome.DONE,
    outreach.Verdict.DECLINED: Outcome.DECLINED,
}


def overdue(
    interaction: Interaction, peer: Peer, attempt: int, *, now: datetime, patience: Patience
) -> tuple[Interaction, Peer, Change]:
    """Note that an attempt got no answer in time; nothing if it did, or another attempt came since."""
    if interaction.state is not InteractionState.SENT or interaction.attempts != attempt:
        return interaction, peer, Change()
    again = _again(interaction, now=now, patience=patience)
    if again is None:
        return _end(interaction, peer, InteractionState.UNANSWERED, now)
    return again[0], peer, again[1]


def _again(
    interaction: Interaction, *, now: datetime, patience: Patience
) -> tuple[Interaction, Change] | None:
    """Try again later; None if the day is over, which for each person begins anew."""
    delay = RETRY_SECONDS[min(max(interaction.attempts, 1), len(RETRY_SECONDS)) - 1]
    retry_at = now + timedelta(seconds=min(delay, patience.give_up_seconds / 4))
    known = interaction.outreach
    first = known.tried[-1].at if known and known.tried else interaction.first_sent_at or now
    if retry_at > first + timedelta(seconds=patience.give_up_seconds):
        return None
    after = replace(interaction, state=InteractionState.QUEUED, state_at=now, retry_at=retry_at)
    append = lanes.send(after.host, after.id, after.attempts + 1)
    return after, Change(timers=(Timer(name=f"resend-{after.id}", due_at=retry_at, append=append),))


def _end(
    interaction: Interaction, peer: Peer, state: InteractionState, now: datetime
) -> tuple[Interaction, Peer, Change]:
    after = replace(interaction, state=state, state_at=now, retry_at=None)
    if after.copy_of is not None:
        after = replace(after, original=b"")
    match state:
        case InteractionState.ACKNOWLEDGED:
            counted = replace(peer, acknowledged=peer.acknowledged + 1)
        case InteractionState.REFUSED:
            counted = replace(peer, refused=peer.refused + 1)
        case InteractionState.UNREACHABLE:
            counted = replace(peer, unreachable=peer.unreachable + 1)
        case _:
            counted = replace(peer, unanswered=peer.unanswered + 1)
    thanks = _thanks(after, "acknowledged") if state is InteractionState.ACKNOWLEDGED else ()
    change = Change(
        events=(events.settled(after, now=now),), appends=thanks, counts=(("sendings", after.kind, state),)
    )
    return after, counted, change


def _timed(peer: Peer, interaction: Interaction, *, now: datetime) -> Peer:
    """Note how long an answer took."""
    taken = (now - (interaction.sent_at or now)).total_seconds()
    return replace(peer, answer_seconds=(*peer.answer_seconds, round(taken, 3))[-MAX_ANSWER_TIMES:])


def scored(peer: Peer, asked: Interaction, outcome: Outcome | None, *, now: datetime) -> Peer:
    """Note in a peer's record what came of a request to it: once, and anew where it acted after all."""
    is_acted = outcome in _ACTED
    if outcome is None or (asked.outcome is not None and (asked.outcome in _ACTED or not is_acted)):
        return peer
    if asked.outcome is not None:
        return replace(peer, acted=peer.acted + 1, declined=max(0, peer.declined - 1))
    taken = max(0.0, (now - asked.received_at).total_seconds())
    return replace(
        peer,
        acted=peer.acted + is_acted,
        declined=peer.declined + (not is_acted),
        decision_seconds=(*peer.decision_seconds, round(taken, 3))[-MAX_ANSWER_TIMES:],
    )


def answer_item(item_id: str, iq_id: str, answer: Answer) -> dict[str, object]:
    """Make the lane item in which an answer waits to be settled."""
    failure = answer.failure
    return {
        "id": item_id,
        "answer": iq_id.removeprefix(ID_PREFIX),
        "sender": answer.sender,
        "is_bounce": answer.is_bounce,
        "failure": None if failure is None else [failure.type, failure.condition, failure.text],
    }


def read_answer(item: dict[str, object]) -> Answer:
    """Read what `answer_item` wrote."""
    failure = item["failure"]
    return Answer(
        sender=str(item["sender"]),
        is_bounce=bool(item["is_bounce"]),
        failure=None
        if not isinstance(failure, list)
        else PeerError(type=failure[0], condition=failure[1], text=failure[2]),
    )
