"""`peers`: the remote servers that our hosts know, and what is decided about them."""

from typing import Final

from pydantic import Field

from bridge.errors import MalformedError
from bridge.pipeline.peers import change_peer, decided
from bridge.policy.consumers import Scope
from bridge.policy.record import Peer
from bridge.policy.trust import Rule, Trust
from bridge.store import keys, load
from bridge.web.api import paging
from bridge.web.api.model import Body, Domain, PageQuery, Query
from bridge.web.api.router import Answer, Call, Route, invalid, not_found
from bridge.web.api.views import PeerPage, PeerView
from bridge.xep0268.model import Kind
from bridge.xmpp.jid import prep_domain

TAG: Final = "peers"
_MOST_WALKED: Final = 1000


class PeersQuery(PageQuery):
    """Which peers."""

    host: Domain | None = Field(default=None, description="Only as this host knows them.")
    trust: Trust | None = None


class PeerQuery(Query):
    """As which of our hosts knows it."""

    host: Domain | None = Field(default=None, description="Needed where the token sees several.")


class Decision(Body):
    """Everything that is decided about a peer; what is left out is decided no longer."""

    trust: Trust
    rules: dict[Kind, Rule] = Field(
        default={},
        description="What becomes of each kind; a rule other than `refuse` counts once it is trusted.",
    )
    forward: bool = Field(
        default=False, description="Pass on to it what others report; begins once it is trusted."
    )


def named(call: Call) -> tuple[str, str]:
    """The host and the peer that the request is about."""
    host = call.one_host(call.query.host, kind="invalid-query")
    try:
        domain = prep_domain(call.path["domain"])
    except MalformedError as error:
        raise invalid("domain", f"is not a server's domain: {error.rule}", kind="invalid-query") from None
    if domain == host:
        raise invalid("domain", "is this host itself", kind="invalid-query")
    return host, domain


async def list_peers(call: Call) -> Answer:
    """A page of peers, by host and then by name."""
    query: PeersQuery = call.query
    hosts = sorted(call.hosts_for(query.host))
    of = paging.fingerprint("peers", hosts, [str(value) for value in query.filters_given()])
    at, after = ("", "") if query.cursor is None else map(str, paging.decode(query.cursor, str, str, of=of))
    found: list[Peer] = []
    walked = 0
    for host in hosts:
        if host < at:
            continue
        start = after if host == at else ""
        while True:
            room = query.limit - len(found)
            if not room or walked >= _MOST_WALKED:
                return Answer(body=_page(found, paging.encode((host, start), of=of)))
            domains = await load.names(call.store, keys.peer_names(host), after=start, limit=room)
            if not domains:
                break
            walked, start = walked + len(domains), domains[-1]
            names = [keys.peer(host, domain) for domain in domains]
            records = (await load.fetch(call.store, names=names)).records.values()
            found += [one for one in records if isinstance(one, Peer) and query.trust in {None, one.trust}]
    return Answer(body=_page(found, None))


def _page(found: list[Peer], following: str | None) -> PeerPage:
    return PeerPage(items=tuple(PeerView.of(one) for one in found), next=following)


async def show_peer(call: Call) -> Answer:
    """One peer."""
    host, domain = named(call)
    name = keys.peer(host, domain)
    peer = (await load.fetch(call.store, names=[name])).records[name]
    if not isinstance(peer, Peer):
        raise not_found("peer")
    return Answer(body=PeerView.of(peer))


async def decide_peer(call: Call) -> Answer:
    """Write what is decided about a peer; it need not have been seen."""
    host, domain = named(call)
    body: Decision = call.body
    peer = await change_peer(
        call.store,
        host,
        domain,
        lambda known: decided(known, trust=body.trust, rules=body.rules, forward=body.forward),
        actor=call.actor,
        now=call.now,
    )
    return Answer(body=PeerView.of(peer))


async def forget_peer(call: Call) -> Answer:
    """Take every decision about a peer back."""
    host, domain = named(call)
    name = keys.peer(host, domain)
    if not isinstance((await load.fetch(call.store, names=[name])).records[name], Peer):
        raise not_found("peer")
    peer = await change_peer(
        call.store,
        host,
        domain,
        lambda known: decided(known, trust=Trust.STRANGER),
        actor=call.actor,
        now=call.now,
    )
    return Answer(body=PeerView.of(peer))


ROUTES: Final = (
    Route(
        method="GET",
        path="/peers",
        scope=Scope.READ,
        handler=list_peers,
        summary="List the peers that were seen, sent to or decided about",
        tag=TAG,
        query=PeersQuery,
        answer=PeerPage,
    ),
    Route(
        method="GET",
        path="/peers/{domain}",
        scope=Scope.READ,
        handler=show_peer,
        summary="What is known of one peer, and how it answers",
        tag=TAG,
        query=PeerQuery,
        answer=PeerView,
    ),
    Route(
        method="PUT",
        path="/peers/{domain}",
        scope=Scope.WRITE,
        handler=decide_peer,
        summary="Decide about a peer: trust, rules, forwarding",
        description="By exact domain; subdomains are peers of their own. What lies in quarantine stays there.",
        tag=TAG,
        query=PeerQuery,
        body=Decision,
        answer=PeerView,
    ),
    Route(
        method="DELETE",
        path="/peers/{domain}",
        scope=Scope.WRITE,
        handler=forget_peer,
        summary="Take what was decided about a peer back: it is a stranger again, without rules",
        description="What was counted about it stays, and is answered.",
        tag=TAG,
        query=PeerQuery,
        answer=PeerView,
    ),
)
