"""Which other incidents have to do with one: those it names, other servers' accounts of it, those with its sources."""

from dataclasses import dataclass

from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId
from bridge.policy.lookalike import with_ascii
from bridge.policy.record import Incident
from bridge.store import keys, load
from bridge.store.connect import Store

_MOST_EACH = 20
_MOST_NAMED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """One other incident; `incident` is None where this host was not told of it."""

    identity: IncidentId
    why: str
    incident: Incident | None


async def related_to(store: Store, incident: Incident, document: Document | None) -> list[Related]:
    """Find what this host knows that has to do with an incident, each once, by its first reason."""
    host = incident.host
    named = document.related[:_MOST_NAMED] if document else ()
    wanted = [keys.texts(host, one.text) for one in (*named, incident.identity)]
    wanted += [keys.sources(host, address) for address in incident.sources]
    members = await load.newest(store, list(dict.fromkeys(wanted)), limit=_MOST_EACH)
    ids = dict.fromkeys(one for index in members.values() for one in index if one != incident.id)
    names = [keys.incident(one) for one in ids]
    found = (await load.fetch(store, names=names)).records.values() if names else ()
    known = {one.id: one for one in found if isinstance(one, Incident)}
    related: dict[object, Related] = {}

    def take(index: str, why: str, like: IncidentId | None = None) -> bool:
        mine = [known[one] for one in members[index] if one in known]
        mine = [one for one in mine if like is None or _is_same(one.identity, like)]
        for one in mine:
            related.setdefault(one.id, Related(identity=one.identity, why=why, incident=one))
        return bool(mine)

    for one in named:
        if not take(keys.texts(host, one.text), "it is named as related", one):
            related[one] = Related(identity=one, why="it is named as related", incident=None)
    take(keys.texts(host, incident.identity.text), "another account of it", incident.identity)
    take(keys.texts(host, incident.identity.text), "its identifier has the same text")
    for address in incident.sources:
        take(keys.sources(host, address), f"the same source {with_ascii(address)}")
    return list(related.values())


def _is_same(one: IncidentId, other: IncidentId) -> bool:
    """Whether both name the same incident; a name left out matches any (old software leaves it out)."""
    names = {one.name.casefold(), other.name.casefold()} - {""}
    return one.text == other.text and len(names) <= 1
