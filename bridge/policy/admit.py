"""Whether an incoming interaction is stored, and what its sender is told at once if not (DESIGN §5).

House rules: the sender is the authenticated domain in the IQ's `from`, nothing else; everything is refused here that
can be refused without knowing the incident; what is refused leaves nothing behind but a spent token.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from bridge.errors import Condition, ErrorType, RefusedError, StanzaError
from bridge.iodef.model import IncidentId
from bridge.policy import lanes
from bridge.policy.change import Change, Forget, Put, Remember
from bridge.policy.quota import Quotas, take_tokens
from bridge.policy.record import Bucket, Interaction, Peer, Quarantine, Way, incident_id
from bridge.policy.trust import Authentication, Direction, Rule, Stream, Trust, rule_for, standing
from bridge.xep0268.model import Kind, Reading
from bridge.xmpp.stanza import Iq

REPEAT_SECONDS = 24 * 3600
INQUIRY_SECONDS = 7 * 86_400
"""So long a report that answers an inquiry of ours is not quarantined."""
ANSWERS_AT_MOST = 20
"""So many reports of a stranger may answer one inquiry of ours: the report, and its corrections."""
STRANGERS_WATERMARK = 0.80
WATERMARK = 0.95


class Rules(Quotas, Protocol):
    """What the operator configured under `[policy]`; see `config default` for the meaning of each."""

    @property
    def strangers(self) -> str: ...  # noqa: D102
    @property
    def unencrypted(self) -> str: ...  # noqa: D102
    @property
    def require_authentication(self) -> Authentication: ...  # noqa: D102
    @property
    def allow_users(self) -> Collection[str]: ...  # noqa: D102
    @property
    def quarantine_max(self) -> int: ...  # noqa: D102
    @property
    def quarantine_max_bytes(self) -> int: ...  # noqa: D102
    @property
    def quarantine_max_per_peer(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One incident IQ as Prosody relayed it.

    Attributes:
        id: the id its interaction gets if it is stored.
        reading: what its payload says, or why it cannot be read; told only to peers that may talk to us.
        digest: of the payload; see `xmpp.xml.digest`.
        original: the stanza's bytes as they came.
    """

    id: str
    iq: Iq
    stream: Stream
    reading: Reading | StanzaError
    digest: str
    original: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A result or error that came back for an IQ of ours; `id` makes its lane's item unique."""

    id: str
    iq: Iq
    stream: Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What admission knows; a later item of a batch sees what an earlier one did.

    Attributes:
        remembered: what is remembered under the names that `names_of` made.
        fill: share of the store's memory in use, 0 to 1.
    """

    host: str
    rules: Rules
    peers: Mapping[str, Peer]
    buckets: Mapping[str, Bucket]
    quarantine: Quarantine
    remembered: Mapping[str, str]
    fill: float


def repeat_name(peer: str, digest: str) -> str:
    """Name under which a payload is remembered: the same payload of the same peer has the same name."""
    return f"{peer}:{digest}"


def question_name(kind: Kind, host: str, peer: str, identity: IncidentId) -> str:
    """Name under which a question of ours to a peer (an inquiry, a request) is remembered until it is answered."""
    return f"{kind}:{incident_id(host, peer, replace(identity, instance=None))}"


def names_of(host: str, arrival: Arrival) -> tuple[str, ...]:
    """Everything that must be looked up in what is remembered before the arrival can be admitted."""
    peer = arrival.iq.sender.domain
    names = [repeat_name(peer, arrival.digest)]
    if isinstance(arrival.reading, Reading):
        question = _QUESTIONS.get(arrival.reading.kind)
        if question is not None:
            names.append(question_name(question, host, peer, arrival.reading.incident.identity))
    return tuple(names)


_QUESTIONS = {Kind.REPORT: Kind.INQUIRY, Kind.RESPONSE: Kind.REQUEST}


def admit(state: State, arrival: Arrival, *, now: datetime) -> tuple[State, Change]:
    """Store one interaction or refuse it.

    Returns:
        the state for the next item, and what to write for this one besides the records in the state.

    Raises:
        RefusedError: it is not stored. The state is not changed, except by `charge`, which the caller calls first.
    """
    sender = _sender(state, arrival)
    peer = state.peers[sender]
    trust = standing(peer.trust, arrival.stream, required=state.rules.require_authentication)
    _refuse_by_stream(state, arrival)
    if isinstance(arrival.reading, StanzaError):
        raise RefusedError(arrival.reading)
    reading = arrival.reading
    rule = rule_for(trust, peer.rules.get(reading.kind), strangers=Rule(state.rules.strangers))
    if rule is Rule.REFUSE:
        text = f"this server does not accept a {reading.kind} from yours; ask its operators"
        raise RefusedError(StanzaError(ErrorType.AUTH, Condition.FORBIDDEN, text))
    if reading.kind is Kind.INQUIRY:
        _refuse_over_watermark(state, trust)
        return state, _inquiry(state, arrival, reading, trust)
    name = repeat_name(sender, arrival.digest)
    if name in state.remembered:
        repeated = replace(peer, repeated=peer.repeated + 1)
        change = _answer_repeat(state, arrival, sender)
        return replace(state, peers={**state.peers, sender: repeated}), change
    interaction = _interaction(state, arrival, reading, trust=trust, rule=rule, now=now)
    _refuse_over_watermark(state, Trust.STRANGER if interaction.quarantined else Trust.TRUSTED)
    if interaction.quarantined:
        _refuse_over_quarantine(state, peer, arrival)
    return _stored(state, peer, interaction, name, now=now)


def _interaction(
    state: State, arrival: Arrival, reading: Reading, *, trust: Trust, rule: Rule, now: datetime
) -> Interaction:
    """Write an arrival down; one that answers a question of ours is not quarantined, whoever sent it.

    But a stream that proves less than the peer's trust asks for answers nothing.
    """
    peer, identity = arrival.iq.sender.domain, reading.incident.identity
    asked = _QUESTIONS.get(reading.kind)
    known = state.remembered.get(question_name(asked, state.host, peer, identity), "") if asked else ""
    if trust is not state.peers[peer].trust:
        known = ""
    own = incident_id(state.host, peer, identity)
    question_id, asked_about, _ = _question(known)
    if reading.kind is Kind.REPORT and own != asked_about:
        known = question_id = ""  # it is about another incident than the one we asked for
    if known:
        rule = Rule.ACCEPT if rule is Rule.QUARANTINE else rule
    elif reading.kind is Kind.RESPONSE:
        rule = Rule.QUARANTINE  # nobody asked for it
    return Interaction(
        id=arrival.id,
        host=state.host,
        peer=peer,
        kind=reading.kind,
        way=Way.RECEIVED,
        sender=str(arrival.iq.sender),
        iq_id=arrival.iq.id,
        received_at=now,
        stream=arrival.stream,
        trust=trust,
        quarantined=rule is Rule.QUARANTINE,
        digest=arrival.digest,
        status=reading.status,
        document=reading.incident,
        repairs=reading.repairs,
        incident_id=asked_about if reading.kind is Kind.RESPONSE and asked_about else own,
        rule=rule,
        answers=question_id or None,
        original=arrival.original,
    )


def _inquiry(state: State, arrival: Arrival, reading: Reading, trust: Trust) -> Change:
    """Queue an inquiry to be decided; it is decided anew each time, so nothing of it stays."""
    identity, sender = reading.incident.identity, arrival.iq.sender
    item = {
        "id": arrival.id,
        "inquiry": {"name": identity.name, "text": identity.text, "instance": identity.instance},
        "sender": str(sender),
        "iq_id": arrival.iq.id,
        "trust": trust.value,
        "authentication": arrival.stream.authentication.value,
    }
    return Change(
        appends=(lanes.incoming(state.host, sender.domain, item),),
        counts=(("interactions", reading.kind, trust),),
    )


def charge(state: State, arrival: Arrival, *, now: datetime) -> State:
    """Take the tokens that looking at this interaction costs, whether it is stored or not.

    Raises:
        RefusedError: the peer is blocked.
        OverQuotaError: it must wait.
    """
    sender = arrival.iq.sender.domain
    peer = state.peers[sender]
    trust = standing(peer.trust, arrival.stream, required=state.rules.require_authentication)
    if trust is Trust.BLOCKED:
        raise RefusedError(
            StanzaError(
                ErrorType.AUTH, Condition.FORBIDDEN, "this server does not accept incidents from yours"
            )
        )
    return spend(state, sender, trust, now=now)


def spend(state: State, sender: str, trust: Trust, *, now: datetime) -> State:
    """Take a token of that peer's, and of all strangers' where it is one.

    Raises:
        OverQuotaError: it must wait.
    """
    buckets = take_tokens(
        state.buckets, state.host, sender, state.rules, is_stranger=trust is Trust.STRANGER, now=now
    )
    return replace(state, buckets=buckets)


def puts(before: State, after: State) -> tuple[Put, ...]:
    """The records that a batch changed, each once, with what the store must still hold."""
    found: list[Put] = []
    for name, bucket in after.buckets.items():
        if bucket is not before.buckets.get(name):
            found.append(Put(before.buckets.get(name), bucket))
    for domain, peer in after.peers.items():
        old = before.peers[domain]
        if peer is not old:
            found.append(Put(old if old.version else None, peer))
    if after.quarantine is not before.quarantine:
        found.append(Put(before.quarantine if before.quarantine.version else None, after.quarantine))
    return tuple(found)


def _sender(state: State, arrival: Arrival) -> str:
    """Return the domain that counts as the sender; a user or resource is refused unless allowed by name."""
    iq = arrival.iq
    if iq.to.domain != state.host or not iq.to.is_domain:
        raise RefusedError(
            StanzaError(
                ErrorType.MODIFY,
                Condition.BAD_REQUEST,
                f"iq/@to: send incidents to {state.host}, not to {iq.to}",
            )
        )
    if not iq.sender.is_domain and iq.sender.bare not in state.rules.allow_users:
        text = (
            f"iq/@from: incidents are accepted from servers, not from users; {iq.sender.bare} is not allowed"
        )
        raise RefusedError(StanzaError(ErrorType.AUTH, Condition.FORBIDDEN, text))
    return iq.sender.domain


def _refuse_by_stream(state: State, arrival: Arrival) -> None:
    """Refuse what came over a stream that the operator does not accept."""
    stream = arrival.stream
    local = stream.direction is Direction.LOCAL
    if not (stream.encrypted or local or state.rules.unencrypted == "accept"):
        text = "this server accepts incidents over encrypted streams only"
        raise RefusedError(StanzaError(ErrorType.MODIFY, Condition.POLICY_VIOLATION, text))


def _refuse_over_watermark(state: State, trust: Trust) -> None:
    """Refuse what would fill the store: strangers first, so that approving and undoing still work."""
    if state.fill >= WATERMARK or (trust is Trust.STRANGER and state.fill >= STRANGERS_WATERMARK):
        raise RefusedError(_FULL)


def _refuse_over_quarantine(state: State, peer: Peer, arrival: Arrival) -> None:
    """Refuse what would take the quarantine over its bounds."""
    rules, quarantine = state.rules, state.quarantine
    if (
        peer.quarantined >= rules.quarantine_max_per_peer
        or quarantine.interactions >= rules.quarantine_max
        or quarantine.size_bytes + len(arrival.original) > rules.quarantine_max_bytes
    ):
        raise RefusedError(_FULL)


_FULL = StanzaError(
    ErrorType.WAIT,
    Condition.RESOURCE_CONSTRAINT,
    "this server holds as many incidents as its operators can look at; send it again tomorrow",
)


def _answered(state: State, interaction: Interaction, remembered: dict[str, str]) -> Change:
    """Count what a stranger answers: a few corrections of what we asked about are welcome, a second response is not."""
    name = question_name(
        _QUESTIONS[interaction.kind], state.host, interaction.peer, interaction.document.identity
    )
    question_id, asked_about, left = _question(remembered[name])
    if interaction.kind is not Kind.REPORT or left <= 1:
        del remembered[name]
        return Change(forgets=(Forget(host=state.host, name=name),))
    remembered[name] = f"{question_id} {asked_about} {left - 1}"
    again = Remember(
        host=state.host, name=name, value=remembered[name], ttl_seconds=INQUIRY_SECONDS, is_new=False
    )
    return Change(remembers=(again,))


def _question(remembered: str) -> tuple[str, str, int]:
    """Read what is remembered of a question of ours: its interaction, its incident, how many answers may still come."""
    question_id, asked_about, left, *_ = [*remembered.split(" "), "", "", ""]
    return question_id, asked_about, int(left or ANSWERS_AT_MOST)


def _answer_repeat(state: State, arrival: Arrival, sender: str) -> Change:
    """Answer a repeat like the first: the answer to all but inquiries is a result."""
    return Change(
        appends=(
            lanes.answer(state.host, to=str(arrival.iq.sender), iq_id=arrival.iq.id, item_id=arrival.id),
        ),
        counts=(("repeats", state.peers[sender].trust),),
    )


def _stored(
    state: State, peer: Peer, interaction: Interaction, name: str, *, now: datetime
) -> tuple[State, Change]:
    """Write down an admitted interaction: itself, its peer, the quarantine, its place in the peer's lane."""
    known = replace(
        peer,
        first_seen_at=peer.first_seen_at or now,
        last_seen_at=now,
        received=peer.received + 1,
        quarantined=peer.quarantined + interaction.quarantined,
    )
    quarantine = state.quarantine
    if interaction.quarantined:
        size_bytes = quarantine.size_bytes + len(interaction.original or b"")
        quarantine = replace(quarantine, interactions=quarantine.interactions + 1, size_bytes=size_bytes)
    item = {"id": interaction.id, "incident": interaction.incident_id}
    change = Change(
        puts=(Put(None, interaction),),
        remembers=(Remember(host=state.host, name=name, value=interaction.id, ttl_seconds=REPEAT_SECONDS),),
        appends=(lanes.incoming(state.host, peer.domain, item),),
        counts=(("interactions", interaction.kind, interaction.trust),),
    )
    remembered = {**state.remembered, name: interaction.id}
    if interaction.answers and interaction.trust is not Trust.TRUSTED:
        change += _answered(state, interaction, remembered)
    after = replace(
        state, peers={**state.peers, peer.domain: known}, quarantine=quarantine, remembered=remembered
    )
    return after, change
