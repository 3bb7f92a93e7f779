"""How far a peer is trusted, and what its stream proves about it (DESIGN §5 "Trust").

House rule: trust hangs on the exact domain that the stream authenticated, never on a JID inside a document.
"""

from dataclasses import dataclass
from enum import StrEnum


class Trust(StrEnum):
    """The operator's standing decision about one peer domain; no subdomain inherits it."""

    TRUSTED = "trusted"
    STRANGER = "stranger"
    BLOCKED = "blocked"


class Rule(StrEnum):
    """What becomes of one kind of interaction of one peer, where the operator decided that."""

    REFUSE = "refuse"
    QUARANTINE = "quarantine"
    ACCEPT = "accept"
    NOTIFY = "notify"  # accept, and tell the admins


class Authentication(StrEnum):
    """How the peer's server proved who it is, as Prosody saw it."""

    CERTIFICATE = "certificate"
    DIALBACK_CERTIFICATE = "dialback+certificate"
    DIALBACK = "dialback"
    LOCAL = "local"
    NONE = "none"


class Direction(StrEnum):
    """Who opened the stream; `bounce` marks an error made by our own server because the peer was not reachable."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"
    LOCAL = "local"
    BOUNCE = "bounce"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What Prosody knows of the stream on which a stanza came (DESIGN §4)."""

    direction: Direction
    encrypted: bool
    tls: str | None = None
    authentication: Authentication
    certificate_sha256: str | None = None


_STRENGTH = {
    Authentication.NONE: 0,
    Authentication.DIALBACK: 1,
    Authentication.DIALBACK_CERTIFICATE: 2,
    Authentication.CERTIFICATE: 3,
    Authentication.LOCAL: 3,
}


def standing(decided: Trust, stream: Stream, *, required: Authentication) -> Trust:
    """What a peer counts as on this stream.

    A trusted peer counts as trusted only on a stream authenticated at least as `required` says, else as a
    stranger; blocked stays blocked however it comes.
    """
    if decided is Trust.TRUSTED and _STRENGTH[stream.authentication] < _STRENGTH[required]:
        return Trust.STRANGER
    return decided


def rule_for(trust: Trust, decided: Rule | None, *, strangers: Rule) -> Rule:
    """Say what becomes of an interaction.

    Args:
        trust: what the peer counts as on this stream.
        decided: the operator's rule for this peer and kind, None if there is none; it does not lift a weak stream
            or a stranger out of quarantine: for that the peer must be trusted.
        strangers: what strangers get.
    """
    match trust:
        case Trust.BLOCKED:
            return Rule.REFUSE
        case Trust.STRANGER:
            return decided if decided is Rule.REFUSE else strangers
        case Trust.TRUSTED:
            return decided or Rule.NOTIFY
