"""Webhook endpoints as operators manage them: added, changed, tried out, given a new secret, removed.

House rules: the secret is in what `add` and `rotate` return and is shown then only; what is asked for is done to the
endpoint as it stands now, so that a worker that notes a failure meanwhile is no reason to give up; every change
leaves an entry in the audit log of each host concerned.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from bridge.errors import ConfigError, ConflictError, MalformedError
from bridge.iodef.model import Severity
from bridge.log import visible
from bridge.pipeline.actors import Actor, audits
from bridge.pipeline.ids import new_id as random_id
from bridge.pipeline.ids import new_webhook_secret
from bridge.policy.change import Change, Event, Put
from bridge.policy.consumers import Endpoint, QuarantineFilter
from bridge.store import keys, load
from bridge.store.commit import StaleError, commit
from bridge.store.connect import Store
from bridge.webhooks.event import SCHEMA, EventType
from bridge.webhooks.signature import decode_secret
from bridge.webhooks.subscription import Network, check_headers, check_url
from bridge.xmpp.jid import prep_domain

OLD_SECRET_FOR: Final = timedelta(hours=24)
_MAX_FILTERS = 100
_MAX_DESCRIPTION = 500
_MAX_REASON = 200
_TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointDraft:
    """What an operator says about an endpoint; the same words as in `consumers.Endpoint`, not yet checked."""

    url: str
    hosts: Sequence[str]
    description: str = ""
    types: Sequence[str] = ()
    peers: Sequence[str] = ()
    severities: Sequence[str] = ()
    quarantined: QuarantineFilter = QuarantineFilter.EXCLUDE
    includes_xml: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


def draft_of(endpoint: Endpoint) -> EndpointDraft:
    """Say about an endpoint what an operator would have to say to get it as it is."""
    names = EndpointDraft.__dataclass_fields__
    return EndpointDraft(**{name: getattr(endpoint, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Permitted:
    """What the configuration permits.

    Attributes:
        hosts: those that are configured.
        allow_http: whether plain http may leave the machine.
        allow_networks: networks of the operator's own.
        max_endpoints: no more than so many.
    """

    hosts: Collection[str]
    allow_http: bool = False
    allow_networks: Sequence[Network] = ()
    max_endpoints: int = 1000


def checked(given: Mapping[str, Any], permitted: Permitted) -> dict[str, Any]:
    """Check and normalise what an operator said.

    Args:
        given: fields of a draft, by name.
        permitted: what the configuration permits.

    Raises:
        MalformedError: the path names the field (`url`, `types[2]`), the rule what is wrong.
    """
    checks: dict[str, Callable[[Any], Any]] = {
        "url": lambda url: check_url(url, allow_http=permitted.allow_http, allowed=permitted.allow_networks),
        "hosts": lambda names: _some("hosts", names, permitted.hosts),
        "description": lambda text: _plain("description", text, most=_MAX_DESCRIPTION),
        "types": lambda names: _each("types", names, lambda name: _one_of(name, list(EventType))),
        "peers": lambda names: _each("peers", names, prep_domain),
        "severities": lambda names: _each("severities", names, lambda name: _one_of(name, list(Severity))),
        "headers": check_headers,
    }
    return {name: checks[name](value) if name in checks else value for name, value in given.items()}


def _some(name: str, values: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    if not values:
        raise MalformedError(name, "an endpoint gets the events of at least one host")
    return _each(name, values, lambda value: _one_of(value.casefold(), known))


def _each(name: str, values: Sequence[str], check: Callable[[str], str]) -> tuple[str, ...]:
    if len(values) > _MAX_FILTERS:
        raise MalformedError(name, f"has {len(values)} entries; {_MAX_FILTERS} is the most")
    found: dict[str, None] = {}
    for number, value in enumerate(values):
        try:
            found[check(value)] = None
        except MalformedError as error:
            raise MalformedError(f"{name}[{number}]", error.rule) from None
    return tuple(found)


def _one_of(value: str, known: Collection[str]) -> str:
    if value not in known:
        raise MalformedError("", f'"{visible(value[:100])}" is none of {", ".join(known)}')
    return value


def _plain(name: str, text: str, *, most: int) -> str:
    text = text.strip()
    if len(text) > most or visible(text) != text:
        raise MalformedError(name, f"is one line of at most {most} visible characters")
    return text


async def add(
    store: Store,
    draft: EndpointDraft,
    *,
    actor: Actor,
    now: datetime,
    permitted: Permitted,
    secret: str | None = None,
    new_id: Callable[[], str] = random_id,
) -> Endpoint:
    """Add an endpoint; it gets what happens from now on.

    Args:
        store: where to.
        draft: what it is to be.
        actor: who adds it.
        now: the time.
        permitted: what the configuration permits.
        secret: `whsec_…` that the consumer has already; None: a new one is made.
        new_id: makes its id; where an endpoint has this id already, this was done before, and that one is returned.

    Raises:
        MalformedError: as `checked` says.
        ConfigError: the secret is none, or there are too many endpoints.
    """
    fields = checked(_fields(draft), permitted)
    if secret is not None:
        decode_secret(secret)
    endpoint_id = f"ep_{new_id()}"
    await _must_have_room(store, endpoint_id, permitted.max_endpoints)
    endpoint = Endpoint(
        id=endpoint_id,
        secret=secret or new_webhook_secret(),
        created_at=now,
        since=await _newest(store, fields["hosts"]),
        **fields,
    )
    entries = audits(endpoint.hosts, actor, "endpoint.add", endpoint.id, now=now, detail=_where(endpoint))
    try:
        await commit(store, Change(puts=(Put(None, endpoint),), audits=entries))
    except StaleError:
        return await loaded(store, endpoint_id)
    return replace(endpoint, version=1)


async def _must_have_room(store: Store, endpoint_id: str, most: int) -> None:
    known = await load.page(store, keys.ENDPOINTS, limit=most)
    if len(known) == most and endpoint_id not in dict(known):
        raise ConfigError(f"there are {most} endpoints; that is the most (webhooks.max_endpoints)")


async def change(
    store: Store,
    endpoint: Endpoint,
    draft: EndpointDraft,
    *,
    actor: Actor,
    now: datetime,
    permitted: Permitted,
) -> Endpoint:
    """Make an endpoint what the draft says; of a host that it did not have it gets what happens from now on.

    What the draft leaves as it is in `endpoint` is not judged, although the configuration may no longer permit it,
    and stays as somebody else may have changed it meanwhile.

    Raises:
        MalformedError: as `checked` says.
        ConflictError: it was removed.
    """
    was = _fields(draft_of(endpoint))
    given = {name: value for name, value in _fields(draft).items() if value != was[name]}
    changed = {name: value for name, value in checked(given, permitted).items() if value != was[name]}
    newest = await _newest(store, changed.get("hosts", ()))

    def alter(known: Endpoint) -> Endpoint:
        after = replace(known, **changed)
        return replace(
            after, since={host: known.since.get(host, newest.get(host, 0)) for host in after.hosts}
        )

    return await _altered(store, endpoint, alter, actor=actor, action="endpoint.change", now=now)


async def rotate(store: Store, endpoint: Endpoint, *, actor: Actor, now: datetime) -> Endpoint:
    """Give an endpoint a new secret; the one before signs too, for 24 hours, and none older.

    Raises:
        ConflictError: it was removed.
    """
    secret = new_webhook_secret()

    def alter(known: Endpoint) -> Endpoint:
        return replace(known, secret=secret, old_secret=known.secret, old_secret_until=now + OLD_SECRET_FOR)

    return await _altered(store, endpoint, alter, actor=actor, action="endpoint.rotate", now=now)


async def enable(store: Store, endpoint: Endpoint, *, actor: Actor, now: datetime) -> Endpoint:
    """Deliver to an endpoint again: what happens from now on; what it missed is delivered by `redeliver_many`.

    Raises:
        ConflictError: it was removed.
    """

    def alter(known: Endpoint) -> Endpoint:
        return replace(known, disabled_reason=None, disabled_at=None, failing_since=None, told_at=None)

    return await _altered(store, endpoint, alter, actor=actor, action="endpoint.enable", now=now)


async def disable(store: Store, endpoint: Endpoint, *, reason: str, actor: Actor, now: datetime) -> Endpoint:
    """Deliver nothing more to an endpoint; one that is disabled already keeps its reason.

    Raises:
        MalformedError: the reason is not one line of text.
        ConflictError: it was removed.
    """
    reason = _plain("reason", reason, most=_MAX_REASON) or f"disabled by {actor.name}"

    def alter(known: Endpoint) -> Endpoint:
        if known.disabled_reason is not None:
            return known
        return replace(known, disabled_reason=reason, disabled_at=now)

    return await _altered(store, endpoint, alter, actor=actor, action="endpoint.disable", now=now)


async def remove(store: Store, endpoint: Endpoint, *, actor: Actor, now: datetime) -> None:
    """Remove an endpoint; what waits for it is dropped, its deliveries go when their time is over.

    Raises:
        ConflictError: it was removed before.
    """
    entries = audits(endpoint.hosts, actor, "endpoint.remove", endpoint.id, now=now, detail=_where(endpoint))
    for _ in range(_TRIES):
        try:
            await commit(store, Change(drops=(endpoint,), audits=entries))
        except ConflictError:
            endpoint = await loaded(store, endpoint.id)
            continue
        return
    raise ConflictError(f"endpoint {endpoint.id} changes faster than it can be written; try again")


async def send_test(
    store: Store,
    endpoint: Endpoint,
    *,
    actor: Actor,
    now: datetime,
    new_id: Callable[[], str] = random_id,
) -> str:
    """Have an `endpoint.test` delivered to this endpoint only, whatever its filters; returns the event's id.

    Raises:
        ConfigError: it is disabled, so nothing is delivered to it.
    """
    must_be_enabled(endpoint)
    host, event_id = endpoint.hosts[0], f"{new_id()}-test"
    data = {"schema": SCHEMA, "event_id": event_id, "host": host, "endpoint_id": endpoint.id}
    event = Event(host=host, id=event_id, type=EventType.ENDPOINT_TEST, timestamp=now, data=data)
    entries = audits((host,), actor, "endpoint.test", endpoint.id, now=now)
    await commit(store, Change(events=(event,), audits=entries))
    return event_id


async def loaded(store: Store, endpoint_id: str) -> Endpoint:
    """Load an endpoint as it is now.

    Raises:
        ConflictError: it is gone.
    """
    name = keys.endpoint(endpoint_id)
    found = (await load.fetch(store, names=[name])).records[name]
    if not isinstance(found, Endpoint):
        raise ConflictError(f"endpoint {endpoint_id} was removed")
    return found


def must_be_enabled(endpoint: Endpoint) -> None:
    """Refuse what an endpoint that is disabled would never get.

    Raises:
        ConfigError: it is disabled; the message says how to enable it.
    """
    if endpoint.disabled_reason is not None:
        raise ConfigError(
            f"endpoint {endpoint.id} is disabled ({endpoint.disabled_reason}); first: "
            f"incident-bridge endpoints enable {endpoint.id}"
        )


async def _altered(
    store: Store,
    endpoint: Endpoint,
    alter: Callable[[Endpoint], Endpoint],
    *,
    actor: Actor,
    action: str,
    now: datetime,
) -> Endpoint:
    """Alter an endpoint as it stands when it is written; what alters nothing is not written."""
    for _ in range(_TRIES):
        after = alter(endpoint)
        if after == endpoint:
            return endpoint
        hosts = dict.fromkeys((*endpoint.hosts, *after.hosts))
        entries = audits(hosts, actor, action, endpoint.id, now=now, detail=_where(after))
        try:
            await commit(store, Change(puts=(Put(endpoint, after),), audits=entries))
        except ConflictError:
            endpoint = await loaded(store, endpoint.id)
            continue
        return replace(after, version=endpoint.version + 1)
    raise ConflictError(f"endpoint {endpoint.id} changes faster than it can be written; try again")


def _fields(draft: EndpointDraft) -> dict[str, Any]:
    return {name: getattr(draft, name) for name in EndpointDraft.__dataclass_fields__}


def _where(endpoint: Endpoint) -> str:
    """The endpoint's address for the audit log: path and query stay out, either may be a credential."""
    parts = urlsplit(endpoint.url)
    return f"{parts.scheme}://{parts.netloc}"


async def _newest(store: Store, hosts: Sequence[str]) -> dict[str, int]:
    """The sequence of the newest event of each host."""
    return {host: (await load.event_bounds(store, host))[1] for host in hosts}
