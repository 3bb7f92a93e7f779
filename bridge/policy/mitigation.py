"""From an operator's yes to what is done, undone and over (DESIGN §5 "Approval and mitigation").

House rules: deciding twice gives the same, so a mitigation's id is made from its approval's and its target's; what is
settled stays settled; what a peer is told never says who decided, nor why something failed here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bridge.errors import ConfigError
from bridge.iodef.model import HistoryItem, Text
from bridge.policy.approval import MAX_TARGETS
from bridge.policy.decisions import (
    Approval,
    ApprovalState,
    Mitigation,
    MitigationState,
    MitigationType,
    Target,
    TargetState,
)
from bridge.policy.record import MAX_HISTORY, Incident, Outcome, derived_id
from bridge.policy.words import count

GIVE_UP_SECONDS = 86_400
RETRY_SECONDS = (5, 15, 30, 60)
"""After the first try that found Prosody away, the second, and so on; the last one again and again."""

_MOST_REASON_BYTES = 500
_NOT_DONE = {
    TargetState.LEFT_OUT: "its operators left it out",
    TargetState.FAILED: "it could not be carried out",
    TargetState.APPROVED: "it was not carried out",
    TargetState.OFFERED: "it was not carried out",
}


class ProtectedError(ConfigError):
    """It touches protected names, and the operator did not say yes to that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yes:
    """An operator's yes.

    Attributes:
        by: who, as in `change.Audit`; `origin`: from which address.
        expires_at: when the mitigations end.
        is_second: it covers protected names too.
        is_automatic: a rule said it.
        reason: for people; never text of a document.
    """

    by: str
    at: datetime
    expires_at: datetime
    origin: str = ""
    is_second: bool = False
    is_automatic: bool = False
    reason: str = ""


def chosen(approval: Approval, addresses: Sequence[str] | None) -> frozenset[int]:
    """Find the targets meant, by their place; None: all that are offered.

    Args:
        approval: whose targets.
        addresses: each as the request names it, or as `about` does, or the JID that it is about.

    Raises:
        ConfigError: one is not offered, or nothing is, or too many are.
    """
    offered = [n for n, one in enumerate(approval.targets) if one.state is TargetState.OFFERED]
    if addresses is None:
        found = frozenset(offered)
    else:
        found = frozenset(n for text in addresses for n in _named(approval, offered, text))
    if not found:
        raise ConfigError(
            "nothing that is asked for can be carried out here; decline it, or answer it yourself"
        )
    if len(found) > MAX_TARGETS:
        raise ConfigError(
            f"one yes covers {MAX_TARGETS} targets, these are {len(found)}; choose some of them"
        )
    return found


def _named(approval: Approval, offered: Iterable[int], text: str) -> list[int]:
    found = [n for n in offered if text in _names(approval.targets[n])]
    if not found:
        raise ConfigError(f"{text} is not among what can be approved")
    return found


def _names(target: Target) -> set[str]:
    return {target.address, about(target.type, target.fields), *target.fields.values()}


def about(kind: MitigationType | None, fields: Mapping[str, str]) -> str:
    """Name what a mitigation is about: `account a@b`, `domain b`, `a@b in room@muc`."""
    match kind:
        case None:
            return ""
        case MitigationType.SUSPEND:
            return f"account {fields['account']}"
        case MitigationType.BLOCK:
            return f"domain {fields['domain']}"
        case MitigationType.BAN:
            return f"{fields['jid']} in {fields['room']}"


def approve(approval: Approval, which: frozenset[int], yes: Yes) -> tuple[Approval, tuple[Mitigation, ...]]:
    """Say yes to some of what is offered.

    Raises:
        ProtectedError: some of it needs a second yes.
    """
    protected = [approval.targets[n] for n in sorted(which) if approval.targets[n].second_yes]
    if protected and not yes.is_second:
        named = ", ".join(f"{about(one.type, one.fields)} ({one.second_yes})" for one in protected)
        raise ProtectedError(f"protected, and needs a second yes: {named}")
    made: list[Mitigation] = []
    targets: list[Target] = []
    for n, target in enumerate(approval.targets):
        if n in which:
            mitigation = _mitigation(approval, target, yes)
            made.append(mitigation)
            targets.append(replace(target, state=TargetState.APPROVED, mitigation_id=mitigation.id))
        elif target.state is TargetState.OFFERED:
            targets.append(replace(target, state=TargetState.LEFT_OUT))
        else:
            targets.append(target)
    after = replace(
        approval,
        targets=tuple(targets),
        state=ApprovalState.APPROVED,
        decided_by=yes.by,
        decided_from=yes.origin,
        decided_at=yes.at,
        had_second_yes=bool(protected),
        is_automatic=yes.is_automatic,
        reason=yes.reason,
    )
    return after, tuple(made)


def _mitigation(approval: Approval, target: Target, yes: Yes) -> Mitigation:
    if target.type is None:
        raise ValueError(f"nothing can be done about {target.address}")
    asked = f"asked for by {approval.requester}, " if approval.requester else ""
    return Mitigation(
        id=derived_id("mitigation", approval.id, about(target.type, target.fields)),
        host=approval.host,
        type=target.type,
        target=dict(target.fields),
        action=target.action,
        incident_id=approval.incident_id,
        approval_id=approval.id,
        created_at=yes.at,
        asked_at=yes.at,
        expires_at=yes.expires_at,
        by=yes.by,
        reason=_short(f"{asked}{_grounds(approval)}, approved by {yes.by}"),
        feeds=approval.feeds,
        is_unlisted=approval.is_unlisted,
        draft_id=approval.draft_id,
    )


def _grounds(approval: Approval) -> str:
    if approval.incident_id:
        return f"incident {approval.incident_id}"
    return "reported by users" if approval.draft_id else f"named by {count(len(approval.feeds), 'list')}"


def _short(text: str) -> str:
    """As much of a text as Prosody takes."""
    return text.encode()[:_MOST_REASON_BYTES].decode(errors="ignore")


def decline(
    approval: Approval, *, state: ApprovalState, by: str, origin: str, reason: str, at: datetime
) -> Approval:
    """Say no, or let it expire."""
    return replace(approval, state=state, decided_by=by, decided_from=origin, decided_at=at, reason=reason)


def applied(mitigation: Mitigation, *, at: datetime) -> Mitigation:
    """Note that Prosody enforces it."""
    return replace(mitigation, state=MitigationState.APPLIED, applied_at=at, tries=0, failure="")


def in_force(mitigation: Mitigation, *, at: datetime) -> Mitigation | None:
    """Note that Prosody enforces what failed as far as was known; None: it is no such one, or its time is over."""
    if mitigation.state is not MitigationState.FAILED or at >= mitigation.expires_at:
        return None
    return replace(
        mitigation,
        state=MitigationState.APPLIED,
        applied_at=mitigation.applied_at or at,
        ended_at=None,
        tries=0,
        lifted_by="",
        failure="",
        note="Prosody has it in force, although it did not answer so",
    )


def failed(mitigation: Mitigation, why: str, *, at: datetime) -> Mitigation:
    """Note that it could not be applied, or not be lifted."""
    verb = "lifted" if mitigation.state is MitigationState.LIFTING else "applied"
    return replace(
        mitigation, state=MitigationState.FAILED, ended_at=at, failure=f"it could not be {verb}: {why}"
    )


def may_be_lifted(mitigation: Mitigation) -> bool:
    """Whether there is something to lift; what failed may be in force all the same."""
    return mitigation.state in {
        MitigationState.PENDING,
        MitigationState.APPLIED,
        MitigationState.FAILED,
    }


def lift(mitigation: Mitigation, *, by: str, reason: str, at: datetime) -> Mitigation:
    """Take it back; it is over once Prosody says so."""
    return replace(
        mitigation,
        state=MitigationState.LIFTING,
        revision=mitigation.revision + 1,
        asked_at=at,
        tries=0,
        lifted_by=by,
        note=reason,
        failure="",
        ended_at=None,
    )


def lifted(mitigation: Mitigation, detail: Mapping[str, Any] | None, *, at: datetime) -> Mitigation:
    """Note that it is over, and what the operator should know of how.

    Args:
        mitigation: the one taken back.
        detail: what Prosody said; None: it knows nothing of it.
        at: the time.
    """
    note = mitigation.note
    for one in _found(mitigation, detail):
        note = _and(note, one)
    return replace(mitigation, state=MitigationState.LIFTED, ended_at=at, note=note, tries=0, failure="")


def _found(mitigation: Mitigation, detail: Mapping[str, Any] | None) -> Iterator[str]:
    if detail is None:
        was_applied = mitigation.applied_at is not None
        yield (
            "Prosody knew nothing of it: it had been removed there by hand"
            if was_applied
            else "it was never in force"
        )
        return
    if detail.get("was") == "undone":
        yield "it had been undone on the server by hand"
    if detail.get("was") == "expired":
        yield "its time had been over"
    if detail.get("is_gone"):
        yield f"{about(mitigation.type, mitigation.target)} does not exist any more"
    if detail.get("changed_by_hand"):
        yield "somebody had changed it by hand; that was left as it is"
    if detail.get("still_mitigated_by"):
        yield "another mitigation of the same is still in force"


def _and(first: str, second: str) -> str:
    return f"{first}; {second}" if first else second


def expired(mitigation: Mitigation, *, at: datetime) -> Mitigation | None:
    """Note that its time is over; None: it is not in force."""
    match mitigation.state:
        case MitigationState.APPLIED:
            return replace(mitigation, state=MitigationState.EXPIRED, ended_at=at)
        case MitigationState.PENDING:
            return failed(mitigation, "its time was over before Prosody could be reached", at=at)
        case _:
            return None


def progress(approval: Approval, mitigation: Mitigation, *, had_failed: bool = False) -> Approval:
    """Note in an approval what came of one of its mitigations; nothing once that is known, unless it had failed."""
    unsettled = {TargetState.APPROVED, TargetState.FAILED} if had_failed else {TargetState.APPROVED}
    targets = tuple(
        _settled(one, mitigation) if one.mitigation_id == mitigation.id and one.state in unsettled else one
        for one in approval.targets
    )
    if targets == approval.targets:
        return approval
    after = replace(approval, targets=targets)
    if any(one.state is TargetState.APPROVED for one in targets):
        return after
    done = sum(one.state is TargetState.APPLIED for one in targets)
    wrong = sum(one.state is TargetState.FAILED for one in targets)
    state = ApprovalState.FAILED if not done else ApprovalState.PARTLY if wrong else ApprovalState.DONE
    return replace(after, state=state)


def _settled(target: Target, mitigation: Mitigation) -> Target:
    match mitigation.state:
        case MitigationState.APPLIED | MitigationState.EXPIRED:
            return replace(target, state=TargetState.APPLIED, reason="")
        case MitigationState.FAILED:
            return replace(target, state=TargetState.FAILED, reason=mitigation.failure)
        case MitigationState.LIFTED if mitigation.applied_at is not None:
            return replace(target, state=TargetState.APPLIED)
        case MitigationState.LIFTED:
            return replace(
                target, state=TargetState.FAILED, reason="it was taken back before it was in force"
            )
        case MitigationState.PENDING | MitigationState.LIFTING:
            return target


def outcome(approval: Approval) -> Outcome:
    """What the requester is told: done only if all that it asked for is."""
    done = sum(one.state is TargetState.APPLIED for one in approval.targets)
    if not done:
        return Outcome.DECLINED
    return Outcome.DONE if done == len(approval.targets) else Outcome.PARTLY


def items(approval: Approval, mitigations: Sequence[Mitigation], *, now: datetime) -> tuple[HistoryItem, ...]:
    """Everything that was done, undone and not done, as the requester is told it."""
    by_id = {one.id: one for one in mitigations}
    found: list[HistoryItem] = []
    undone: list[HistoryItem] = []
    for target in approval.targets:
        mitigation = by_id.get(target.mitigation_id or "")
        if mitigation is not None and target.state is TargetState.APPLIED:
            found.append(began(mitigation))
            undone += [ended(mitigation)] if not mitigation.is_active else []
        elif target.state is not TargetState.APPLIED:
            found.append(_not_done(approval, target, now))
    return (*found, *undone)


def began(mitigation: Mitigation) -> HistoryItem:
    """That it was carried out."""
    until = mitigation.expires_at.strftime("%Y-%m-%d %H:%MZ")
    text = f"{_verb(mitigation, 'suspended', 'blocked', 'banned')} until {until}"
    return _item(mitigation.action, text, mitigation.applied_at or mitigation.created_at)


def ended(mitigation: Mitigation) -> HistoryItem:
    """That it is over."""
    text = _verb(mitigation, "no longer suspended", "no longer blocked", "no longer banned")
    why = "its time is over" if mitigation.state is MitigationState.EXPIRED else "taken back"
    return _item("other", f"{text}: {why}", mitigation.ended_at or mitigation.asked_at)


def _verb(mitigation: Mitigation, suspended: str, blocked: str, banned: str) -> str:
    named = about(mitigation.type, mitigation.target)
    match mitigation.type:
        case MitigationType.SUSPEND:
            return f"{named}: {suspended}"
        case MitigationType.BLOCK:
            return f"{named}: {blocked}"
        case MitigationType.BAN:
            return f"{named}: {banned}"


def _not_done(approval: Approval, target: Target, now: datetime) -> HistoryItem:
    if approval.state in {ApprovalState.DECLINED, ApprovalState.EXPIRED}:
        why = approval.reason or "declined"
    else:
        why = _NOT_DONE.get(target.state, target.reason)
    named = about(target.type, target.fields) or target.address or target.action
    return _item("nothing", f"{named}: {why}", approval.decided_at or now)


def _item(action: str, text: str, at: datetime) -> HistoryItem:
    return HistoryItem(action=action, at=at, descriptions=(Text(text=text),))


def with_history(incident: Incident, item: HistoryItem, *, at: datetime) -> Incident:
    """Add what this host did to an incident's own history."""
    return replace(
        incident,
        history=(*incident.history, item)[-MAX_HISTORY:],
        updated_at=max(incident.updated_at, at),
    )
