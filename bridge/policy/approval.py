"""What this host could do about what a peer asks for (DESIGN §5 "Approval and mitigation").

House rules: nothing here does anything; unknown actions, addresses that are not JIDs and requests of strangers about
others are shown, never offered; what is offered names whole JIDs, prepared, as Prosody compares them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bridge.errors import ConfigError, MalformedError
from bridge.iodef.model import Expectation, Incident, Source
from bridge.policy.decisions import Approval, MitigationType, Target, TargetState
from bridge.policy.record import Interaction
from bridge.policy.trust import Trust
from bridge.xmpp.jid import Jid

MAX_TARGETS = 20
BLOCK = "block-host"
_ACCOUNT, _DOMAIN, _ROOM = MitigationType.SUSPEND, MitigationType.BLOCK, MitigationType.BAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Possibility:
    """One source under one expectation; `mitigation` None: nothing we can do, and `reason` says why.

    Attributes:
        address: as the document names it; `jid`: prepared, where something can be done.
    """

    action: str
    address: str
    mitigation: MitigationType | None
    reason: str = ""
    jid: str | None = None


def possibilities(document: Incident, *, host: str, trust: Trust) -> tuple[Possibility, ...]:
    """Map each expectation of a request to what this host could do about each source, at most `MAX_TARGETS`.

    What goes beyond that is named in a last one without an address.
    """
    sources = document.sources[:MAX_TARGETS]
    found = [
        _possibility(expectation, source, host=host, trust=trust)
        for expectation in document.expectations
        for source in sources
    ]
    if not sources:
        found = [
            Possibility(
                action=expectation.action, address="", mitigation=None, reason="the request names no source"
            )
            for expectation in document.expectations
        ]
    surplus = len(document.sources) - len(sources)
    if surplus:
        reason = f"{surplus} more sources are named; one request may be about {MAX_TARGETS}"
        found += [
            Possibility(action=expectation.action, address="", mitigation=None, reason=reason)
            for expectation in document.expectations
        ]
    return tuple(found)


def _possibility(expectation: Expectation, source: Source, *, host: str, trust: Trust) -> Possibility:
    def nothing(reason: str) -> Possibility:
        return Possibility(action=expectation.action, address=source.address, mitigation=None, reason=reason)

    if expectation.action != BLOCK:
        return nothing("this host carries out block-host only")
    if source.category != "xmpp" or source.jid is None:
        return nothing("it is not an XMPP address")
    jid = Jid.parse(source.jid)
    if jid.domain == host:
        if jid.local is None:
            return nothing("it is this host itself")
        return Possibility(
            action=expectation.action, address=source.address, mitigation=_ACCOUNT, jid=str(jid)
        )
    if trust is not Trust.TRUSTED:
        return nothing("the peer is not trusted, and the address is not on this host")
    mitigation = _ROOM if jid.local is not None else _DOMAIN
    return Possibility(action=expectation.action, address=source.address, mitigation=mitigation, jid=str(jid))


def propose(asked: Interaction, *, protected: Collection[str], expires_at: datetime) -> Approval:
    """Put a processed request up for approval; its id is the request's."""
    return Approval(
        id=asked.id,
        host=asked.host,
        incident_id=asked.incident_id,
        request=asked.id,
        requester=asked.peer,
        targets=protect(_targets(asked), protected=protected),
        created_at=asked.received_at,
        expires_at=expires_at,
    )


def _targets(asked: Interaction) -> tuple[Target, ...]:
    """Every possibility as a target, the same thing once, at most `MAX_TARGETS` of them offered."""
    found: dict[object, Target] = {}
    rooms = _rooms(asked.document, asked.host)
    for one in possibilities(asked.document, host=asked.host, trust=asked.trust):
        for target in _of_possibility(one, rooms):
            thing = (target.type, tuple(target.fields.items()))
            found.setdefault(thing if target.type else (target.action, target.address, target.reason), target)
    offered = 0
    targets: list[Target] = []
    for target in found.values():
        offered += target.type is not None
        is_over = target.type is not None and offered > MAX_TARGETS
        reason = f"one yes covers {MAX_TARGETS} targets"
        targets.append(
            Target(action=target.action, address=target.address, reason=reason) if is_over else target
        )
    return tuple(targets[: 4 * MAX_TARGETS])


def _rooms(document: Incident, host: str) -> tuple[str, ...]:
    """The rooms below this host that a document names as targets."""
    jids = [Jid.parse(one.jid) for one in document.targets if one.jid is not None]
    below = (jid.bare for jid in jids if jid.local is not None and jid.domain.endswith(f".{host}"))
    return tuple(dict.fromkeys(below))


def _of_possibility(one: Possibility, rooms: Sequence[str]) -> list[Target]:
    if one.mitigation is None or one.jid is None:
        return [Target(action=one.action, address=one.address, reason=one.reason)]
    jid = Jid.parse(one.jid)
    match one.mitigation:
        case MitigationType.SUSPEND:
            fields = [{"account": jid.bare}]
        case MitigationType.BLOCK:
            fields = [{"domain": jid.domain}]
        case MitigationType.BAN:
            fields = [{"room": room, "jid": jid.bare} for room in rooms]
    if not fields:
        return [Target(action=one.action, address=one.address, reason="the request names no room of ours")]
    return [_offer(one.action, one.address, one.mitigation, each) for each in fields]


def _offer(action: str, address: str, kind: MitigationType, fields: Mapping[str, str]) -> Target:
    return Target(action=action, address=address, type=kind, fields=fields, state=TargetState.OFFERED)


def own_target(host: str, kind: MitigationType, *, address: str, room: str = "") -> Target:
    """What an operator wants done unasked.

    Args:
        host: on which host.
        kind: what.
        address: the account, the domain, or whom to ban.
        room: where to ban.

    Raises:
        ConfigError: it is not an address of that kind, or this host's own.
    """
    jid = _jid(address)
    match kind:
        case MitigationType.SUSPEND:
            if jid.local is None or jid.domain != host:
                raise ConfigError(f"{address} is not an account on {host}")
            return _offer(BLOCK, address, kind, {"account": jid.bare})
        case MitigationType.BLOCK:
            if jid.local is not None:
                raise ConfigError(f"{address} is not a server's domain")
            if jid.domain == host:
                raise ConfigError(f"{address} is this host itself")
            return _offer(BLOCK, address, kind, {"domain": jid.domain})
        case MitigationType.BAN:
            if jid.local is None:
                raise ConfigError(f"{address} is not a user's JID")
            place = _jid(room)
            if place.local is None:
                raise ConfigError(f"{room or 'the room'} is not a room's JID")
            return _offer(BLOCK, address, kind, {"room": place.bare, "jid": jid.bare})


def _jid(text: str) -> Jid:
    try:
        return Jid.parse(text)
    except MalformedError as error:
        raise ConfigError(f"{text or 'an empty address'} is not a JID: {error.rule}") from None


def touched(target: Target) -> Jid | None:
    """Whom a target is about; None: nobody, it is only shown."""
    text = target.fields.get("account") or target.fields.get("domain") or target.fields.get("jid")
    return Jid.parse(text) if text else None


def protect(
    targets: Sequence[Target], *, protected: Collection[str], trusted: Collection[str] = ()
) -> tuple[Target, ...]:
    """Say which targets need a second yes, and why.

    Args:
        targets: what may be done.
        protected: domains and bare JIDs that the operator listed.
        trusted: domains of trusted peers.
    """
    return tuple(
        replace(one, second_yes=_protection(one, protected, trusted)) if one.type else one for one in targets
    )


def _protection(target: Target, protected: Collection[str], trusted: Collection[str]) -> str:
    jid = touched(target)
    if jid is None:
        return ""
    if jid.bare in protected or jid.domain in protected:
        return "it is in policy.protected"
    if target.type is _DOMAIN and any(one.endswith(f"@{jid.domain}") for one in protected):
        return "a user of it is in policy.protected"
    return f"{jid.domain} is a trusted peer" if jid.domain in trusted else ""


def may_be_automatic(
    approval: Approval, *, action: str, per_day: int, done: Sequence[tuple[str, datetime]], now: datetime
) -> bool:
    """Whether a rule may say yes to all that is offered: previewed, nothing protected, and within its day.

    Args:
        approval: what is asked for, with its preview.
        action: the rule's.
        per_day: how many mitigations it allows in 24 hours.
        done: what was carried out for this peer by itself.
        now: the time.
    """
    offered = [one for one in approval.targets if one.state is TargetState.OFFERED]
    spent = sum(name == action and at > now - timedelta(days=1) for name, at in done)
    return (
        bool(offered)
        and all(one.action == action and not one.second_yes for one in offered)
        and all(_is_harmless(one) for one in offered)
        and spent + len(offered) <= per_day
    )


def _is_harmless(target: Target) -> bool:
    preview = target.preview
    if preview is None or "error" in preview:
        return False
    is_there = preview.get("exists") is not False or target.type is MitigationType.BLOCK
    return is_there and not preview.get("is_admin") and not preview.get("refused")
