"""How far a sending got with people, and by which way it goes on: what clocks, logs, letters and the next sending ask.

House rules: what came back as not delivered told nobody; who was told within a day was told once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from bridge.policy.outreach import MAX_CONTACTS, Channel, Contact, Outreach, Tried, choose
from bridge.policy.record import Interaction, InteractionState, Way
from bridge.xep0268.model import Kind

APART = timedelta(days=1)
"""What comes sooner after something that arrived belongs to it: the same contact, and to the same person."""
NOT_SPOKEN = ("service-unavailable", "feature-not-implemented")
_LOST = (InteractionState.UNREACHABLE, InteractionState.UNANSWERED)
_FAILED = (InteractionState.REFUSED, InteractionState.UNREACHABLE)


def may_go_to_people(interaction: Interaction) -> bool:
    """Whether a person may be told instead of the server: only what an operator sends."""
    is_ours = interaction.way is Way.SENT and interaction.copy_of is None and interaction.answers is None
    return is_ours and interaction.kind in (Kind.REPORT, Kind.REQUEST)


def is_delivered(interaction: Interaction) -> bool:
    """Whether the server acknowledged it, or a person was written to and nothing came back as not delivered."""
    if interaction.state is InteractionState.SENT:
        return interaction.outreach is not None
    return interaction.state is InteractionState.ACKNOWLEDGED


def has_failed(interaction: Interaction) -> bool:
    """Whether the person written to last did not get it, and nobody else is tried."""
    known = interaction.outreach
    return known is not None and known.channel is Channel.CHAT and interaction.state in _FAILED


def told_at(interaction: Interaction) -> tuple[datetime, ...]:
    """When somebody there was told by it, or it was at least tried and not answered."""
    known = interaction.outreach
    earlier = tuple(one.at for one in known.tried if one.failure is None) if known else ()
    at = interaction.sent_at if known else interaction.first_sent_at
    is_tried = known is None and (
        interaction.state in (InteractionState.SENT, InteractionState.UNANSWERED)
        or (interaction.state is InteractionState.QUEUED and interaction.attempts and not interaction.failure)
    )
    return (*earlier, at or interaction.received_at) if is_delivered(interaction) or is_tried else earlier


def tried(interaction: Interaction, *, at: datetime) -> tuple[Tried, ...]:
    """All that was tried for it, with the person that it went to last; that one did not get it if it has a failure."""
    known = interaction.outreach
    if known is None:
        return ()
    if known.tried and (known.tried[-1].channel, known.tried[-1].address) == (known.channel, known.address):
        return known.tried
    last = Tried(channel=known.channel, address=known.address, at=at, failure=interaction.failure)
    return (*known.tried, last)


def next_contact(
    interaction: Interaction, contacts: Sequence[str] | None, others: Iterable[Interaction], *, now: datetime
) -> Outreach | None:
    """Choose whom a sending goes to next, after the server or the last person did not take it.

    Args:
        interaction: with the failure noted.
        contacts: what the server announces.
        others: sendings to the same server about the same incident; a second contact goes to somebody else, if there
            is one, and best to nobody whom the first did not reach.
        now: the time.

    Returns:
        None where everybody was tried, or nobody may be told.
    """
    before = tried(interaction, at=now)
    if len(before) >= MAX_CONTACTS or not may_go_to_people(interaction):
        return None
    chosen = choose(
        contacts or (),
        without=[(one.channel, one.address) for one in before],
        rather_not=_known(others, now=now),
    )
    if chosen is None:
        return None
    answers = interaction.outreach.answers if interaction.outreach else ()
    return replace(chosen, answers=answers, tried=before)


def described(contacts: Sequence[str] | None, others: Iterable[Interaction], *, now: datetime) -> str:
    """Say by which way a further sending would go, should the server itself not take it; "": that is not known."""
    known = choose(contacts or (), rather_not=_known(others, now=now))
    return "" if known is None else f"by {known.channel} to {known.address}"


def _known(others: Iterable[Interaction], *, now: datetime) -> tuple[list[Contact], list[Contact]]:
    """Who was written to before, and whom that did not reach."""
    written: list[Contact] = []
    lost: list[Contact] = []
    for one in others:
        known = one.outreach
        if known is None:
            continue
        lost += [(each.channel, each.address) for each in known.tried if each.failure is not None]
        earlier = [each for each in known.tried if each.failure is None]
        written += [(each.channel, each.address) for each in earlier if now - each.at >= APART]
        if has_failed(one):
            lost.append((known.channel, known.address))
        elif is_delivered(one) and now - (one.sent_at or one.received_at) >= APART:
            written.append((known.channel, known.address))
    return written, lost


def by_mail(interaction: Interaction, contacts: Sequence[str] | None) -> Outreach | None:
    """Say whom the operator may mail it to; None: there is nothing to be mailed, or it was.

    Where nobody could be reached and no mail address is announced the address is "": the operator may know one.
    """
    known, state = interaction.outreach, interaction.state
    if known is not None and known.channel is Channel.MAIL:
        return known if state is InteractionState.REFUSED else None
    is_lost = has_failed(interaction) or (known is None and (state in _LOST or _is_not_spoken(interaction)))
    is_unanswered = known is not None and state is InteractionState.SENT
    if not may_go_to_people(interaction) or not (is_lost or is_unanswered):
        return None
    chosen = choose(uri for uri in contacts or () if uri.startswith("mailto:"))
    if chosen is None and is_unanswered:
        return None
    chosen = chosen or Outreach(channel=Channel.MAIL, address="")
    at = interaction.sent_at if is_unanswered else interaction.state_at
    before = tried(interaction, at=at or interaction.received_at)
    if known is None:
        return replace(chosen, is_server_away=state in _LOST)
    return replace(chosen, answers=known.answers, tried=before, is_server_away=known.is_server_away)


def _is_not_spoken(interaction: Interaction) -> bool:
    failure = interaction.failure
    is_refused = interaction.state is InteractionState.REFUSED
    return is_refused and failure is not None and failure.condition in NOT_SPOKEN
