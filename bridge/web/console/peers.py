"""Peers: whose incidents count, how each answers, and what was decided about it."""

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from statistics import median
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

from aiohttp import web

from bridge.errors import MalformedError
from bridge.pipeline.peers import change_peer, decided
from bridge.policy.lookalike import alike
from bridge.policy.record import Peer
from bridge.policy.trust import Rule, Trust
from bridge.policy.words import duration
from bridge.store import keys
from bridge.web.console import find
from bridge.web.console.guard import Refusal, Visit, get, post
from bridge.xep0268.model import Kind
from bridge.xmpp.jid import prep_domain

Choice = TypeVar("Choice", Trust, Rule)
_SHOWN: Final = 100
_NEWEST: Final = 10
RULES: Final = {
    "": "what its trust says",
    Rule.NOTIFY: "accepted, and the admins are told",
    Rule.ACCEPT: "accepted",
    Rule.QUARANTINE: "quarantined",
    Rule.REFUSE: "refused",
}
_SAID: Final = {Trust.TRUSTED: "trusted", Trust.BLOCKED: "blocked", Trust.STRANGER: "stranger"}


async def show_all(visit: Visit) -> web.Response:
    """List the peers of all hosts, last seen first."""
    typed = {"q": visit.query("q"), "trust": visit.query("trust")}
    words, trust = _words(typed["q"]), typed["trust"]
    found = await find.peers(
        visit.store,
        visit.hosts,
        words=words,
        trust=Trust(trust) if trust in set(Trust) else None,
        limit=_SHOWN,
        before=find.cursor(visit.query("before")),
    )
    beware: list[tuple[str, str]] = []
    for host in visit.hosts:
        beware += await find.only_alike(visit.store, host, keys.peers(host))
    kept = {name: value for name, value in typed.items() if value}
    return visit.page(
        "peers.html",
        title="Peers",
        peers=found.peers,
        is_partial=found.is_partial,
        is_first=not visit.query("before"),
        first_page=f"/peers?{urlencode(kept)}",
        next_page=found.after and f"/peers?{urlencode({**kept, 'before': find.written(found.after)})}",
        typed=typed,
        trusts=tuple(Trust),
        beware=beware,
        has_several_hosts=len(visit.hosts) > 1,
    )


def _words(typed: str) -> str:
    """A part of a domain as it was typed, or the whole of one, as domains are stored."""
    try:
        return prep_domain(typed)
    except MalformedError:
        return typed.casefold()


async def open_one(visit: Visit) -> web.Response:
    """Go to the page of the peer that was typed."""
    host = visit.host(visit.query("host") or next(iter(visit.hosts)))
    return visit.back(f"/peers/{host}/{_domain(visit.query('domain'), host)}")


async def show(visit: Visit) -> web.Response:
    """Show a peer's record; one that nobody has met yet can be decided about too."""
    host, domain = _named(visit)
    peer = await find.peer(visit.store, host, domain)
    reported = await find.search(visit.store, [host], find.Query(peer=domain), limit=_NEWEST)
    one = peer or Peer(host=host, domain=domain)
    settled = one.acknowledged + one.refused + one.unreachable + one.unanswered
    return visit.page(
        "peer.html",
        title=domain,
        peer=one,
        is_known=peer is not None,
        incidents=reported.incidents,
        has_more=reported.after is not None,
        beware=alike([domain], await find.known_names(visit.store, host) - {domain}),
        median_seconds=median(one.answer_seconds) if one.answer_seconds else None,
        decision=duration(median(one.decision_seconds)) if one.decision_seconds else "",
        open_sendings=max(0, one.sent - settled),
        kinds=tuple(Kind),
        rules=RULES,
        here=f"/peers/{quote(host)}/{quote(domain)}",
    )


def _named(visit: Visit) -> tuple[str, str]:
    host = visit.host(visit.request.match_info["host"])
    return host, _domain(visit.request.match_info["domain"], host)


def _domain(text: str, host: str) -> str:
    try:
        domain = prep_domain(text)
    except MalformedError as error:
        text = f"That is not a server's domain: {error.rule}."
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "No such peer", text) from None
    if domain == host:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "No such peer", f"{domain} is this host itself.")
    return domain


async def decide_trust(visit: Visit) -> web.Response:
    """Trust, block, or take either back."""
    host, domain = _named(visit)
    trust = _chosen(Trust, await visit.field("trust"))

    def change(known: Peer) -> Peer:  # a stranger again: all that was decided about it is taken back
        return decided(known, trust=trust) if trust is Trust.STRANGER else replace(known, trust=trust)

    await _change(visit, host, domain, change)
    return visit.back(f"/peers/{host}/{domain}", _SAID[trust])


async def decide_rules(visit: Visit) -> web.Response:
    """Say what becomes of each kind."""
    host, domain = _named(visit)
    rules: dict[Kind, Rule] = {}
    for kind in Kind:
        word = await visit.field(kind)
        if word:
            rules[kind] = _chosen(Rule, word)
    await change_peer(
        visit.store,
        visit.acting(host),
        domain,
        lambda known: replace(known, rules=rules),
        actor=visit.actor,
        now=visit.now,
    )
    return visit.back(f"/peers/{host}/{domain}", "rules")


async def decide_forwarding(visit: Visit) -> web.Response:
    """Say whether reports of others go on to it."""
    host, domain = _named(visit)
    is_on = await visit.field("forward") == "on"
    await change_peer(
        visit.store,
        visit.acting(host),
        domain,
        lambda known: replace(known, is_forwarded_to=is_on),
        actor=visit.actor,
        now=visit.now,
    )
    return visit.back(f"/peers/{host}/{domain}", "forwarded" if is_on else "not-forwarded")


async def _change(visit: Visit, host: str, domain: str, change: Callable[[Peer], Peer]) -> None:
    await change_peer(visit.store, visit.acting(host), domain, change, actor=visit.actor, now=visit.now)


def _chosen(choices: type[Choice], word: str) -> Choice:
    try:
        return choices(word)
    except ValueError:
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY, "No such choice", "Choose one of those offered."
        ) from None


def routes() -> list[web.RouteDef]:
    """Return the routes of the peers."""
    return [
        get("/peers", show_all),
        get("/peers/open", open_one),
        get("/peers/{host}/{domain}", show),
        post("/peers/{host}/{domain}/trust", decide_trust),
        post("/peers/{host}/{domain}/rules", decide_rules),
        post("/peers/{host}/{domain}/forward", decide_forwarding),
    ]
