"""What happened with an incident, one entry after the other: who told whom, who asked, what came of it.

House rule: what a peer wrote is in the texts, so whoever prints them makes them harmless.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.cli.lookalike import address_cell
from bridge.cli.output import Terminal, cell, count, moment
from bridge.log import visible
from bridge.policy.approval import Possibility, possibilities
from bridge.policy.record import Incident, Interaction, InteractionState, Notices, Outcome, Way
from bridge.policy.standing import answers_of, standing
from bridge.policy.trust import Rule, Trust
from bridge.xep0268.model import Kind, Status

_MITIGATIONS = {
    "account.suspend": "suspend the account",
    "domain.block": "block the domain",
    "room.ban": "ban it from rooms",
}
_OUTCOMES = {
    Outcome.DONE: "done",
    Outcome.DECLINED: "declined",
    Outcome.PARTLY: "partly done",
    None: "it does not say what was done",
}
_INDENT = " " * 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened; `details` are lines of their own."""

    at: datetime
    text: str
    details: tuple[str, ...]


def entries(incident: Incident, interactions: Sequence[Interaction], notices: Notices | None) -> list[Entry]:
    """Tell the incident's story, oldest first; `interactions` are all that concern it."""
    statuses = {edition.interaction_id: edition.status for edition in incident.editions}
    by_id = {one.id: one for one in interactions}
    found = []
    for one in interactions:
        if one.way is Way.RECEIVED:
            text, details = _received(one, statuses, by_id)
            details += _told_admins(one, notices)
        else:
            text, details = _sent(one, incident, by_id)
            found += [Entry(at=each.at, text=text, details=()) for each, text in answers_of(one)]
        details = (f"{standing(one)}", *details, f"interaction {one.id}")
        found.append(Entry(at=one.received_at, text=text, details=details))
    for item in incident.history:
        text = "; ".join(one.text for one in item.descriptions)
        found.append(Entry(at=item.at or incident.updated_at, text=f"this host: {text}", details=()))
    return sorted(found, key=lambda one: one.at)


def print_entries(found: Iterable[Entry], terminal: Terminal) -> None:
    """Print the story."""
    for entry in found:
        terminal.line(f"  {moment(entry.at)}  {visible(entry.text)}")
        for line in entry.details:
            terminal.line(f"{_INDENT}{cell(line)}")


def _received(
    one: Interaction, statuses: Mapping[str, Status], by_id: Mapping[str, Interaction]
) -> tuple[str, tuple[str, ...]]:
    peer = address_cell(one.sender)
    counted = f"counted as {one.trust}" + (", in quarantine" if one.quarantined else "")
    match one.kind:
        case Kind.REPORT:
            status = statuses.get(one.id, one.status)
            told = f"{peer} reported it as {status}" if status else f"{peer} reported it"
            answer = ", as the answer to our inquiry" if one.answers in by_id else ""
            return told + answer, (counted,)
        case Kind.REQUEST:
            return f"{peer} asks for {_actions(one)}", (counted, *_request_details(one))
        case Kind.RESPONSE:
            asked = by_id.get(one.answers or "")
            if asked is None:
                return f"{peer} answers a request that nobody here made", (counted, *_history(one))
            return f"{peer} answers our request: {_OUTCOMES[asked.outcome]}", (counted, *_history(one))
        case Kind.INQUIRY:
            return f"{peer} asks what we know", (counted,)


def _sent(
    one: Interaction, incident: Incident, by_id: Mapping[str, Interaction]
) -> tuple[str, tuple[str, ...]]:
    peer = address_cell(one.peer)
    match one.kind:
        case Kind.REPORT:
            status = f" as {one.status}" if one.status else ""
            if one.answers:
                return f"{peer} asked what we know, and was told", ()
            verb = "reported" if incident.is_own else "forwarded"
            return f"we {verb} it to {peer}{status}", ()
        case Kind.REQUEST:
            outcome = (
                f"the answer: {_OUTCOMES[one.outcome]}" if one.outcome else "not answered by a response yet"
            )
            return f"we asked {peer} for {_actions(one)}", (outcome,)
        case Kind.INQUIRY:
            return f"we asked {peer} what it knows", ()
        case Kind.RESPONSE:
            asked = by_id.get(one.answers or "")
            outcome = f": {_OUTCOMES[asked.outcome]}" if asked and asked.outcome else ""
            return f"we answered the request of {peer}{outcome}", _history(one)


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


def _request_details(one: Interaction) -> Iterator[str]:
    """What this host could do about a request, and whether it was answered."""
    for each in possible(one):
        yield possibility_text(each)
    if one.outcome is None:
        if not one.quarantined:
            yield f"waits for your yes or no: incident-bridge approvals show {one.id}"
        ways = "--done | --declined REASON | --partly --action ACTION"
        yield f"waits for your answer: incident-bridge respond {one.id} {ways}"
    else:
        yield f"you answered: {_OUTCOMES[one.outcome]}"


def possible(one: Interaction) -> tuple[Possibility, ...]:
    """What this host could do about a request that it received; nothing for everything else."""
    if one.kind is not Kind.REQUEST or one.way is not Way.RECEIVED:
        return ()
    trust = Trust.STRANGER if one.quarantined else one.trust
    return possibilities(one.document, host=one.host, trust=trust)


def possibility_text(one: Possibility) -> str:
    """`block-host of abuser@here.example: you could suspend the account`."""
    about = f"{one.action} of {address_cell(one.address)}" if one.address else one.action
    if one.mitigation is None:
        return f"{about}: nothing we can do: {one.reason}"
    return f"{about}: you could {_MITIGATIONS.get(one.mitigation, one.mitigation)}"


def _told_admins(one: Interaction, notices: Notices | None) -> tuple[str, ...]:
    """Whether the admins were told by chat; one that waits for a worker is not told of yet."""
    if one.state is InteractionState.STORED or not (one.quarantined or one.rule is Rule.NOTIFY):
        return ()
    told_at = notices and (notices.digest_told_at if one.quarantined else notices.told_at)
    if told_at and told_at >= one.received_at:
        return ("the admins were told by chat",)
    return (
        "the admins are told by chat, in the next digest"
        if one.quarantined
        else "the admins are told by chat",
    )


def summary_of(found: Sequence[Interaction]) -> str:
    """`3 interactions, 1 request waits for an answer`."""
    waiting = sum(
        one.kind is Kind.REQUEST and one.way is Way.RECEIVED and one.outcome is None for one in found
    )
    more = f", {count(waiting, 'request waits', 'requests wait')} for your answer" if waiting else ""
    return count(len(found), "interaction") + more
