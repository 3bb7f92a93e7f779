"""`lists`: what our hosts publish for other software to load."""

from datetime import datetime, timedelta
from typing import Final, Self

from pydantic import AwareDatetime, Field

from bridge.errors import ConfigError
from bridge.pipeline import publish as stories
from bridge.policy.consumers import Scope
from bridge.policy.listing import Listing
from bridge.policy.mitigation import ProtectedError
from bridge.policy.publish import Entry, NotAgreedError, Published, prepared
from bridge.policy.record import Incident
from bridge.store import keys, load
from bridge.web.api.model import Body, Domain, Out, Query, Text
from bridge.web.api.router import Answer, Call, Route, invalid, not_found

TAG: Final = "lists"
_LONGEST: Final = timedelta(days=3650)


class EntryView(Out):
    """An address that is listed."""

    address: str = Field(description="A domain, or the bare JID of an account.")
    since: datetime
    until: datetime | None = Field(description="When it is off the list by itself.")
    by: str = Field(description="Who decided that.")
    mitigation_id: str = Field(description="The mitigation that it follows from; empty: somebody listed it.")
    incident_id: str
    is_reported: bool = Field(description="Users reported it, and it was listed with the yes to that.")

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Show it."""
        return cls(**{name: getattr(entry, name) for name in cls.model_fields})


class ListingView(Out):
    """What was said about one address."""

    host: str
    address: str
    is_published: bool = Field(description="False: it is withheld, whatever else says so.")
    by: str
    at: datetime
    reason: str = Field(description="Never published.")
    expires_at: datetime | None
    incident_id: str
    is_reported: bool = Field(description="Users reported it, and it was listed with the yes to that.")

    @classmethod
    def of(cls, listing: Listing) -> Self:
        """Show it."""
        return cls(**{name: getattr(listing, name) for name in cls.model_fields})


class ListView(Out):
    """The list of one host."""

    host: str
    is_published: bool = Field(
        description="Whether the host opted in; if not, this is what would be published."
    )
    entries: tuple[EntryView, ...] = Field(description="The newest first.")
    withheld: tuple[ListingView, ...]
    left_out: int = Field(description="How many older entries found no place.")

    @classmethod
    def of(cls, host: str, what: Published, *, is_published: bool) -> Self:
        """Show it."""
        return cls(
            host=host,
            is_published=is_published,
            entries=tuple(EntryView.of(one) for one in what.entries),
            withheld=tuple(ListingView.of(one) for one in what.withheld),
            left_out=what.left_out,
        )


class ListsView(Out):
    """The lists of several hosts."""

    items: tuple[ListView, ...]


class ListsQuery(Query):
    """Whose lists."""

    host: Domain | None = Field(default=None, description="Only this host's.")


class ListingQuery(Query):
    """On whose list."""

    host: Domain | None = Field(default=None, description="Needed where the token sees several.")


class ListingBody(Body):
    """What is said about an address."""

    is_published: bool = Field(description="True: list it. False: withhold it, whatever else says so.")
    expires_at: AwareDatetime | None = Field(
        default=None, description="When it is off the list; null: after `policy.mitigation_days`."
    )
    reason: Text = Field(default="", max_length=1000, description="For yourselves; never published.")
    incident_id: str = Field(default="", max_length=100, description="The incident that it is about.")
    second_yes: bool = Field(default=False, description="Protected names are meant too.")


async def list_lists(call: Call) -> Answer:
    """What is on the lists now."""
    hosts = call.service.settings.hosts
    found = [
        ListView.of(
            host,
            await stories.published_by(call.store, host, now=call.now),
            is_published=hosts[host].publish_lists,
        )
        for host in sorted(call.hosts_for(call.query.host))
    ]
    return Answer(body=ListsView(items=tuple(found)))


def _named(call: Call) -> tuple[str, str]:
    host = call.one_host(call.query.host, kind="invalid-query")
    try:
        return host, prepared(call.path["address"], host=host)
    except ConfigError as error:
        raise invalid("address", str(error), kind="invalid-query") from None


async def say(call: Call) -> Answer:
    """List an address, or withhold it."""
    host, address = _named(call)
    body: ListingBody = call.body
    if not body.is_published:
        one = await stories.withhold(
            call.store, host, address, actor=call.actor, now=call.now, reason=body.reason
        )
        return Answer(body=ListingView.of(one))
    check_end(call, "expires_at", body.expires_at)
    await _check_incident(call, host, body.incident_id)
    try:
        one = await stories.list_address(
            call.store,
            host,
            address,
            actor=call.actor,
            rules=call.service.settings.policy,
            now=call.now,
            expires_at=body.expires_at,
            reason=body.reason,
            incident_id=body.incident_id,
            second_yes=body.second_yes,
        )
    except ProtectedError as error:
        raise invalid("second_yes", str(error)) from None
    except NotAgreedError as error:
        raise invalid("incident_id", str(error)) from None
    return Answer(body=ListingView.of(one))


def check_end(call: Call, field: str, end: datetime | None) -> None:
    """Blame the field where an entry would be on the list for no time, or for too long."""
    if end is not None and not call.now < end <= call.now + _LONGEST:
        raise invalid(field, "must lie in the future, at most ten years from now")


async def _check_incident(call: Call, host: str, incident_id: str) -> None:
    if not incident_id:
        return
    name = keys.incident(incident_id)
    known = (await load.fetch(call.store, names=[name])).records[name]
    if not isinstance(known, Incident) or known.host != host:
        raise invalid("incident_id", f"is not an incident of {host}")


async def take_back(call: Call) -> Answer:
    """Take back what was said about an address."""
    host, address = _named(call)
    try:
        one = await stories.take_back(call.store, host, address, actor=call.actor, now=call.now)
    except ConfigError:
        raise not_found("listing") from None
    return Answer(body=ListingView.of(one))


ROUTES: Final = (
    Route(
        method="GET",
        path="/lists",
        scope=Scope.READ,
        handler=list_lists,
        summary="What is published for other software to load, or would be",
        tag=TAG,
        query=ListsQuery,
        answer=ListsView,
    ),
    Route(
        method="PUT",
        path="/lists/{address}",
        scope=Scope.APPROVE,
        handler=say,
        summary="List a domain or an account of another server, or withhold it",
        description="What is withheld is never published; a domain covers its accounts.",
        tag=TAG,
        query=ListingQuery,
        body=ListingBody,
        answer=ListingView,
    ),
    Route(
        method="DELETE",
        path="/lists/{address}",
        scope=Scope.APPROVE,
        handler=take_back,
        summary="Take back what was said about an address",
        description="A mitigation of it goes on, and what follows from that. Answers what was said.",
        tag=TAG,
        query=ListingQuery,
        answer=ListingView,
    ),
)
