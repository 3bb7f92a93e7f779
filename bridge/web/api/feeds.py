"""`feeds`: lists of others that our hosts subscribe to, what they propose, and a yes to that.

House rule: subscribing takes the scope `write`, blocking what one names `approve`; nothing follows by itself.
"""

from datetime import datetime, timedelta
from typing import Final, Self

from pydantic import Field

from bridge.errors import ConfigError, ConflictError, MalformedError
from bridge.pipeline import feeds as stories
from bridge.policy.consumers import Scope
from bridge.policy.feed import Claim, Proposals, checked_url
from bridge.policy.feed_record import Feed
from bridge.policy.mitigation import ProtectedError
from bridge.web.api.approvals import ApprovalView
from bridge.web.api.model import Body, Domain, Line, Moment, Out, Query, Text
from bridge.web.api.router import PREFIX, Answer, Call, Route, invalid, not_found
from bridge.xmpp.jid import Jid

TAG: Final = "feeds"
_LONGEST: Final = timedelta(days=3650)


class FeedView(Out):
    """A list of others that a host subscribes to."""

    id: str
    host: str
    url: str = Field(description="`https://…`, one name a line; or `xmpp:SERVICE?;node=NODE`.")
    publisher: str = Field(description="Who answers for it; what one publisher says counts once.")
    by: str = Field(description="Who subscribed.")
    added_at: datetime
    due_at: datetime = Field(description="When it is read next.")
    read_at: datetime | None = Field(description="When it was read last; null: not yet.")
    changed_at: datetime | None = Field(description="When that was another list than before.")
    problem: str = Field(
        description="Why it could not be read last; empty: it could. What it named before stands."
    )
    names: int = Field(description="How many names it has.")
    bad: int = Field(description="Lines that are no name.")
    left_out: int = Field(description="Names that found no place.")

    @classmethod
    def of(cls, feed: Feed) -> Self:
        """Show it."""
        given = {name: getattr(feed, name) for name in cls.model_fields if name != "publisher"}
        return cls(**given, publisher=feed.answers)


class FeedsView(Out):
    """The lists that are subscribed to."""

    items: tuple[FeedView, ...]


class ClaimView(Out):
    """That one list names it."""

    url: str
    since: datetime = Field(description="When that was first seen here.")

    @classmethod
    def of(cls, claim: Claim) -> Self:
        """Show it."""
        return cls(url=claim.url, since=claim.since)


class ProposalView(Out):
    """A server that enough lists name."""

    domain: str
    by: tuple[ClaimView, ...]
    voices: int = Field(description="How many publishers these are.")
    standing: str = Field(
        description="What is decided about it: `blocked`, `listed`, `withheld`, `own`; or that it needs a second yes: "
        "`protected`, `trusted`; empty: nothing."
    )
    reports: int = Field(description="Reports of your own users about it that wait.")


class LetGoView(Out):
    """A block because of lists, of which fewer than the quorum name the server now."""

    mitigation_id: str
    domain: str
    by: tuple[ClaimView, ...]


class ProposalsView(Out):
    """What a host's lists propose now."""

    host: str
    quorum: int = Field(description="How many publishers must agree; a publisher's lists count once.")
    items: tuple[ProposalView, ...] = Field(
        description="What is not decided first; then what most users report."
    )
    fewer: int = Field(description="Undecided servers that fewer lists name.")
    let_go: tuple[LetGoView, ...]
    left_out: int = Field(description="How many more there are.")

    @classmethod
    def of(cls, host: str, what: Proposals) -> Self:
        """Show it."""
        return cls(
            host=host,
            quorum=what.quorum,
            items=tuple(
                ProposalView(
                    domain=one.domain,
                    by=tuple(map(ClaimView.of, one.by)),
                    voices=one.voices,
                    standing=one.standing,
                    reports=one.reports,
                )
                for one in what.found
            ),
            fewer=what.fewer,
            let_go=tuple(
                LetGoView(
                    mitigation_id=one.mitigation_id, domain=one.domain, by=tuple(map(ClaimView.of, one.by))
                )
                for one in what.let_go
            ),
            left_out=what.left_out,
        )


class NamedView(Out):
    """Which lists name an address."""

    address: str
    by: tuple[ClaimView, ...] = Field(description="An account counts as named where its whole server is.")


class HostQuery(Query):
    """Whose lists."""

    host: Domain | None = Field(default=None, description="Only this host's; needed where one is meant.")


class ProposalsQuery(HostQuery):
    """What counts as enough."""

    quorum: int | None = Field(default=None, ge=1, le=20, description="Default: `policy.feed_quorum`.")


class NamedQuery(HostQuery):
    """About whom."""

    address: str = Field(min_length=1, max_length=3071, description="A domain or a JID.")


class SubscribeBody(Body):
    """A list to subscribe to."""

    host: Domain | None = Field(default=None, description="Needed where the token sees several.")
    url: Line = Field(max_length=2048, description="`https://…` or `xmpp:SERVICE?;node=NODE`.")
    publisher: Line = Field(
        default="",
        max_length=100,
        description="Who answers for it; empty: as it was, or the domain where it is.",
    )


class BlockBody(Body):
    """A yes to what lists name."""

    host: Domain | None = Field(default=None, description="Needed where the token sees several.")
    domain: Domain
    expires_at: Moment | None = Field(
        default=None, description="When it ends; null: after `policy.mitigation_days`."
    )
    reason: Text = Field(default="", max_length=1000, description="For yourselves.")
    second_yes: bool = Field(default=False, description="Protected names are meant too.")


async def list_feeds(call: Call) -> Answer:
    """The lists that are subscribed to."""
    hosts = sorted(call.hosts_for(call.query.host))
    found = [one for host in hosts for one in await stories.listed(call.store, host)]
    return Answer(body=FeedsView(items=tuple(map(FeedView.of, found))))


async def subscribe(call: Call) -> Answer:
    """Subscribe to one."""
    body: SubscribeBody = call.body
    host, settings = call.one_host(body.host), call.service.settings
    hooks = settings.webhooks
    try:
        url = checked_url(
            body.url, own=settings.own_names, allow_http=hooks.allow_http, allowed=hooks.allow_networks
        )
    except ConfigError as error:
        raise invalid("url", str(error)) from None
    try:
        one = await stories.subscribe(
            call.store, host, url, actor=call.actor, now=call.now, publisher=body.publisher.strip().casefold()
        )
    except ConfigError as error:
        raise ConflictError(str(error)) from None
    return Answer(body=FeedView.of(one), headers={"Location": f"{PREFIX}/feeds/{one.id}"})


async def _known(call: Call) -> Feed:
    one = await stories.find(call.store, call.path["id"])
    if one is None or not call.sees(one.host):
        raise not_found("feed")
    return one


async def show(call: Call) -> Answer:
    """One of them."""
    return Answer(body=FeedView.of(await _known(call)))


async def unsubscribe(call: Call) -> Answer:
    """End one."""
    await stories.unsubscribe(call.store, await _known(call), actor=call.actor, now=call.now)
    return Answer()


async def propose(call: Call) -> Answer:
    """What they propose."""
    query: ProposalsQuery = call.query
    host = call.one_host(query.host, kind="invalid-query")
    settings = call.service.settings
    what = await stories.proposals(
        call.store, host, own=settings.hosts, rules=settings.policy, now=call.now, quorum=query.quorum
    )
    return Answer(body=ProposalsView.of(host, what))


async def find(call: Call) -> Answer:
    """Which of them name an address."""
    host = call.one_host(call.query.host, kind="invalid-query")
    try:
        address = Jid.parse(call.query.address).bare
    except MalformedError as error:
        raise invalid("address", error.rule, kind="invalid-query") from None
    found = await stories.named(call.store, host, [address])
    return Answer(body=NamedView(address=address, by=tuple(map(ClaimView.of, found.get(address, ())))))


async def block(call: Call) -> Answer:
    """Say yes."""
    body: BlockBody = call.body
    host = call.one_host(body.host)
    if body.expires_at is not None and not call.now < body.expires_at <= call.now + _LONGEST:
        raise invalid("expires_at", "must lie in the future, at most ten years from now")
    try:
        after = await stories.block(
            call.store,
            host,
            body.domain,
            own=call.service.settings.hosts,
            approval_id=call.new_id(),
            actor=call.actor,
            rules=call.service.settings.policy,
            now=call.now,
            expires_at=body.expires_at,
            second_yes=body.second_yes,
            reason=body.reason,
        )
    except ProtectedError as error:
        raise invalid("second_yes", str(error)) from None
    except ConfigError as error:
        raise ConflictError(str(error)) from None
    return Answer(body=ApprovalView.of(after), headers={"Location": f"{PREFIX}/approvals/{after.id}"})


ROUTES: Final = (
    Route(
        method="GET",
        path="/feeds",
        scope=Scope.READ,
        handler=list_feeds,
        summary="Lists of others that are subscribed to, and how reading them goes",
        tag=TAG,
        query=HostQuery,
        answer=FeedsView,
    ),
    Route(
        method="POST",
        path="/feeds",
        scope=Scope.WRITE,
        handler=subscribe,
        summary="Subscribe to a list",
        description="Nothing follows from it by itself. One that is known already is read at once. 409: too many.",
        tag=TAG,
        body=SubscribeBody,
        answer=FeedView,
        status=201,
    ),
    Route(
        method="GET",
        path="/feeds/proposals",
        scope=Scope.READ,
        handler=propose,
        summary="Servers that enough lists name, and which do",
        tag=TAG,
        query=ProposalsQuery,
        answer=ProposalsView,
    ),
    Route(
        method="GET",
        path="/feeds/named",
        scope=Scope.READ,
        handler=find,
        summary="Which lists name an address, in the open or as a hash",
        tag=TAG,
        query=NamedQuery,
        answer=NamedView,
    ),
    Route(
        method="POST",
        path="/feeds/block",
        scope=Scope.APPROVE,
        handler=block,
        summary="Block a server that at least one list names",
        description="The lists are kept with it, and it is published on no list of yours. 409: no list names it, or it "
        "is decided about.",
        tag=TAG,
        body=BlockBody,
        answer=ApprovalView,
    ),
    Route(
        method="GET",
        path="/feeds/{id}",
        scope=Scope.READ,
        handler=show,
        summary="One subscription",
        tag=TAG,
        answer=FeedView,
    ),
    Route(
        method="DELETE",
        path="/feeds/{id}",
        scope=Scope.WRITE,
        handler=unsubscribe,
        summary="End a subscription",
        description="What was blocked because of it stays blocked.",
        tag=TAG,
        status=204,
    ),
)
