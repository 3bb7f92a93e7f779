"""The bodies by which interactions are sent: one for each kind."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, Field, RootModel, field_validator, model_validator

from bridge.errors import MalformedError
from bridge.iodef.model import IncidentId, Restriction, Severity
from bridge.pipeline import compose
from bridge.pipeline.compose import IMPACTS, Details
from bridge.policy.record import Outcome
from bridge.web.api.model import Body, Domain, Line, Text
from bridge.web.api.router import invalid
from bridge.xmpp.jid import Jid

_MOST_PEERS: Final = 100
_MOST_XML: Final = 131_072

To = Annotated[tuple[Domain, ...], Field(max_length=_MOST_PEERS)]
ToSome = Annotated[tuple[Domain, ...], Field(min_length=1, max_length=_MOST_PEERS)]
Action = Annotated[Line, Field(min_length=1, max_length=100)]
Actions = Annotated[tuple[Action, ...], Field(max_length=50)]
Words = Annotated[Text, Field(max_length=4000)]
Id = Annotated[str, Field(pattern=r"^[a-z0-9]{16}$")]


class Identity(Body):
    """An IncidentID: the server that named an incident, and the name."""

    name: Annotated[Line, Field(min_length=1, max_length=1023)]
    text: Annotated[Line, Field(min_length=1, max_length=1000)]

    def value(self) -> IncidentId:
        """As the stories take it."""
        return IncidentId(name=self.name, text=self.text)


class Address(Body):
    """Who did it, or against whom."""

    address: Annotated[Line, Field(min_length=1, max_length=3100, description="A JID or an IP address.")]
    count: int | None = Field(default=None, ge=0, le=10**15, description="So many presence stanzas.")


class EvidenceBody(Body):
    """A text, such as lines of a log."""

    text: Annotated[Text, Field(min_length=1, max_length=98_304)]
    meaning: Annotated[Line, Field(max_length=200)] | None = None


def _jid(value: str) -> str:
    try:
        return str(Jid.parse(value))
    except MalformedError as error:
        raise ValueError(f"is not a JID: {error.rule}") from None


class DetailsBody(Body):
    """What happened, field by field; an incident needs at least a description or a source."""

    id: Annotated[Line, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="Its identifier on this host; default: a new UUID. The same again: its next edition.",
    )
    description: Annotated[Text, Field(max_length=20_000)] | None = None
    sources: Annotated[tuple[Address, ...], Field(max_length=500)] = ()
    targets: Annotated[tuple[Address, ...], Field(max_length=500)] = ()
    impact: Literal[tuple(IMPACTS)] | None = None  # type: ignore[valid-type] # a table's words
    severity: Severity | None = None
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    contacts: Annotated[tuple[str, ...], Field(max_length=50)] = Field(
        default=(), description="JIDs of admins."
    )
    chatrooms: Annotated[tuple[str, ...], Field(max_length=50)] = Field(
        default=(), description="JIDs of rooms."
    )
    restriction: Literal["public", "need-to-know", "private"] | None = Field(
        default=None, description="Who may learn of it; default: need-to-know."
    )
    related: Annotated[tuple[Identity, ...], Field(max_length=50)] = ()
    evidence: Annotated[tuple[EvidenceBody, ...], Field(max_length=50)] = ()

    @field_validator("contacts", "chatrooms")
    @classmethod
    def _are_jids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_jid(one) for one in value)

    def value(self) -> Details:
        """As the stories take it; blames an address that is none."""
        return Details(
            text=self.id,
            description=self.description,
            sources=tuple(_address(one, "source", n) for n, one in enumerate(self.sources)),
            targets=tuple(_address(one, "target", n) for n, one in enumerate(self.targets)),
            impact=self.impact,
            severity=self.severity,
            started_at=self.started_at,
            ended_at=self.ended_at,
            contacts=self.contacts,
            chatrooms=self.chatrooms,
            restriction=None if self.restriction is None else Restriction(self.restriction),
            related=tuple(one.value() for one in self.related),
            evidence=tuple(compose.evidence(one.text, meaning=one.meaning) for one in self.evidence),
        )


def _address(body: Address, system: str, number: int) -> Any:
    try:
        return compose.address(body.address, system=system, count=body.count)
    except MalformedError as error:
        raise invalid(
            f"details/{system}s/{number}/address", f"is not a JID or address: {error.rule}"
        ) from None


class _About(Body):
    """What both reports and requests tell of: exactly one of these."""

    host: Domain | None = Field(
        default=None, description="Which of our hosts sends; needed where there are several."
    )
    incident: Id | None = Field(default=None, description="A stored incident.")
    document: Annotated[str, Field(min_length=1, max_length=_MOST_XML)] | None = Field(
        default=None, description="XML: an IODEF-Document, an Incident, or a payload of XEP-0268."
    )
    details: DetailsBody | None = None
    even_private: bool = Field(
        default=False, description="Tell it although its reporter says that it is private."
    )

    @model_validator(mode="after")
    def _is_about_one(self) -> Self:
        given = [name for name in ("incident", "document", "details") if getattr(self, name) is not None]
        if self.incident is not None and self.document is None:
            return self  # details may change what is told of a stored incident of our own
        if len(given) != 1:
            raise ValueError("give one of incident, document and details")
        return self


class ReportBody(_About):
    """Report an incident, tell more about it, or pass on what another server reported."""

    kind: Literal["report"]
    to: To = Field(default=(), description="Default, for an incident of ours: those who have it.")
    status: Literal["resolved"] | None = Field(
        default=None, description="It is over: tells all who have it; with `incident` only, not with `to`."
    )
    text: Words = Field(default="", description="With `status`: why it is over.")


class InquiryBody(Body):
    """Ask what peers know about an incident."""

    kind: Literal["inquiry"]
    host: Domain | None = Field(
        default=None, description="Which of our hosts asks; needed where there are several."
    )
    to: ToSome
    incident: Id | None = None
    identity: Identity | None = None

    @model_validator(mode="after")
    def _is_about_one(self) -> Self:
        if (self.incident is None) is (self.identity is None):
            raise ValueError("give one of incident and identity")
        return self


class RequestBody(_About):
    """Ask peers to do something."""

    kind: Literal["request"]
    to: ToSome
    expectations: Actions = Field(default=(), description="What they are to do, such as `block-host`.")
    text: Words = Field(default="", description="More about it, for people.")


class ResponseBody(Body):
    """Answer a peer's request."""

    kind: Literal["response"]
    answers: Id = Field(description="The interaction of the request.")
    outcome: Outcome
    actions: Actions = Field(default=(), description="With `partly`: what was done, of what was asked for.")
    text: Words = Field(default="", description="More about it, for people; where declined, the reason.")
    again: bool = Field(default=False, description="Answer it although it was answered before.")


class InteractionBody(
    RootModel[Annotated[ReportBody | InquiryBody | RequestBody | ResponseBody, Field(discriminator="kind")]]
):
    """One of the four kinds."""


class OwnIncident(Body):
    """An incident of a host's own, and who is told."""

    host: Domain | None = Field(default=None, description="Whose; needed where the token sees several.")
    to: ToSome
    document: Annotated[str, Field(min_length=1, max_length=_MOST_XML)] | None = None
    details: DetailsBody | None = None

    @model_validator(mode="after")
    def _is_about_one(self) -> Self:
        if (self.document is None) is (self.details is None):
            raise ValueError("give one of document and details")
        return self
