"""What is due about an incident that was sent out: remind who could end it, then propose to list that server.

House rules: a step is shown, never taken; it is computed from what was sent and answered, so nothing has to be stored;
only who can act is waited for: a server that the incident names as a source, or that was asked to do something; only
what arrived, or was tried and not answered, counts as told, and once a day; a text that settles nothing begins the wait
anew, and ends nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from bridge.errors import MalformedError
from bridge.policy import ways
from bridge.policy.outreach import Verdict
from bridge.policy.record import Incident, Interaction, InteractionState, Outcome, Peer, Way
from bridge.xep0268.model import Kind, Status
from bridge.xmpp.jid import Jid

_NEVER = datetime.min.replace(tzinfo=UTC)


class Step(StrEnum):
    """What may be done next."""

    REMIND = "remind"  # tell them once more, by an address that was not written to yet if there is one
    LIST = "list"  # block that server here, and hand the log to a public list where that is allowed


class Rules(Protocol):
    """How long an answer is waited for; see `[policy]`."""

    @property
    def remind_days(self) -> int: ...  # noqa: D102
    @property
    def list_days(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """One step, and when it is due.

    Attributes:
        times: on how many days the server, or its people, were told; 0: nothing that was tried arrived.
        action: what was asked for last, "" where it was only told.
        way: how the reminder would go if the server itself does not take it, "" where that is not known.
        may_be_published: whether the log may go to a public list.
    """

    incident_id: str
    host: str
    peer: str
    step: Step
    at: datetime
    times: int
    action: str = ""
    way: str = ""
    may_be_published: bool = True

    @property
    def command(self) -> str:
        """What to type."""
        about = f"--incident {self.incident_id} --to {self.peer}"
        if self.step is Step.LIST:
            return f"incident-bridge incidents act {self.incident_id} --block-domain {self.peer}"
        if self.action:
            return f"incident-bridge request {about} --action {self.action}"
        return f"incident-bridge report {about}"

    @property
    def log_command(self) -> str:
        """What to type for the log that a public list wants; "" where there is nothing to propose, or it may not be."""
        if self.step is not Step.LIST or not self.may_be_published:
            return ""
        return f"incident-bridge incidents export {self.incident_id} --form log"


def next_steps(
    incident: Incident,
    interactions: Iterable[Interaction],
    *,
    rules: Rules,
    peers: Mapping[str, Peer] = MappingProxyType({}),
) -> tuple[NextStep, ...]:
    """Say what is next with each server, the first due first; nothing where the incident is over or they settled it.

    Args:
        incident: what it is about.
        interactions: all about it.
        rules: how long an answer is waited for.
        peers: what is known of these servers, by domain, to say by which way they would be reminded.
    """
    if incident.status is Status.RESOLVED:
        return ()
    told: dict[str, list[Interaction]] = {}
    for one in sorted(interactions, key=lambda one: one.received_at):
        if one.way is Way.SENT and one.kind in (Kind.REPORT, Kind.REQUEST) and _can_act(one):
            told.setdefault(one.peer, []).append(one)
    found = [
        _step(incident, sent, rules, peers.get(peer))
        for peer, sent in told.items()
        if not any(map(_is_settled, sent))
    ]
    return tuple(sorted(found, key=lambda one: one.at))


def _step(incident: Incident, sent: list[Interaction], rules: Rules, peer: Peer | None) -> NextStep:
    last = sent[-1]
    told = _days_told(sent)
    is_listed = len(told) > 1
    days = rules.list_days if is_listed else rules.remind_days
    at = (told[-1] if told else last.received_at) + timedelta(days=days)
    heard = max(map(_heard_at, sent), key=lambda one: one or _NEVER)
    if heard is not None:
        at = max(at, heard + timedelta(days=rules.remind_days))
    wanted = last.document.expectations if last.kind is Kind.REQUEST else ()
    is_asked = not is_listed and peer is not None and peer.announces is not True
    return NextStep(
        incident_id=incident.id,
        host=incident.host,
        peer=last.peer,
        step=Step.LIST if is_listed else Step.REMIND,
        at=at,
        times=len(told),
        action=wanted[0].action if wanted else "",
        way=ways.described(peer.contacts, sent, now=at) if peer is not None and is_asked else "",
        may_be_published=incident.is_own and not incident.only_to,
    )


def _days_told(sent: list[Interaction]) -> list[datetime]:
    """When they were told, where what came within a day of that counts as the same."""
    told: list[datetime] = []
    for at in sorted(at for one in sent for at in ways.told_at(one)):
        if not told or at - told[-1] >= ways.APART:
            told.append(at)
    return told


def _can_act(one: Interaction) -> bool:
    if one.state is InteractionState.QUEUED and not one.attempts:
        return False
    return one.kind is Kind.REQUEST or any(
        _domain(source.jid or source.address) == one.peer for source in one.document.sources
    )


def _domain(address: str) -> str:
    try:
        return Jid.parse(address).domain
    except MalformedError:
        return ""


def _heard_at(one: Interaction) -> datetime | None:
    """When a person wrote back last without settling it."""
    return max((each.at for each in one.outreach.answers), default=None) if one.outreach else None


def _is_settled(one: Interaction) -> bool:
    """Whether they said that it is done or will not be; any text may be a machine's, a `result` says they have it."""
    answers = one.outreach.answers if one.outreach else ()
    is_said = any(each.verdict in (Verdict.DONE, Verdict.DECLINED) for each in answers)
    return is_said or one.outcome in (Outcome.DONE, Outcome.DECLINED)
