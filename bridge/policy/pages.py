"""An incident, and what waits for a yes or no, as a few lines of text for a small screen.

House rules: short, whatever a document holds; peers' words are in the lines, so whoever shows them makes them
harmless; addresses that are not ASCII have their ASCII form beside them.
"""

from collections.abc import Iterable, Sequence

from bridge.iodef.model import Counter, Source
from bridge.policy.decisions import Approval, Mitigation, Target, TargetState
from bridge.policy.effects import effects, would
from bridge.policy.lookalike import with_ascii
from bridge.policy.mitigation import about
from bridge.policy.record import Incident, Interaction, Way
from bridge.policy.standing import standing
from bridge.policy.words import count, moment

_MOST_EACH = 20
_MOST_TEXT = 1000
_MOST_LINE = 300


def short(text: str, most: int = _MOST_LINE) -> str:
    """As much of a text as fits on one line."""
    joined = " ".join(text[: 4 * most].split())
    return joined if len(joined) <= most and len(text) <= 4 * most else f"{joined[:most]}…"


def _few(texts: Sequence[str], *, most: int = _MOST_EACH) -> list[str]:
    rest = len(texts) - most
    return [short(one) for one in texts[:most]] + ([f"and {rest} more"] if rest > 0 else [])


def incident_line(one: Incident) -> str:
    """One incident in a list."""
    marks = [str(one.status), *([one.severity] if one.severity else [])]
    marks += ["quarantine"] if one.quarantined else []
    by = "ours" if one.is_own else with_ascii(one.reporter)
    return f"{moment(one.updated_at)} {by} ({', '.join(marks)}): {short(one.summary, 80)}"


def incident_page(incident: Incident, newest: Interaction | None, story: Sequence[Interaction]) -> list[str]:
    """One incident whole, as far as that is short.

    Args:
        incident: which.
        newest: the interaction that brought the edition that counts; None: it is gone.
        story: what was sent and received about it, oldest first.
    """
    identity = incident.identity
    severity = f", severity {incident.severity}" if incident.severity else ""
    found = [
        "Reported by this host" if incident.is_own else f"Reported by {with_ascii(incident.reporter)}",
        short(f"Identifier: {identity.text} of {with_ascii(identity.name)}"),
        f"Status: {incident.status}{severity}",
        f"First told: {moment(incident.created_at)}, changed: {moment(incident.updated_at)}",
    ]
    if incident.quarantined:
        found.append("In quarantine: a stranger reported it")
    if incident.told:
        found.append(short(f"We told: {', '.join(map(with_ascii, incident.told))}"))
    found += _document(newest) if newest is not None else ["Its document is no longer in the store."]
    found += ["", "What happened:"]
    rest = len(story) - _MOST_EACH
    found += [f"({count(rest, 'earlier interaction')})"] if rest > 0 else []
    found += [_happened(one) for one in story[-_MOST_EACH:]]
    for item in incident.history[-_MOST_EACH:]:
        texts = "; ".join(text.text for text in item.descriptions)
        found.append(short(f"{moment(item.at)} this host: {texts}"))
    return found


def _document(newest: Interaction) -> list[str]:
    document = newest.document
    found = [f"Impact: {short(one.type or '')}" for one in document.impacts[:1] if one.type]
    found += [short(one.text, _MOST_TEXT) for one in document.descriptions[:3]]
    for title, addresses in (("Sources", document.sources), ("Targets", document.targets)):
        if addresses:
            found += ["", f"{title}:", *_few([_address(one) for one in addresses])]
    asked = list(dict.fromkeys(one.action for one in document.expectations))
    if asked:
        found.append(short(f"Asked for: {', '.join(asked)}"))
    return found


def _address(source: Source) -> str:
    counted = ", ".join(_counter(one) for one in source.counters[:5])
    return with_ascii(source.address) + (f": {counted}" if counted else "")


def _counter(one: Counter) -> str:
    return f"{one.value:.15g} {one.type}"


def _happened(one: Interaction) -> str:
    verb = f"{one.kind} from" if one.way is Way.RECEIVED else f"our {one.kind} to"
    return short(f"{moment(one.received_at)} {verb} {with_ascii(one.peer)}: {standing(one)}")


def approval_line(one: Approval) -> str:
    """One approval in a list."""
    possible = [would(each) for each in one.targets if each.type is not None]
    rest = f" and {len(possible) - 1} more" if len(possible) > 1 else ""
    what = f"{possible[0]}{rest}" if possible else "nothing that can be done here"
    by = with_ascii(one.requester) if one.requester else "nobody"
    return f"{moment(one.created_at)} {by}: {short(what, 120)}"


def approval_page(one: Approval) -> list[str]:
    """One approval whole: who asks for what, what that would touch, what came of it."""
    found = [
        f"Asked by {with_ascii(one.requester)}" if one.requester else "Done unasked",
        _grounds(one),
        f"State: {one.state}",
    ]
    if one.decided_by:
        found.append(short(f"Decided by {one.decided_by}, {moment(one.decided_at)}"))
    if one.reason:
        found.append(short(f"Reason: {one.reason}"))
    for target in one.targets[:_MOST_EACH]:
        found += target_lines(target)
    rest = len(one.targets) - _MOST_EACH
    return found + ([f"and {rest} more"] if rest > 0 else [])


def _grounds(one: Approval) -> str:
    if one.incident_id:
        return f"Incident: {one.incident_id}"
    return "Your users reported it" if one.draft_id else short(f"Named by {' '.join(one.feeds)}")


def target_lines(target: Target) -> list[str]:
    """One thing that is asked for, and what it would touch."""
    if target.type is None:
        named = f"{target.action} of {with_ascii(target.address)}" if target.address else target.action
        return [short(f"{named}: nothing we can do: {target.reason}")]
    head = would(target) if target.state is TargetState.OFFERED else f"{would(target)}: {target.state}"
    more = [] if target.state is not TargetState.OFFERED else list(effects(target))
    if target.second_yes and target.state is TargetState.OFFERED:
        more.append(f"protected: {target.second_yes}")
    if target.state is TargetState.FAILED and target.reason:
        more.append(target.reason)
    return [short(f"{head} ({'; '.join(more)})" if more else head, 2 * _MOST_LINE)]


def mitigation_line(one: Mitigation) -> str:
    """One mitigation in a list."""
    state = "" if one.applied_at else f", {one.state}"
    return short(f"{about(one.type, one.target)} until {moment(one.expires_at)}, by {one.by}{state}", 150)


def sendings(sent: Iterable[Interaction]) -> list[str]:
    """How what was sent stands with each peer."""
    return _few([f"{with_ascii(one.peer)}: {standing(one)}" for one in sent])
