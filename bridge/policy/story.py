"""What happened with an incident, in the words that the terminal and the console share.

House rule: what a peer wrote is in these texts as it is; whoever shows them makes it harmless.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from bridge.policy.approval import Possibility, possibilities
from bridge.policy.decisions import MitigationType
from bridge.policy.lookalike import with_ascii
from bridge.policy.record import Incident, Interaction, InteractionState, Outcome, Way
from bridge.policy.trust import Trust
from bridge.policy.ways import is_delivered
from bridge.xep0268.model import Kind

OUTCOMES: Final = {
    Outcome.DONE: "done",
    Outcome.DECLINED: "declined",
    Outcome.PARTLY: "partly done",
    None: "it does not say what was done",
}
_NOT_ARRIVED: Final = (
    InteractionState.REFUSED,
    InteractionState.UNREACHABLE,
    InteractionState.UNANSWERED,
)
_COULD: Final = {
    MitigationType.SUSPEND: "suspend the account",
    MitigationType.BLOCK: "block the domain",
    MitigationType.BAN: "ban it from rooms",
}


def sentences(incident: Incident, interactions: Sequence[Interaction]) -> Mapping[str, str]:
    """Say of each interaction, by its id, what it was; `interactions` are all that concern the incident."""
    by_id = {one.id: one for one in interactions}
    return {
        one.id: _received(one, incident, by_id) if one.way is Way.RECEIVED else _sent(one, incident, by_id)
        for one in interactions
    }


def _received(one: Interaction, incident: Incident, by_id: Mapping[str, Interaction]) -> str:
    peer = with_ascii(one.sender)
    match one.kind:
        case Kind.REPORT:
            statuses = {edition.interaction_id: edition.status for edition in incident.editions}
            status = statuses.get(one.id, one.status)
            told = f"{peer} reported it as {status}" if status else f"{peer} reported it"
            return told + (", as the answer to our inquiry" if one.answers in by_id else "")
        case Kind.REQUEST:
            return f"{peer} asks for {_actions(one)}"
        case Kind.RESPONSE:
            asked = by_id.get(one.answers or "")
            if asked is None:
                return f"{peer} answers a request that nobody here made"
            return f"{peer} answers our request: {OUTCOMES[asked.outcome]}"
        case Kind.INQUIRY:
            return f"{peer} asks what we know"


def _sent(one: Interaction, incident: Incident, by_id: Mapping[str, Interaction]) -> str:
    peer = with_ascii(one.peer)
    match one.kind:
        case Kind.REPORT:
            if one.answers:
                return f"{peer} asked what we know, and was told"
            tell, told = ("report", "reported") if incident.is_own else ("forward", "forwarded")
            verb = f"tried to {tell}" if one.state in _NOT_ARRIVED else told
            return f"we {verb} it to {peer}" + (f" as {one.status}" if one.status else "") + _way(one)
        case Kind.REQUEST:
            verb = "tried to ask" if one.state in _NOT_ARRIVED else "asked"
            return f"we {verb} {peer} for {_actions(one)}{_way(one)}"
        case Kind.INQUIRY:
            return f"we asked {peer} what it knows"
        case Kind.RESPONSE:
            asked = by_id.get(one.answers or "")
            outcome = f": {OUTCOMES[asked.outcome]}" if asked and asked.outcome else ""
            return f"we answered the request of {peer}{outcome}"


def _way(one: Interaction) -> str:
    """By which way a person was told; "" where the server itself was, or nobody yet."""
    known = one.outreach
    if known is None or not is_delivered(one):
        return ""
    return f", by {known.channel}" + (f" to {with_ascii(known.address)}" if known.address else "")


def details(one: Interaction) -> tuple[str, ...]:
    """What there is to say besides: what a response did, what came of a request of ours."""
    if one.kind is Kind.RESPONSE:
        return _history(one)
    if one.kind is Kind.REQUEST and one.way is not Way.RECEIVED:
        answered = f"the answer: {OUTCOMES[one.outcome]}" if one.outcome else "not answered by a response yet"
        return (answered,)
    return ()


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


def possible(one: Interaction) -> tuple[Possibility, ...]:
    """What this host could do about a request that it received; nothing for everything else."""
    if one.kind is not Kind.REQUEST or one.way is not Way.RECEIVED:
        return ()
    trust = Trust.STRANGER if one.quarantined else one.trust
    return possibilities(one.document, host=one.host, trust=trust)


def possibility_text(one: Possibility) -> str:
    """`block-host of abuser@here.example: you could suspend the account`."""
    about = f"{one.action} of {with_ascii(one.address)}" if one.address else one.action
    if one.mitigation is None:
        return f"{about}: nothing we can do: {one.reason}"
    return f"{about}: you could {_COULD[one.mitigation]}"
