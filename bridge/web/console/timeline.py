"""What happened with an incident, one entry after the other, for its page.

House rule: what a peer wrote stands in the entries as it is; the templates make it harmless.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bridge.policy.approval import possibilities
from bridge.policy.decisions import MitigationType
from bridge.policy.lookalike import with_ascii
from bridge.policy.record import Incident, Interaction, InteractionState, Outcome, Way
from bridge.policy.standing import answers_of, standing
from bridge.policy.trust import Trust
from bridge.xep0268.model import Kind, Status

_COULD: Final = {
    MitigationType.SUSPEND: "suspend the account",
    MitigationType.BLOCK: "block the domain",
    MitigationType.BAN: "ban it from rooms",
}
_OUTCOMES: Final = {
    Outcome.DONE: "done",
    Outcome.DECLINED: "declined",
    Outcome.PARTLY: "partly done",
    None: "it does not say what was done",
}
_MOST_DETAILS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened.

    Attributes:
        mood: "in" came from a peer, "out" went to one, "wait" needs the operator, "bad" went wrong.
        standing: how far the interaction got.
    """

    at: datetime
    mood: str
    text: str
    standing: str
    details: tuple[str, ...]
    interaction: Interaction


def entries(incident: Incident, interactions: Sequence[Interaction]) -> list[Entry]:
    """Tell the incident's story, oldest first; `interactions` are all that concern it."""
    statuses = {edition.interaction_id: edition.status for edition in incident.editions}
    by_id = {one.id: one for one in interactions}
    found = []
    for one in interactions:
        is_received = one.way is Way.RECEIVED
        text, details = _received(one, statuses, by_id) if is_received else _sent(one, incident, by_id)
        found.append(
            Entry(
                at=one.received_at,
                mood=_mood(one),
                text=text,
                standing=standing(one),
                details=details[:_MOST_DETAILS],
                interaction=one,
            )
        )
        found += [
            Entry(
                at=each.at,
                mood="in",
                text=text,
                standing="on the answer page" if each.is_by_page else "by chat",
                details=(),
                interaction=one,
            )
            for each, text in answers_of(one)
        ]
    return sorted(found, key=lambda one: one.at)


_BAD: Final = (
    InteractionState.REFUSED,
    InteractionState.UNREACHABLE,
    InteractionState.UNANSWERED,
    InteractionState.FAILED,
)


def is_bad(one: Interaction) -> bool:
    """Whether it did not get where it should."""
    return one.state in _BAD


def waits(one: Interaction) -> bool:
    """Whether it is a request that nobody here answered."""
    return one.kind is Kind.REQUEST and one.way is Way.RECEIVED and one.outcome is None


def _mood(one: Interaction) -> str:
    if is_bad(one):
        return "bad"
    if waits(one):
        return "wait"
    return "in" if one.way is Way.RECEIVED else "out"


def _received(
    one: Interaction, statuses: Mapping[str, Status], by_id: Mapping[str, Interaction]
) -> tuple[str, tuple[str, ...]]:
    peer = with_ascii(one.sender)
    match one.kind:
        case Kind.REPORT:
            status = statuses.get(one.id, one.status)
            told = f"{peer} reported it as {status}" if status else f"{peer} reported it"
            return told + (", as the answer to our inquiry" if one.answers in by_id else ""), ()
        case Kind.REQUEST:
            return f"{peer} asks for {_actions(one)}", _possible(one)
        case Kind.RESPONSE:
            asked = by_id.get(one.answers or "")
            if asked is None:
                return f"{peer} answers a request that nobody here made", _history(one)
            return f"{peer} answers our request: {_OUTCOMES[asked.outcome]}", _history(one)
        case Kind.INQUIRY:
            return f"{peer} asks what we know", ()


def _sent(
    one: Interaction, incident: Incident, by_id: Mapping[str, Interaction]
) -> tuple[str, tuple[str, ...]]:
    peer = with_ascii(one.peer)
    match one.kind:
        case Kind.REPORT:
            if one.answers:
                return f"{peer} asked what we know, and was told", ()
            verb = "reported" if incident.is_own else "forwarded"
            return f"We {verb} it to {peer}" + (f" as {one.status}" if one.status else ""), ()
        case Kind.REQUEST:
            answer = (
                f"the answer: {_OUTCOMES[one.outcome]}" if one.outcome else "not answered by a response yet"
            )
            return f"We asked {peer} for {_actions(one)}", (answer,)
        case Kind.INQUIRY:
            return f"We asked {peer} what it knows", ()
        case Kind.RESPONSE:
            asked = by_id.get(one.answers or "")
            outcome = f": {_OUTCOMES[asked.outcome]}" if asked and asked.outcome else ""
            return f"We answered the request of {peer}{outcome}", _history(one)


def _actions(one: Interaction) -> str:
    wanted = dict.fromkeys(expectation.action for expectation in one.document.expectations)
    return ", ".join(wanted) or "nothing that it names"


def _history(one: Interaction) -> tuple[str, ...]:
    """What the last item of a response's History says; the ones before are the incident's."""
    if not one.document.history:
        return ()
    last = one.document.history[-1]
    text = "; ".join(text.text for text in last.descriptions)
    return (f"{last.action}: {text}" if text else last.action,)


def _possible(one: Interaction) -> tuple[str, ...]:
    """What this host could do about a request, and whether it was answered."""
    trust = Trust.STRANGER if one.quarantined else one.trust
    found = []
    for each in possibilities(one.document, host=one.host, trust=trust):
        about = f"{each.action} of {with_ascii(each.address)}" if each.address else each.action
        could = (
            f"you could {_COULD[each.mitigation]}" if each.mitigation else f"nothing we can do: {each.reason}"
        )
        found.append(f"{about}: {could}")
    answer = "waits for your answer" if one.outcome is None else f"you answered: {_OUTCOMES[one.outcome]}"
    return (*found[: _MOST_DETAILS - 1], answer)
