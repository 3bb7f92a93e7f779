"""What is said of endpoints: bodies, queries, answers.

House rule: a secret is in `EndpointSecret` and nowhere else, the values of headers are in no answer; a URL's query,
which may hold a credential, is shown to whom may change it.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, model_validator

from bridge.errors import ConfigError
from bridge.iodef.model import Severity
from bridge.pipeline import redeliver
from bridge.policy.consumers import DeliveryState, Endpoint, QuarantineFilter, Scope
from bridge.web.api.deliveries import may
from bridge.web.api.model import Body, Domain, Line, Moment, Out, PageQuery
from bridge.web.api.router import Call
from bridge.web.auth import has
from bridge.webhooks.event import EventType
from bridge.webhooks.signature import decode_secret
from bridge.webhooks.subscription import MAX_HEADERS, MAX_URL_CHARACTERS

_MOST: Final = 100


def _left_out() -> Any:
    """Stand for what is not given; null is not the same and refused."""
    return None


def _secret(value: str) -> str:
    try:
        decode_secret(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return value


def _without_query(url: str) -> str:
    place, mark, _ = url.partition("?")
    return f"{place}?…" if mark else place


class EndpointView(Out):
    """An endpoint, without its secrets."""

    id: str
    url: str = Field(description="A token that may not write sees `?…` in place of its query.")
    hosts: tuple[str, ...] = Field(description="Whose events it gets, of the hosts that the token may see.")
    may_change: bool = Field(
        description="false: it gets events of a host too that the token may not see, so it is shown only."
    )
    description: str
    types: tuple[str, ...] = Field(description="Event types; empty: all. So with `peers` and `severities`.")
    peers: tuple[str, ...]
    severities: tuple[str, ...]
    quarantined: QuarantineFilter
    includes_xml: bool
    headers: tuple[str, ...] = Field(description="Names of the headers sent along; values are never shown.")
    is_enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    failing_since: datetime | None = Field(
        description="When the first of the failures that no success interrupted began."
    )
    old_secret_until: datetime | None = Field(description="Until when the secret before signs too.")
    created_at: datetime

    @classmethod
    def of(cls, endpoint: Endpoint, call: Call, **more: Any) -> Self:
        """Show it to who calls."""
        made = {"url", "hosts", "may_change", "headers", "is_enabled", "secret"}
        hosts = tuple(host for host in endpoint.hosts if may(call.token, host))
        return cls(
            **{name: getattr(endpoint, name) for name in cls.model_fields if name not in made},
            url=endpoint.url if has(call.token, Scope.WRITE) else _without_query(endpoint.url),
            hosts=hosts,
            may_change=len(hosts) == len(endpoint.hosts),
            headers=tuple(sorted(endpoint.headers)),
            is_enabled=endpoint.disabled_reason is None,
            **more,
        )


class EndpointSecret(EndpointView):
    """An endpoint with its secret, which is shown this once."""

    secret: str = Field(
        description="`whsec_…`; the consumer verifies deliveries with it (Standard Webhooks)."
    )


class EndpointPage(Out):
    """A page of endpoints, the newest first."""

    items: tuple[EndpointView, ...]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class _Fields(Body):
    hosts: Annotated[list[Domain], Field(min_length=1, max_length=_MOST)] = Field(
        default_factory=_left_out, description="Whose events it gets; left out: every host of the token."
    )
    description: Annotated[Line, Field(max_length=500)] = Field(default_factory=_left_out)
    types: Annotated[list[EventType], Field(max_length=_MOST)] = Field(
        default_factory=_left_out, description="Empty: all. So with `peers` and `severities`."
    )
    peers: Annotated[list[Domain], Field(max_length=_MOST)] = Field(default_factory=_left_out)
    severities: Annotated[list[Severity], Field(max_length=_MOST)] = Field(default_factory=_left_out)
    quarantined: QuarantineFilter = Field(
        default_factory=_left_out, description="Whether it is told of what strangers sent; usually `exclude`."
    )
    includes_xml: bool = Field(
        default_factory=_left_out, description="Whether `data.xml` has the document as it came."
    )
    headers: Annotated[dict[str, str], Field(max_length=MAX_HEADERS)] = Field(
        default_factory=_left_out, description="Sent along with every delivery; replaces those there were."
    )


_URL = Field(
    min_length=1,
    max_length=MAX_URL_CHARACTERS,
    examples=["https://consumer.example/incidents"],
    description="https, to a public address; no user name, no fragment. The operator can allow other networks.",
)


class EndpointNew(_Fields):
    """An endpoint to be added."""

    url: Annotated[str, _URL]
    secret: Annotated[str, Field(max_length=200), AfterValidator(_secret)] = Field(
        default_factory=_left_out,
        description="`whsec_…` that the consumer has already; left out: one is made.",
    )


class EndpointPatch(_Fields):
    """What is to change; what is left out stays as it is."""

    url: Annotated[str, _URL] = Field(default_factory=_left_out)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("give at least one field")
        return self


class Reason(Body):
    """Why."""

    reason: Annotated[Line, Field(max_length=200)] = Field(default="", description="For people.")


class RedeliverBody(Body):
    """What is to be delivered again."""

    since: Moment | None = Field(default=None, description="null: from the oldest that is kept.")
    until: Moment | None = Field(default=None, description="null: up to now.")
    only_failed: bool = Field(
        default=True,
        description="true: what was given up or waits for another try, by when it was first tried. false: every event "
        "that the endpoint wants, by when it happened, whether or not it ever got it.",
    )


class Redelivered(Out):
    """How much was queued."""

    queued: int = Field(description=f"If it is {redeliver.MOST_AT_ONCE}, there may be more: ask again.")


class TestSent(Out):
    """A test that was queued."""

    event_id: str = Field(description="The `webhook-id` of its delivery.")


class DeliveriesQuery(PageQuery):
    """Which deliveries."""

    state: DeliveryState | None = None
