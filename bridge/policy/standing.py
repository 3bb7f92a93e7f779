"""How an interaction stands, in words: what `--wait`, `incidents show` and the console say."""

from typing import assert_never

from bridge.policy import ways
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
    if interaction.outreach is not None:
        return _by_person(interaction, interaction.outreach, at)
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
    """Say how far it got with the persons it went to."""
    if known.answers:
        last = known.answers[-1]
        return f"answered {moment(last.at)} by {_who(last, known)}: {answer_text(last)}"
    before = "".join(f"; {one}" for one in attempts_by_person(interaction)[:-1])
    why = "its server did not answer" if known.is_server_away else "it does not speak XEP-0268"
    return f"{why}{before}; {_last_person(interaction, known, at)}"


def _last_person(interaction: Interaction, known: Outreach, at: str) -> str:
    to, ready = with_ascii(known.address), f"incident-bridge letter {interaction.id}"
    if interaction.state is InteractionState.SENT:
        return f"{to or 'its people'} {'were' if not to else 'was'} written to by {known.channel}{at}, no answer yet"
    if known.channel is Channel.MAIL:
        return f"a text for {to} is ready for you to mail: {ready}"
    if interaction.state is not InteractionState.QUEUED:
        lost = f"{to} did not get it by {known.channel}{at}: {_reason(interaction.failure)}"
        return f"{lost}; it reached nobody, to mail it: {ready}"
    if interaction.retry_at is None:
        return f"{to} is written to by {known.channel}"
    again = f"is tried again {moment(interaction.retry_at)}"
    return f"{to} did not get it by {known.channel} yet and {again}: {_reason(interaction.failure)}"


def attempts_by_person(interaction: Interaction) -> tuple[str, ...]:
    """By which ways it was tried to reach a person, oldest first; the last one is the present one."""
    known = interaction.outreach
    if known is None:
        return ()
    tried = ways.tried(interaction, at=interaction.state_at or interaction.received_at)
    return tuple(
        f"{with_ascii(one.address)} was written to by {one.channel} {moment(one.at)}, no answer"
        if one.failure is None
        else f"{with_ascii(one.address)} did not get it by {one.channel}: {_reason(one.failure)}"
        for one in tried
    )


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
    return "whoever has the link" if answer.is_by_page else with_ascii(answer.address or known.address)


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
    if failure.condition == "service-unavailable":
        return f"it does not speak XEP-0268 ({_reason(failure)})"
    return _reason(failure)


def _reason(failure: PeerError | None) -> str:
    if failure is None:
        return "it did not say why"
    return f"{failure.type}/{failure.condition}{f': {failure.text}' if failure.text else ''}"
