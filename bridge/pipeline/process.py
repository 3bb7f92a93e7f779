"""What waits in peers' lanes is decided: incidents, events, answers, and sendings of ours."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge import log
from bridge.iodef.model import IncidentId
from bridge.policy.change import Change
from bridge.policy.decide import Rules, State, asked_for, decide, puts
from bridge.policy.record import Incident, Interaction, Notices, Peer, incident_id
from bridge.store import keys, load
from bridge.store.commit import Lease, commit
from bridge.store.connect import Store
from bridge.store.keys import RecordName
from bridge.xmpp.jid import Jid

_log = log.get(__name__)

_MOST_ACCOUNTS = 20
_MOST_BESIDE = 20
Item = dict[str, Any]


async def process(store: Store, leases: Sequence[Lease], *, rules: Rules, now: datetime) -> None:
    """Decide about every item of the leases, in order, and commit once; safe to run twice.

    Raises:
        ConflictError: nothing was written; somebody else holds a lane, or changed a record meanwhile.
    """
    change = Change()
    for host in dict.fromkeys(lease.lane.partition("|")[0] for lease in leases):
        own = [lease for lease in leases if lease.lane.partition("|")[0] == host]
        items = [json.loads(item) for lease in own for item in lease.items]
        peers = {lease.lane.partition("|")[2] for lease in own}
        before = state = await _load(store, host, peers, items, rules)
        for item in items:
            state, more = decide(state, item, now=now)
            change += more
        change += Change(puts=puts(before, state))
    await commit(store, change, leases=leases)
    for lease in leases:
        for raw in lease.items:
            _log.info("decided", lane=lease.lane, item=json.loads(raw)["id"])


async def _load(store: Store, host: str, peers: set[str], items: Sequence[Item], rules: Rules) -> State:
    """Load everything that deciding these items may look at; as many round trips whatever is found."""
    named = [
        value for item in items for key in ("id", "answer", "overdue", "said") if (value := item.get(key))
    ]
    wanted = [keys.interaction(name) for name in named]
    wanted += [keys.incident(item["incident"]) for item in items if "incident" in item]
    records = await _records(store, [*wanted, keys.notices(host), *(keys.peer(host, one) for one in peers)])
    interactions = {one.id: one for one in records if isinstance(one, Interaction)}
    asked = [one.answers for one in interactions.values() if one.answers]
    written_to = {one.peer for one in interactions.values() if one.outreach is not None}
    accounts, forward_to = await _accounts(store, host, items, interactions.values())
    beside = await _beside(store, items, interactions)
    incident_ids = {item["incident"] for item in items if "incident" in item}
    incident_ids |= {key for found in accounts.values() for key in found}
    more = [keys.incident(key) for key in incident_ids]
    more += [keys.interaction(key) for key in (*asked, *beside)]
    more += [keys.peer(host, domain) for domain in (*forward_to, *(written_to - peers))]
    records += await _records(store, [*more, keys.notices(host)])
    incidents: dict[str, Incident | None] = dict.fromkeys(incident_ids)
    incidents.update({one.id: one for one in records if isinstance(one, Incident)})
    interactions.update({one.id: one for one in records if isinstance(one, Interaction)})
    return await _with_documents(
        store,
        State(
            host=host,
            rules=rules,
            incidents=incidents,
            interactions=interactions,
            peers=_peers(host, {*peers, *forward_to, *written_to}, records),
            notices=next((one for one in records if isinstance(one, Notices)), Notices(host=host)),
            accounts=accounts,
            forward_to=forward_to,
        ),
        items,
    )


async def _beside(
    store: Store, items: Sequence[Item], interactions: Mapping[str, Interaction]
) -> tuple[str, ...]:
    """Find what else was sent about the incidents of sendings that failed, so that somebody else is written to."""
    failed = (interactions.get(item["answer"]) for item in items if item.get("failure"))
    indexes = list(dict.fromkeys(keys.interactions(one.incident_id) for one in failed if one is not None))
    found = await load.newest(store, indexes, limit=_MOST_BESIDE) if indexes else {}
    return tuple(key for members in found.values() for key in members if key not in interactions)


async def _accounts(
    store: Store, host: str, items: Sequence[Item], interactions: Iterable[Interaction]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Find everybody's accounts of the incidents named, by text, and the peers that reports are forwarded to."""
    inquiries = [(item["sender"], item["inquiry"]) for item in items if "inquiry" in item]
    named = [(asked["name"], asked["text"]) for _, asked in inquiries]
    named += [(one.document.identity.name, one.document.identity.text) for one in interactions]
    indexes = {
        keys.accounts(host, name, text) if name else keys.texts(host, text): text for name, text in named
    }
    found = await load.newest(store, [keys.forwarded_to(host), *indexes], limit=_MOST_ACCOUNTS)
    accounts: dict[str, tuple[str, ...]] = {}
    for index, text in indexes.items():
        accounts[text] = accounts.get(text, ()) + found[index]
    for sender, asked in inquiries:
        # What the asker itself told, also where that lies in quarantine.
        own = incident_id(host, Jid.parse(sender).domain, IncidentId(**asked))
        accounts[asked["text"]] += (own,)
    return accounts, found[keys.forwarded_to(host)]


def _peers(host: str, domains: set[str], records: Iterable[object]) -> dict[str, Peer]:
    found = {domain: Peer(host=host, domain=domain) for domain in domains}
    return found | {one.domain: one for one in records if isinstance(one, Peer)}


async def _records(store: Store, names: Sequence[RecordName], *, originals: bool = False) -> list[object]:
    fetched = await load.fetch(store, names=names, originals=originals)
    return [one for one in fetched.records.values() if one is not None]


async def _with_documents(store: Store, state: State, items: Sequence[Item]) -> State:
    """Load the documents that will be sent on, and the peers that they may be sent to."""
    inquiries = [item for item in items if "inquiry" in item]
    told = {domain for one in state.incidents.values() if one is not None for domain in one.told}
    chosen = (asked_for(state, item) for item in inquiries)
    documents = {one[0].current.interaction_id for one in chosen if one is not None}
    if told or state.forward_to or inquiries:
        documents |= {item["id"] for item in items if "incident" in item}
    names = [keys.peer(state.host, domain) for domain in told - state.peers.keys()]
    if not names and not documents and not inquiries:
        return state
    originals = [keys.interaction(key) for key in documents]
    records = await _records(store, [*names, *originals, keys.notices(state.host)], originals=True)
    interactions = dict(state.interactions)
    interactions.update({one.id: one for one in records if isinstance(one, Interaction)})
    peers = {**_peers(state.host, told, records), **state.peers}
    return replace(state, interactions=interactions, peers=peers)
