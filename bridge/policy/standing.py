"""How an interaction stands, in words: what `--wait`, `incidents show` and the console say."""

from typing import assert_never

from bridge.policy.lookalike import with_ascii
from bridge.policy.outreach import Channel, Outreach, PersonsAnswer
from bridge.policy.record import Interaction, InteractionState
from bridge.policy.words import count, moment
from bridge.xmpp.stanza import PeerError

_OVER = (
    InteractionState.ACKNOWLEDGED,
    InteractionState.REFUSED,
    InteractionState.UNREACHABLE,
    InteractionState.UNANSWERED,
)


def is_over(interaction: Interaction) -> bool:
    """Whether nothing more will be tried for a sending of ours."""
    return interaction.state in _OVER or (
        interaction.state is InteractionState.SENT and interaction.outreach is not None
    )


def standing(interaction: Interaction) -> str:  # noqa: C901, PLR0911 (a line for each state)
    """Say how far an interaction got; the peer's own words are in it, so it is to be made harmless."""
    at = f" {moment(interaction.state_at)}" if interaction.state_at else ""
    if interaction.outreach is not None and (said := _by_person(interaction, interaction.outreach, at)):
        return said
    tried = count(interaction.attempts, "attempt")
    match interaction.state:
        case InteractionState.STORED:
            return "waits for a worker"
        case InteractionState.DECIDED:
            return f"waits for Prosody since{at}" if at else "waits for Prosody"
        case InteractionState.ANSWERED:
            return f"answered{at}"
        case InteractionState.FAILED:
            return "failed: set aside, see the log"
        case InteractionState.QUEUED:
            return _queued(interaction, tried)
        case InteractionState.SENT:
            return f"sent{at}, no answer yet ({tried})"
        case InteractionState.ACKNOWLEDGED:
            return f"acknowledged{at}{_taken(interaction)} ({tried})"
        case InteractionState.REFUSED:
            return f"refused{at}: {_failure(interaction.failure)}"
        case InteractionState.UNREACHABLE:
            return f"given up{at} after {tried}: not reachable: {_failure(interaction.failure)}"
        case InteractionState.UNANSWERED:
            return f"given up{at} after {tried}: it never answered"
    assert_never(interaction.state)


def _by_person(interaction: Interaction, known: Outreach, at: str) -> str:
    """Say how far it got with the person it went to; "" where the state says it all."""
    if known.answers:
        last = known.answers[-1]
        return f"answered {moment(last.at)} by {_who(last, known)}: {answer_text(last)}"
    if interaction.state is InteractionState.SENT:
        return f"it does not speak XEP-0268; {known.address} was written to by {known.channel}{at}, no answer yet"
    if interaction.state is InteractionState.REFUSED and known.channel is Channel.MAIL:
        ready = f"incident-bridge letter {interaction.id}"
        return f"it does not speak XEP-0268; a text for {known.address} is ready for you to mail: {ready}"
    if interaction.state is InteractionState.QUEUED and not interaction.retry_at:
        return f"it does not speak XEP-0268; {known.address} is written to by {known.channel}"
    return ""


def answer_text(answer: PersonsAnswer) -> str:
    """What a person answered, in one line; hostile."""
    verdict = "" if answer.verdict is None else str(answer.verdict).replace("-", " ")
    return ": ".join(part for part in (verdict, " ".join(answer.text.split())) if part)


def answers_of(interaction: Interaction) -> tuple[tuple[PersonsAnswer, str], ...]:
    """What persons answered to a sending of ours, each with what a timeline says; hostile."""
    known = interaction.outreach
    if known is None:
        return ()
    peer = with_ascii(interaction.peer)
    return tuple(
        (one, f"{_who(one, known)}, for {peer}, answers our {interaction.kind}: {answer_text(one)}")
        for one in known.answers
    )


def _who(answer: PersonsAnswer, known: Outreach) -> str:
    return "whoever has the link" if answer.is_by_page else with_ascii(known.address)


def _queued(interaction: Interaction, tried: str) -> str:
    if not interaction.attempts:
        return "queued, waits to be sent"
    why = f": {_failure(interaction.failure)}" if interaction.failure else ": no answer"
    return f"tried again {moment(interaction.retry_at)} ({tried} failed{why})"


def _taken(interaction: Interaction) -> str:
    if interaction.state_at is None or interaction.sent_at is None:
        return ""
    return f", after {max(0.0, (interaction.state_at - interaction.sent_at).total_seconds()):.1f} s"


def _failure(failure: PeerError | None) -> str:
    if failure is None:
        return "it did not say why"
    text = f"{failure.type}/{failure.condition}{f': {failure.text}' if failure.text else ''}"
    if failure.condition == "service-unavailable":
        return f"it does not speak XEP-0268 ({text})"
    return text
