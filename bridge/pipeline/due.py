"""The next steps with what this installation's hosts reported, over their newest incidents."""

from collections.abc import Iterable

from bridge.policy.clock import NextStep, Rules, next_steps
from bridge.policy.decisions import Triage, TriageState
from bridge.policy.record import Incident, Interaction, Peer, Way
from bridge.store import keys, load
from bridge.store.connect import Store
from bridge.xep0268.model import Status

_MOST_INCIDENTS = 100
_MOST_INTERACTIONS = 20


async def steps_with(
    store: Store, incident: Incident, interactions: Iterable[Interaction], *, rules: Rules
) -> tuple[NextStep, ...]:
    """Find what is next with one incident; nothing once an operator closed it."""
    name = keys.triage(incident.id)
    judged = (await load.fetch(store, names=[name])).records[name]
    if isinstance(judged, Triage) and judged.state is TriageState.CLOSED:
        return ()
    sent = tuple(interactions)
    peers = await _peers(store, sent)
    return next_steps(incident, sent, rules=rules, peers=peers.get(incident.host, {}))


async def due(store: Store, hosts: Iterable[str], *, rules: Rules) -> tuple[NextStep, ...]:
    """Find what is next, the first due first; what is over, or closed by an operator, is left out."""
    own = [keys.incidents_of_reporter(host, host) for host in hosts]
    members = await load.newest(store, own, limit=_MOST_INCIDENTS) if own else {}
    ids = [one for index in own for one in members[index]]
    if not ids:
        return ()
    records = (
        await load.fetch(store, names=[name(one) for one in ids for name in (keys.incident, keys.triage)])
    ).records
    closed = {
        one.incident_id
        for one in records.values()
        if isinstance(one, Triage) and one.state is TriageState.CLOSED
    }
    open_ones = [
        one
        for one in records.values()
        if isinstance(one, Incident) and one.id not in closed and one.status is not Status.RESOLVED
    ]
    about = {one.id: keys.interactions(one.id) for one in open_ones}
    sent = await load.newest(store, list(about.values()), limit=_MOST_INTERACTIONS) if about else {}
    names = [keys.interaction(one) for index in about.values() for one in sent[index]]
    known = (await load.fetch(store, names=names)).records if names else {}
    interactions = {one.id: one for one in known.values() if isinstance(one, Interaction)}
    peers = await _peers(store, interactions.values())
    found = [
        step
        for one in open_ones
        for step in next_steps(
            one,
            [interactions[key] for key in sent[about[one.id]] if key in interactions],
            rules=rules,
            peers=peers.get(one.host, {}),
        )
    ]
    return tuple(sorted(found, key=lambda one: one.at))


async def _peers(store: Store, interactions: Iterable[Interaction]) -> dict[str, dict[str, Peer]]:
    """Load whom something was sent to, by host and domain."""
    pairs = dict.fromkeys((one.host, one.peer) for one in interactions if one.way is Way.SENT)
    names = [keys.peer(*pair) for pair in pairs]
    records = (await load.fetch(store, names=names)).records.values() if names else ()
    found: dict[str, dict[str, Peer]] = {}
    for one in records:
        if isinstance(one, Peer):
            found.setdefault(one.host, {})[one.domain] = one
    return found
