"""What happened with an incident, one entry after the other: who told whom, who asked, what came of it.

House rule: what a peer wrote is in the texts, so whoever prints them makes them harmless.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.cli.output import Terminal, cell, count, moment
from bridge.log import visible
from bridge.policy import story
from bridge.policy.record import Incident, Interaction, InteractionState, Notices, Way
from bridge.policy.standing import answers_of, standing
from bridge.policy.trust import Rule
from bridge.xep0268.model import Kind

_INDENT = " " * 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened; `details` are lines of their own."""

    at: datetime
    text: str
    details: tuple[str, ...]


def entries(incident: Incident, interactions: Sequence[Interaction], notices: Notices | None) -> list[Entry]:
    """Tell the incident's story, oldest first; `interactions` are all that concern it."""
    texts = story.sentences(incident, interactions)
    found = []
    for one in interactions:
        received = _received(one, notices) if one.way is Way.RECEIVED else ()
        details = (standing(one), *received, *story.details(one), f"interaction {one.id}")
        found.append(Entry(at=one.received_at, text=texts[one.id], details=details))
        if one.way is not Way.RECEIVED:
            found += [Entry(at=each.at, text=text, details=()) for each, text in answers_of(one)]
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


def _received(one: Interaction, notices: Notices | None) -> Iterator[str]:
    """What else there is to say of what a peer sent."""
    yield f"counted as {one.trust}" + (", in quarantine" if one.quarantined else "")
    if one.kind is Kind.REQUEST:
        yield from _request_details(one)
    yield from _told_admins(one, notices)


def _request_details(one: Interaction) -> Iterator[str]:
    """What this host could do about a request, and whether it was answered."""
    for each in story.possible(one):
        yield story.possibility_text(each)
    if one.outcome is None:
        if not one.quarantined:
            yield f"waits for your yes or no: incident-bridge approvals show {one.id}"
        ways = "--done | --declined REASON | --partly --action ACTION"
        yield f"waits for your answer: incident-bridge respond {one.id} {ways}"
    else:
        yield f"you answered: {story.OUTCOMES[one.outcome]}"


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
