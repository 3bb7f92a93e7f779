"""Where each record lies, and the indexes it is found by; everything here is derived from the record's own fields.

House rules: no key is written anywhere else (`scripts/library.lua` has the few that only scripts use); parts of a
key are quoted, so that no name chosen by a peer can reach another key.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never

from bridge.policy.abuse_record import AbuseDraft, DraftState
from bridge.policy.consumers import Delivery, DeliveryState, Endpoint, Fanout, Token
from bridge.policy.decisions import Approval, ApprovalState, Mitigation, Triage
from bridge.policy.feed_record import Feed, FeedNames
from bridge.policy.listing import Listing
from bridge.policy.record import Bucket, Incident, Interaction, Notices, Peer, Quarantine, Record
from bridge.policy.sessions import Session, SignIn
from bridge.policy.trust import Trust
from bridge.xep0268.model import Status

PREFIX: Final = "ib:"
COUNTERS: Final = "ib:counters"
TIMERS: Final = "ib:timers"


@dataclass(frozen=True, slots=True, order=True)
class RecordName:
    """Names one record: its type and, inside that, its key."""

    type: str
    key: str


Entries = Mapping[str, tuple[str, int]]


def _join(*parts: str) -> str:
    return ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


def interaction(interaction_id: str) -> RecordName:
    """The interaction with this id."""
    return RecordName("interaction", _join(interaction_id))


def incident(incident_id: str) -> RecordName:
    """The incident with this id."""
    return RecordName("incident", _join(incident_id))


def peer(host: str, domain: str) -> RecordName:
    """What `host` knows of the peer `domain`."""
    return RecordName("peer", _join(host, domain))


def bucket(host: str, name: str) -> RecordName:
    """A token bucket of `host`."""
    return RecordName("bucket", _join(host, name))


def quarantine(host: str) -> RecordName:
    """How much `host` holds in quarantine."""
    return RecordName("quarantine", _join(host))


def notices(host: str) -> RecordName:
    """What the admins of `host` are still to be told."""
    return RecordName("notices", _join(host))


def endpoint(endpoint_id: str) -> RecordName:
    """The endpoint with this id."""
    return RecordName("endpoint", _join(endpoint_id))


def delivery(delivery_id: str) -> RecordName:
    """The delivery with this id."""
    return RecordName("delivery", _join(delivery_id))


def fanout(host: str) -> RecordName:
    """How far the events of `host` were handed on."""
    return RecordName("fanout", _join(host))


def token(token_id: str) -> RecordName:
    """The API token with this id."""
    return RecordName("token", _join(token_id))


def triage(incident_id: str) -> RecordName:
    """What the operators think of this incident."""
    return RecordName("triage", _join(incident_id))


def approval(approval_id: str) -> RecordName:
    """The approval with this id."""
    return RecordName("approval", _join(approval_id))


def mitigation(mitigation_id: str) -> RecordName:
    """The mitigation with this id."""
    return RecordName("mitigation", _join(mitigation_id))


def listing(host: str, address: str) -> RecordName:
    """What an operator of `host` said about listing this address."""
    return RecordName("listing", _join(host, address))


def sign_in(sign_in_id: str) -> RecordName:
    """Somebody who wants to sign in."""
    return RecordName("sign_in", _join(sign_in_id))


def session(session_id: str) -> RecordName:
    """The session with this id."""
    return RecordName("session", _join(session_id))


def abuse_draft(draft_id: str) -> RecordName:
    """The draft with this id, made of users' reports."""
    return RecordName("abuse", _join(draft_id))


def feed(feed_id: str) -> RecordName:
    """The feed with this id."""
    return RecordName("feed", _join(feed_id))


def feed_names(feed_id: str) -> RecordName:
    """What a feed names."""
    return RecordName("feed_names", _join(feed_id))


def name_of(record: Record) -> RecordName:  # noqa: C901, PLR0911, PLR0912 - one case for each record
    """The name under which this record is stored."""
    match record:
        case Interaction():
            return interaction(record.id)
        case Incident():
            return incident(record.id)
        case Peer():
            return peer(record.host, record.domain)
        case Bucket():
            return bucket(record.host, record.name)
        case Quarantine():
            return quarantine(record.host)
        case Notices():
            return notices(record.host)
        case Endpoint():
            return endpoint(record.id)
        case Delivery():
            return delivery(record.id)
        case Fanout():
            return fanout(record.host)
        case Token():
            return token(record.id)
        case Triage():
            return triage(record.incident_id)
        case Approval():
            return approval(record.id)
        case Mitigation():
            return mitigation(record.id)
        case Listing():
            return listing(record.host, record.address)
        case SignIn():
            return sign_in(record.id)
        case Session():
            return session(record.id)
        case AbuseDraft():
            return abuse_draft(record.id)
        case Feed():
            return feed(record.id)
        case FeedNames():
            return feed_names(record.feed_id)
    assert_never(record)


def record_key(name: RecordName) -> str:
    """The key of a record's hash."""
    return f"{PREFIX}r:{name.type}:{name.key}"


def record_name(key: str) -> RecordName:
    """The inverse of `record_key`."""
    kind, _, rest = key.removeprefix(f"{PREFIX}r:").partition(":")
    return RecordName(kind, rest)


def incidents(host: str) -> str:
    """Index of all incidents of `host`, by the time of their last change."""
    return f"{PREFIX}i:incidents:{_join(host)}"


def incidents_made(host: str) -> str:
    """Index of all incidents of `host`, by the time they were made, which never changes: pages of it stay true."""
    return f"{PREFIX}i:made:{_join(host)}"


def incidents_quarantined(host: str, *, quarantined: bool) -> str:
    """Index of the incidents in, or not in, quarantine."""
    return f"{PREFIX}i:quarantined:{_join(host, 'yes' if quarantined else 'no')}"


def incidents_of_reporter(host: str, reporter: str) -> str:
    """Index of the incidents that one peer reported."""
    return f"{PREFIX}i:reporter:{_join(host, reporter)}"


def incidents_with_status(host: str, status: Status) -> str:
    """Index of the incidents that are new, updated or resolved."""
    return f"{PREFIX}i:status:{_join(host, status)}"


def accounts(host: str, name: str, text: str) -> str:
    """Index of everybody's account of one incident, by its IncidentID; without what lies in quarantine."""
    return f"{PREFIX}i:account:{_join(host, _short(name.casefold() + chr(0) + text))}"


def held(host: str) -> str:
    """Index of the interactions that count for the host's quarantine, by the time they came."""
    return f"{PREFIX}i:held:{_join(host)}"


def texts(host: str, text: str) -> str:
    """Index of the incidents whose IncidentID has this text, whoever named it; without what lies in quarantine."""
    return f"{PREFIX}i:text:{_join(host, _short(text))}"


def sources(host: str, address: str) -> str:
    """Index of the incidents that name this address as a source."""
    return f"{PREFIX}i:source:{_join(host, _short(address))}"


def forwarded_to(host: str) -> str:
    """Index of the peers to which reports of others go on."""
    return f"{PREFIX}i:forward:{_join(host)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def interactions(incident_id: str) -> str:
    """Index of the interactions about one incident, by the time they came."""
    return f"{PREFIX}i:interactions:{_join(incident_id)}"


def peers(host: str) -> str:
    """Index of the peers that `host` knows, by the time they were last seen (0: never)."""
    return f"{PREFIX}i:peers:{_join(host)}"


def peer_names(host: str) -> str:
    """Index of the peers that `host` knows, all with score 0: in the order of their names."""
    return f"{PREFIX}i:peername:{_join(host)}"


def peers_trusted(host: str) -> str:
    """Index of the peers that `host` trusts, by the time they were last seen (0: never)."""
    return f"{PREFIX}i:trusted:{_join(host)}"


def peers_undecided(host: str) -> str:
    """Index of the strangers that have something in quarantine, by the time they were last seen."""
    return f"{PREFIX}i:undecided:{_join(host)}"


ENDPOINTS: Final = f"{PREFIX}i:endpoint:"
"""Index of all endpoints, by the time they were added."""
DELIVERIES: Final = f"{PREFIX}i:delivery:"
"""Index of all deliveries, by the time they were first tried."""
TOKENS: Final = f"{PREFIX}i:token:"
"""Index of all API tokens, by the time they were made."""
SESSIONS: Final = f"{PREFIX}i:session:"
"""Index of all sessions of the console, by the time they end."""


def endpoints(host: str) -> str:
    """Index of the endpoints that get events of `host`, by the time they were added."""
    return f"{PREFIX}i:endpoint:{_join(host)}"


def deliveries(endpoint_id: str) -> str:
    """Index of the deliveries to an endpoint, by the time they were first tried."""
    return f"{PREFIX}i:delivery:{_join(endpoint_id)}"


def deliveries_with_state(endpoint_id: str, state: DeliveryState) -> str:
    """Index of the deliveries to an endpoint that are pending, or dead; there is none of those delivered."""
    return f"{PREFIX}i:delivery:{_join(endpoint_id, state)}"


def triaged(host: str) -> str:
    """Index of the incidents of `host` that an operator touched, by when."""
    return f"{PREFIX}i:triage:{_join(host)}"


def approvals(host: str) -> str:
    """Index of all approvals of `host`, by the time they were asked for."""
    return f"{PREFIX}i:approval:{_join('host', host)}"


def approvals_open(host: str) -> str:
    """Index of the approvals that wait for an operator, by the time they were asked for."""
    return f"{PREFIX}i:approval:{_join('open', host)}"


def approvals_of_incident(incident_id: str) -> str:
    """Index of the approvals about one incident."""
    return f"{PREFIX}i:approval:{_join('incident', incident_id)}"


def mitigations(host: str) -> str:
    """Index of all mitigations of `host`, by the time they were approved."""
    return f"{PREFIX}i:mitigation:{_join('host', host)}"


def mitigations_active(host: str) -> str:
    """Index of the mitigations in force, or about to begin or end, by the time they were approved."""
    return f"{PREFIX}i:mitigation:{_join('active', host)}"


def mitigations_of_incident(incident_id: str) -> str:
    """Index of the mitigations about one incident."""
    return f"{PREFIX}i:mitigation:{_join('incident', incident_id)}"


def abuse_drafts(host: str) -> str:
    """Index of what users of `host` reported, by the time of the last report."""
    return f"{PREFIX}i:abuse:{_join('host', host)}"


def abuse_drafts_open(host: str) -> str:
    """Index of what users of `host` reported and no operator decided about, by the time of the last report."""
    return f"{PREFIX}i:abuse:{_join('open', host)}"


def listings(host: str) -> str:
    """Index of the addresses that operators of `host` listed or withheld, by when."""
    return f"{PREFIX}i:listing:{_join(host)}"


FEEDS_DUE: Final = f"{PREFIX}i:feed:due"
"""Index of all feeds, by the time they are to be read."""


def feeds(host: str) -> str:
    """Index of the lists of others that `host` subscribes to, by the time it did."""
    return f"{PREFIX}i:feed:{_join('host', host)}"


def milliseconds(moment: datetime | None) -> int:
    """A moment as an index scores it; None is the beginning of time."""
    return 0 if moment is None else round(moment.timestamp() * 1000)


def index_entries(record: Record) -> Entries:  # noqa: C901, PLR0911, PLR0912, PLR0915 - one case for each record
    """Every index this record is in, with its member and score there."""
    match record:
        case Interaction():
            came = (record.id, milliseconds(record.received_at))
            found = {interactions(record.incident_id): came}
            return found | {held(record.host): came} if record.quarantined else found
        case Incident():
            entry = (record.id, milliseconds(record.updated_at))
            lists = (
                incidents(record.host),
                incidents_quarantined(record.host, quarantined=record.quarantined),
                incidents_of_reporter(record.host, record.reporter),
                incidents_with_status(record.host, record.status),
                *(sources(record.host, address) for address in record.sources),
            )
            if not record.quarantined:
                identity = record.identity
                lists += (
                    texts(record.host, identity.text),
                    accounts(record.host, identity.name, identity.text),
                )
            made = (record.id, milliseconds(record.created_at))
            return dict.fromkeys(lists, entry) | {incidents_made(record.host): made}
        case Peer():
            entry = (record.domain, milliseconds(record.last_seen_at))
            is_forwarded_to = record.is_forwarded_to and record.trust is Trust.TRUSTED
            named = {peers(record.host): entry, peer_names(record.host): (record.domain, 0)}
            if record.trust is Trust.TRUSTED:
                named[peers_trusted(record.host)] = entry
            if record.trust is Trust.STRANGER and record.quarantined:
                named[peers_undecided(record.host)] = entry
            return named | ({forwarded_to(record.host): entry} if is_forwarded_to else {})
        case Endpoint():
            entry = (record.id, milliseconds(record.created_at))
            return dict.fromkeys((ENDPOINTS, *(endpoints(host) for host in record.hosts)), entry)
        case Delivery():
            entry = (record.id, milliseconds(record.created_at))
            lists = (DELIVERIES, deliveries(record.endpoint_id))
            if record.state is not DeliveryState.DELIVERED:
                lists += (deliveries_with_state(record.endpoint_id, record.state),)
            return dict.fromkeys(lists, entry)
        case Token():
            return {TOKENS: (record.id, milliseconds(record.created_at))}
        case Triage():
            return {triaged(record.host): (record.incident_id, milliseconds(record.updated_at))}
        case Approval():
            entry = (record.id, milliseconds(record.created_at))
            lists = (approvals(record.host),)
            if record.incident_id:
                lists += (approvals_of_incident(record.incident_id),)
            if record.state is ApprovalState.OPEN:
                lists += (approvals_open(record.host),)
            return dict.fromkeys(lists, entry)
        case Mitigation():
            entry = (record.id, milliseconds(record.created_at))
            lists = (mitigations(record.host),)
            if record.incident_id:
                lists += (mitigations_of_incident(record.incident_id),)
            if record.is_active:
                lists += (mitigations_active(record.host),)
            return dict.fromkeys(lists, entry)
        case Listing():
            return {listings(record.host): (record.address, milliseconds(record.at))}
        case Session():
            return {SESSIONS: (record.id, milliseconds(record.expires_at))}
        case AbuseDraft():
            entry = (record.id, milliseconds(record.last_at))
            lists = (abuse_drafts(record.host),)
            if record.state is DraftState.OPEN:
                lists += (abuse_drafts_open(record.host),)
            return dict.fromkeys(lists, entry)
        case Feed():
            return {
                feeds(record.host): (record.id, milliseconds(record.added_at)),
                FEEDS_DUE: (record.id, milliseconds(record.due_at)),
            }
        case Bucket() | Quarantine() | Notices() | Fanout() | SignIn() | FeedNames():
            return {}
    assert_never(record)


def remembered(host: str, name: str) -> str:
    """The key under which a payload is remembered."""
    return f"{PREFIX}seen:{_join(host, name)}"


def once(webhook_id: str) -> str:
    """The key of the answer recorded for a webhook id."""
    return f"{PREFIX}once:{webhook_id}"


def events(host: str) -> str:
    """The stream of a host's webhook events."""
    return f"{PREFIX}events:{_join(host)}"


def sequence(host: str) -> str:
    """The number of a host's last event."""
    return f"{PREFIX}sequence:{_join(host)}"


def tallies(host: str, telling: str) -> str:
    """How many interactions of each kind and peer the host's admins are still to be told of."""
    return f"{PREFIX}tallies:{_join(host, telling)}"


def audit(host: str) -> str:
    """The stream of a host's audit log."""
    return f"{PREFIX}audit:{_join(host)}"


def timer(name: str) -> str:
    """What a timer will append."""
    return f"{PREFIX}timer:{name}"
