"""What an approval is about, one target after the other, for whoever decides: what, what it touches, what to beware of.

House rule: addresses are hostile; the words here carry them as they are and the templates make them harmless.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bridge.errors import UnavailableError
from bridge.pipeline.approve import protected_now
from bridge.pipeline.preview import previewed
from bridge.policy.approval import touched
from bridge.policy.decisions import Approval, Target, TargetState
from bridge.policy.effects import effects, is_ticked, is_vain, would
from bridge.policy.lookalike import alike, with_ascii
from bridge.policy.mitigation import about
from bridge.web.console import find
from bridge.web.console.guard import Visit
from bridge.web.prosody import prosody

_STATES: Final = {
    TargetState.OFFERED: "",
    TargetState.SHOWN: "cannot be done here",
    TargetState.LEFT_OUT: "left out",
    TargetState.APPROVED: "being carried out",
    TargetState.APPLIED: "done",
    TargetState.FAILED: "failed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One target as a page shows it.

    Attributes:
        value: what a form calls it; "" where nothing can be done.
        text: what would be done, or what was asked for.
        is_vain: Prosody would refuse it, or there is nobody.
        is_chosen: whether it is ticked.
    """

    value: str
    text: str
    effects: tuple[str, ...]
    second_yes: str
    reason: str
    state: TargetState
    said: str
    mitigation_id: str | None
    is_vain: bool
    is_chosen: bool


def choices(targets: Iterable[Target], chosen: Collection[str] | None = None) -> list[Choice]:
    """Word the targets; `chosen` None: those are ticked that one yes is enough for and that are not in vain."""
    return [_choice(one, chosen) for one in targets]


def _choice(target: Target, chosen: Collection[str] | None) -> Choice:
    value = about(target.type, target.fields)
    return Choice(
        value=value,
        text=worded(target),
        effects=effects(target),
        second_yes=target.second_yes,
        reason=target.reason,
        state=target.state,
        said=_STATES[target.state],
        mitigation_id=target.mitigation_id,
        is_vain=is_vain(target),
        is_chosen=is_ticked(target) if chosen is None else value in chosen,
    )


def worded(target: Target) -> str:
    """What would be done, with what is not ASCII in ASCII too; else what was asked for."""
    if target.type is not None:
        return would(replace(target, fields={name: with_ascii(one) for name, one in target.fields.items()}))
    return f"{target.action} of {with_ascii(target.address)}" if target.address else target.action


def summary(targets: Sequence[Target]) -> str:
    """A line on all of them."""
    possible = [worded(one) for one in targets if one.type is not None]
    shown, more = possible[:2], len(possible) - 2
    if more > 0:
        shown.append(f"and {more} more")
    return ", ".join(shown) or "nothing that can be done here"


def headline(approval: Approval) -> str:
    """Who wants what."""
    if approval.requester:
        actions = ", ".join(dict.fromkeys(one.action for one in approval.targets)) or "nothing that it names"
        return f"{with_ascii(approval.requester)} asks for {actions}{_whom(approval.targets)}"
    return f"Unasked: {summary(approval.targets)}"


def _whom(targets: Sequence[Target]) -> str:
    addresses = list(dict.fromkeys(one.address for one in targets if one.address))
    if len(addresses) == 1:
        return f" of {with_ascii(addresses[0])}"
    return f" of {len(addresses)} addresses" if addresses else ""


async def beware(visit: Visit, host: str, targets: Iterable[Target], *more: str) -> list[tuple[str, str]]:
    """Addresses that only look like one that the operator knows, with that one."""
    jids = [str(jid) for one in targets if (jid := touched(one)) is not None]
    known = await find.known_names(visit.store, host)
    listed = {name.rpartition("@")[2] for name in visit.service.settings.policy.protected}
    return alike([*filter(None, more), *jids], known | listed)


async def foreseen(visit: Visit, draft: Approval) -> tuple[Approval, str]:
    """Ask Prosody what its targets' mitigations would touch; with why that is not known, "" where it is."""
    rules = visit.service.settings.policy
    try:
        async with prosody(visit.service.settings) as server:
            return await previewed(visit.store, server, draft, rules=rules, now=visit.now), ""
    except UnavailableError as error:
        unknown = f"What it would touch is not known: {error}. What you do now is tried for a day."
        return await protected_now(visit.store, draft, rules), unknown
