"""`abuse`: what users of our hosts report about others (XEP-0377), and a yes or no to it.

House rule: who reported is in no answer; sending takes the scope `approve`.
"""

from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import AwareDatetime, Field, model_validator

from bridge.errors import ConfigError, ConflictError
from bridge.pipeline import abuse as stories
from bridge.pipeline import abuse_act, abuse_lists
from bridge.pipeline.drafts import Origin
from bridge.policy import abuse
from bridge.policy.abuse_act import NotMeantError
from bridge.policy.abuse_count import MAX_ACCUSED
from bridge.policy.abuse_record import AbuseDraft, AbuseKind, DraftState
from bridge.policy.approval import MAX_TARGETS
from bridge.policy.consumers import Scope
from bridge.policy.mitigation import ProtectedError
from bridge.policy.record import Record
from bridge.store import keys
from bridge.web.api import paging
from bridge.web.api.approvals import Address, ApprovalView, End, SecondYes, end_of
from bridge.web.api.model import Body, Domain, Out, PageQuery, Text
from bridge.web.api.published import check_end
from bridge.web.api.router import PREFIX, Answer, Call, Route, invalid, not_found

TAG: Final = "abuse"


class AccusedView(Out):
    """One address that users reported."""

    jid: str
    reports: int = Field(description="Of how many users.")
    agreed: int = Field(description="How many of these may be passed on to the accused server.")
    agreed_others: int = Field(description="How many of the latter may go to others as well.")
    is_admin: bool = Field(description="It is an admin of the host.")
    more: int = Field(
        description="Reports by users that are not told apart any more, and may be the same again; never sent."
    )
    resources: tuple[str, ...] = Field(
        description="Some resources that users reported it with: in a room, nicks. Hostile text, never sent."
    )
    may_be_room: bool = Field(
        description="All who reported it named a resource: it may be a room, and somebody in it is meant."
    )
    is_acted_on: bool = Field(description="It was suspended because of it.")


class WordsView(Out):
    """What a user wrote; hostile text."""

    jid: str
    text: str
    at: datetime
    agreed: bool


class StanzaIdView(Out):
    """What a user's archive calls something that was reported."""

    jid: str
    id: str


class DraftView(Out):
    """What users report about one server, of one kind of abuse."""

    id: str
    host: str
    domain: str
    kind: AbuseKind
    state: DraftState
    is_own: bool = Field(description="It is about this server itself; it cannot be sent.")
    may_be_sent: bool
    objection: str | None = Field(description="Why it cannot be sent.")
    reports: int
    agreed: int = Field(description="How many reports may be passed on to the accused server.")
    more: int = Field(description="Reports beyond those; see `accused`.")
    reporters: int = Field(description="Different users, as far as they are told apart.")
    may_be_listed: tuple[str, ...] = Field(
        description="Accounts of which a user agreed that others be told; no others are listed with a yes."
    )
    first_at: datetime
    last_at: datetime
    accused: tuple[AccusedView, ...]
    left_out: int = Field(description="Reports about further addresses.")
    words: tuple[WordsView, ...]
    stanza_ids: tuple[StanzaIdView, ...]
    incident_id: str | None = Field(description="The incident that it became.")
    decided_by: str | None
    decided_at: datetime | None

    @classmethod
    def of(cls, draft: AbuseDraft) -> Self:
        """Show it."""
        return cls.model_validate(abuse.shown(draft), strict=False)


class SentDraftView(DraftView):
    """A draft that was sent."""

    listed: tuple[str, ...] = Field(
        description="The accounts that are on the list of the host because of it."
    )

    @classmethod
    def with_listed(cls, draft: AbuseDraft, listed: tuple[str, ...]) -> Self:
        """Show it."""
        return cls.model_validate({**abuse.shown(draft), "listed": listed}, strict=False)


class DraftPage(Out):
    """A page of drafts, that with the newest report first."""

    items: tuple[DraftView, ...]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class DraftsQuery(PageQuery):
    """Which drafts."""

    host: Domain | None = Field(default=None, description="Only of this host's users.")
    state: DraftState | None = None


class SendDraftBody(Body):
    """A yes."""

    with_words: bool = Field(default=False, description="Also what users wrote who agreed to it.")
    list_accounts: tuple[Address, ...] = Field(
        default=(),
        max_length=MAX_ACCUSED,
        strict=False,
        description="Of `may_be_listed`, the accounts to be listed, too; what is withheld never is. What was reported "
        "after you looked is not listed unless it is named here.",
    )
    listed_until: AwareDatetime | None = Field(
        default=None, description="When they are off the list; null: after `policy.mitigation_days`."
    )
    second_yes: bool = Field(default=False, description="Listing protected names is meant, too.")

    @model_validator(mode="after")
    def _lists_until(self) -> Self:
        if self.listed_until is not None and not self.list_accounts:
            raise ValueError("listed_until goes with list_accounts")
        return self


class ActDraftBody(Body):
    """Whom to suspend."""

    accounts: tuple[Address, ...] = Field(
        min_length=1,
        max_length=MAX_TARGETS,
        strict=False,
        description="Accounts of ours that are among `accused`; an admin never.",
    )
    expires_at: End = None
    second_yes: SecondYes = False
    reason: Annotated[Text, Field(max_length=1000)] = Field(default="", description="For yourselves.")


async def list_drafts(call: Call) -> Answer:
    """A page of drafts."""
    query: DraftsQuery = call.query
    hosts = call.hosts_for(query.host)
    of = paging.fingerprint("abuse", hosts, query.state)
    index = keys.abuse_drafts_open if query.state is DraftState.OPEN else keys.abuse_drafts

    def is_wanted(one: Record) -> bool:
        return isinstance(one, AbuseDraft) and query.state in {None, one.state}

    found, last = await paging.records(
        call.store,
        [index(host) for host in hosts],
        keys.abuse_draft,
        is_wanted,
        limit=query.limit,
        before=paging.position(query.cursor, of=of),
    )
    items = tuple(DraftView.of(one) for one in found if isinstance(one, AbuseDraft))
    return Answer(body=DraftPage(items=items, next=last and paging.following(last, of=of)))


async def known_draft(call: Call) -> AbuseDraft:
    """Load the draft that the path names; 404 where the caller may not see it."""
    try:
        draft = await stories.find(call.store, call.path["id"])
    except ConfigError:
        raise not_found("draft") from None
    if not call.sees(draft.host):
        raise not_found("draft")
    return draft


async def show_draft(call: Call) -> Answer:
    """One draft."""
    return Answer(body=DraftView.of(await known_draft(call)))


async def send_draft(call: Call) -> Answer:
    """Say yes."""
    draft, body = await known_draft(call), call.body
    check_end(call, "listed_until", body.listed_until)
    origin = Origin(host=draft.host, to=(), now=call.now, new_id=call.new_id, actor=call.actor)
    wish = abuse_lists.Wish(
        rules=call.service.settings.policy,
        expires_at=body.listed_until,
        second_yes=body.second_yes,
        only=frozenset(body.list_accounts),
    )
    try:
        await stories.send(
            call.store,
            origin,
            draft.id,
            with_words=body.with_words,
            wish=wish if body.list_accounts else None,
        )
    except ProtectedError as error:
        raise invalid("second_yes", str(error)) from None
    except ConfigError as error:
        raise ConflictError(str(error)) from None
    after = await stories.find(call.store, draft.id)
    return Answer(body=SentDraftView.with_listed(after, await abuse_lists.listed(call.store, after)))


async def act_on_draft(call: Call) -> Answer:
    """Suspend accounts of ours."""
    draft, body = await known_draft(call), call.body
    try:
        after = await abuse_act.suspend(
            call.store,
            draft.id,
            body.accounts,
            hosts=call.hosts,
            admins=abuse_act.admins_of(call.service.settings.hosts, draft),
            approval_id=call.new_id(),
            actor=call.actor,
            rules=call.service.settings.policy,
            now=call.now,
            expires_at=end_of(call, body.expires_at),
            second_yes=body.second_yes,
            reason=body.reason,
        )
    except ProtectedError as error:
        raise invalid("second_yes", str(error)) from None
    except NotMeantError as error:
        raise invalid("accounts", str(error)) from None
    except ConfigError as error:
        raise ConflictError(str(error)) from None
    return Answer(body=ApprovalView.of(after), headers={"Location": f"{PREFIX}/approvals/{after.id}"})


async def dismiss_draft(call: Call) -> Answer:
    """Say no."""
    draft = await known_draft(call)
    try:
        after = await stories.dismiss(call.store, draft.id, actor=call.actor, now=call.now)
    except ConfigError as error:
        raise ConflictError(str(error)) from None
    return Answer(body=DraftView.of(after))


ROUTES: Final = (
    Route(
        method="GET",
        path="/abuse",
        scope=Scope.READ,
        handler=list_drafts,
        summary="List what users report, that with the newest report first",
        description="`state=open`: what waits for a yes or no.",
        tag=TAG,
        query=DraftsQuery,
        answer=DraftPage,
    ),
    Route(
        method="GET",
        path="/abuse/{id}",
        scope=Scope.READ,
        handler=show_draft,
        summary="What users report about one server, of one kind of abuse",
        tag=TAG,
        answer=DraftView,
    ),
    Route(
        method="POST",
        path="/abuse/{id}/send",
        scope=Scope.APPROVE,
        handler=send_draft,
        summary="Send it to the server that it is about",
        description="What users did not agree to is left out. 409 where it cannot be sent, see `objection`, or where "
        "the list is full; then nothing is listed and nothing sent.",
        tag=TAG,
        body=SendDraftBody,
        answer=SentDraftView,
    ),
    Route(
        method="POST",
        path="/abuse/{id}/act",
        scope=Scope.APPROVE,
        handler=act_on_draft,
        summary="Suspend accounts of ours that users reported",
        description="It is carried out at once; no other server is told, and it is on no list. 409 where the draft is "
        "not about a host of yours, or was decided about before.",
        tag=TAG,
        body=ActDraftBody,
        answer=ApprovalView,
        status=201,
    ),
    Route(
        method="POST",
        path="/abuse/{id}/dismiss",
        scope=Scope.APPROVE,
        handler=dismiss_draft,
        summary="Send nothing of it",
        description="What users report from now on is counted anew. 409 where it was decided about before.",
        tag=TAG,
        answer=DraftView,
    ),
)
