"""What happened with an incident, one entry after the other, for its page.

House rule: what a peer wrote stands in the entries as it is; the templates make it harmless.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bridge.policy import story, ways
from bridge.policy.record import Incident, Interaction, InteractionState, Way
from bridge.policy.standing import answers_of, standing
from bridge.xep0268.model import Kind

_MOST_DETAILS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened.

    Attributes:
        mood: "in" came from a peer, "out" went to one, "wait" needs the operator, "bad" went wrong.
        standing: how far the interaction got.
        has_letter: there is a text of it for people.
    """

    at: datetime
    mood: str
    text: str
    standing: str
    details: tuple[str, ...]
    interaction: Interaction
    has_letter: bool


def entries(incident: Incident, interactions: Sequence[Interaction]) -> list[Entry]:
    """Tell the incident's story, oldest first; `interactions` are all that concern it."""
    texts = story.sentences(incident, interactions)
    found = []
    for one in interactions:
        details = (
            _possible(one) if one.way is Way.RECEIVED and one.kind is Kind.REQUEST else story.details(one)
        )
        found.append(
            Entry(
                at=one.received_at,
                mood=_mood(one),
                text=texts[one.id],
                standing=standing(one),
                details=details[:_MOST_DETAILS],
                interaction=one,
                has_letter=one.outreach is not None or ways.by_mail(one, None) is not None,
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
                has_letter=True,
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


def _possible(one: Interaction) -> tuple[str, ...]:
    """What this host could do about a request, and whether it was answered."""
    found = [story.possibility_text(each) for each in story.possible(one)]
    answer = (
        "waits for your answer" if one.outcome is None else f"you answered: {story.OUTCOMES[one.outcome]}"
    )
    return (*found[: _MOST_DETAILS - 1], answer)
