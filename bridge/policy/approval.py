"""What this host could do about what a peer asks for (DESIGN §5 "Approval and mitigation").

House rule: nothing here does anything; unknown actions, addresses that are not JIDs and requests of strangers about
others are shown, never offered.
"""

from dataclasses import dataclass

from bridge.iodef.model import Expectation, Incident, Source
from bridge.policy.trust import Trust
from bridge.xmpp.jid import Jid

MAX_TARGETS = 20
_ACCOUNT, _DOMAIN, _ROOM = "account.suspend", "domain.block", "room.ban"


@dataclass(frozen=True, slots=True, kw_only=True)
class Possibility:
    """One source under one expectation; `mitigation` None: nothing we can do, and `reason` says why."""

    action: str
    address: str
    mitigation: str | None
    reason: str = ""


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

    if expectation.action != "block-host":
        return nothing("this host carries out block-host only")
    if source.category != "xmpp" or source.jid is None:
        return nothing("it is not an XMPP address")
    jid = Jid.parse(source.jid)
    if jid.domain == host:
        if jid.local is None:
            return nothing("it is this host itself")
        return Possibility(action=expectation.action, address=source.address, mitigation=_ACCOUNT)
    if trust is not Trust.TRUSTED:
        return nothing("the peer is not trusted, and the address is not on this host")
    mitigation = _ROOM if jid.local is not None else _DOMAIN
    return Possibility(action=expectation.action, address=source.address, mitigation=mitigation)
