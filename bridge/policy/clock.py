"""What is due about an incident that was sent out: remind who could end it, then propose to list that server.

House rules: a step is shown, never taken; it is computed from what was sent and answered, so nothing has to be stored;
only who can act is waited for: a server that the incident names as a source, or that was asked to do something.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from bridge.errors import MalformedError
from bridge.policy.outreach import Verdict
from bridge.policy.record import Incident, Interaction, InteractionState, Outcome, Way
from bridge.xep0268.model import Kind, Status
from bridge.xmpp.jid import Jid


class Step(StrEnum):
    """What may be done next."""

    REMIND = "remind"  # tell them once more, best by another address
    LIST = "list"  # block that server here, and hand the log to a public list


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
        times: how often the server, or its people, were told.
        action: what was asked for last, "" where it was only told.
    """

    incident_id: str
    host: str
    peer: str
    step: Step
    at: datetime
    times: int
    action: str = ""

    @property
    def command(self) -> str:
        """What to type."""
        about = f"--incident {self.incident_id} --to {self.peer}"
        if self.step is Step.LIST:
            return f"incident-bridge incidents act {self.incident_id} --block-domain {self.peer}"
        if self.action:
            return f"incident-bridge request {about} --action {self.action}"
        return f"incident-bridge report {about}"


def next_steps(
    incident: Incident, interactions: Iterable[Interaction], *, rules: Rules
) -> tuple[NextStep, ...]:
    """Say what is next with each server, the first due first; nothing where the incident is over or they answered."""
    if incident.status is Status.RESOLVED:
        return ()
    told: dict[str, list[Interaction]] = {}
    for one in sorted(interactions, key=lambda one: one.received_at):
        if one.way is Way.SENT and one.kind in (Kind.REPORT, Kind.REQUEST) and _can_act(one):
            told.setdefault(one.peer, []).append(one)
    found = [
        _step(incident, peer, sent, rules) for peer, sent in told.items() if not any(map(_is_answered, sent))
    ]
    return tuple(sorted(found, key=lambda one: one.at))


def _step(incident: Incident, peer: str, sent: list[Interaction], rules: Rules) -> NextStep:
    last = sent[-1]
    is_first = len(sent) == 1
    wanted = last.document.expectations if last.kind is Kind.REQUEST else ()
    return NextStep(
        incident_id=incident.id,
        host=incident.host,
        peer=peer,
        step=Step.REMIND if is_first else Step.LIST,
        at=last.received_at + timedelta(days=rules.remind_days if is_first else rules.list_days),
        times=len(sent),
        action=wanted[0].action if wanted else "",
    )


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


def _is_answered(one: Interaction) -> bool:
    """Whether they said what they did, or wrote back; a server's `result` only says that it has it."""
    answers = one.outreach.answers if one.outreach else ()
    is_said = any(each.verdict is not Verdict.NEED_MORE for each in answers)
    return is_said or one.outcome in (Outcome.DONE, Outcome.DECLINED)
